"""The record and the folder of a run: files, locks, environment, comparison.

It does not import torch; it does not draw or summarise.
"""
