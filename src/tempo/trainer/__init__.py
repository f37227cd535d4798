"""What happens around the training steps: records, checkpoints, progress, stopping, settings of the process.

Callbacks of a fit and what they write; they do not build the objects of a run.
"""
