"""Record and folder of a run: run.json, files and lock, environment, comparison of two records.

This package only stores the measurements of trainer/ and run/; it does not import torch or summarise.
"""
