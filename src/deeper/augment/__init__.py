"""Augmentation: random operations on batches of images, compiled into the training step."""
