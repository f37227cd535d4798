"""The optimizers' names and ranges, how one is built, and the optimizers that torch lacks.

It does not know schedules or networks.
"""
