"""What is trained, how it takes an optimizer step, and how far a fit is.

This package has the classifier and its losses, chunks of steps, closures, the CUDA graph, averaged weights,
the steps of a user's LightningModule, and the progress that callbacks read. It writes no files.
"""
