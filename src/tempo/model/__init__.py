"""Networks: one architecture per file, built from torch only.

Nothing here knows data, optimizers or the trainer.
"""
