"""The processes of a run and what they send each other, one file per way of exchanging gradients.

Nothing here knows a model, data or the configuration.
"""
