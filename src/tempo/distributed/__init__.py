"""Processes that train together: their group, strategies, parameter servers, split parameters.

It does not know what they train.
"""
