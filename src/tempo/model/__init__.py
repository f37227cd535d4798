"""One architecture per file, in torch alone.

It does not know data, optimizers or the trainer.
"""
