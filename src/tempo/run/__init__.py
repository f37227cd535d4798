"""One run, from a checked configuration to its record: train, evaluate, reproduce, predict, export.

This package knows nothing of sweeps.
"""
