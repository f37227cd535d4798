"""The record and the folder of a run: run.json, files and lock, environment, comparison of two records.

It only stores what trainer/ and run/ measure; it does not import torch and does not summarise.
"""
