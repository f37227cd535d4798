"""One run, from a checked configuration to its record: train, evaluate, reproduce, and the processes for it.

It does not know sweeps.
"""
