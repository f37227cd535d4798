"""Sources of images, a user's datasets and loaders, their split, batches and augmentation.

Nothing here knows networks or optimizers. Of Lightning, it knows the data module.
"""
