"""Sources of images, their split, their batches and their augmentation.

It knows neither networks nor Lightning.
"""
