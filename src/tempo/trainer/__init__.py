"""The training step, and what watches it."""
