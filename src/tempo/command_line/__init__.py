"""The way from the command line to a checked configuration, and errors in one line.

It does not import torch or train.
"""
