"""Schedules: learning rate and momentum as pure functions of the optimizer step.

Nothing here knows data, models or the trainer, and only apply_to_optimizer.py imports torch.
"""
