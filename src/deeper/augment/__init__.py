"""Image operations on batches, on the device, as a visible list of op objects."""
