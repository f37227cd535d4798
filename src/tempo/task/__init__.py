"""The classifier that is trained, and how it takes an optimizer step.

This package has the classifier, chunks of steps, closures, the CUDA graph and averaged weights. It writes no
files.
"""
