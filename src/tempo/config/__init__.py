"""Configuration: keys, types, ranges, rules between keys, and configurations read from records.

It does not import torch or build objects that train.
"""
