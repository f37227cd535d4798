"""What is trained, and how one optimizer step of it is taken.

Here are the classifier, chunks of steps, closures, the CUDA graph and averaged weights. It writes no files.
"""
