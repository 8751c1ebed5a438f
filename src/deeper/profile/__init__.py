"""Numbers of nets: operations, layers, receptive fields."""
