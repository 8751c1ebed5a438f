"""A net in numbers: operations, layers, receptive fields."""
