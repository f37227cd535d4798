"""Sources of images, their split, and the batches made of them."""
