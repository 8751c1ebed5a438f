"""The mirror of run directories at Weights & Biases."""
