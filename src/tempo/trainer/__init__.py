"""Callbacks around the training steps: records, checkpoints, progress, stopping, process settings.

This package has the callbacks of a fit and the files they write; it does not build the objects of a run.
"""
