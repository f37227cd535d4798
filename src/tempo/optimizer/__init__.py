"""Optimizers: their settings, what a class can do, how one is built, and those that torch lacks.

Nothing here knows schedules, networks or the trainer.
"""
