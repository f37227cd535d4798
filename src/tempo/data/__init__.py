"""Sources of images, their split into training and validation, batches and augmentation.

Nothing here knows networks, optimizers or Lightning.
"""
