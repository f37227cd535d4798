"""Schedules as pure curves of the learning rate and momentum.

Only adapter.py imports torch.
"""
