"""One run, from a checked configuration to its record: train, evaluate, reproduce, and start processes.

This package knows nothing of sweeps.
"""
