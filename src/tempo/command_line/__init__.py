"""Steps from the command line to a checked configuration, and one-line errors.

This package does not import torch or train.
"""
