"""The callbacks of a run: records, checkpoints, progress lines, early stopping, signals.

They watch a fit; they do not build it.
"""
