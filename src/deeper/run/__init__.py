"""The application layer: from a config to a run, and from a run directory back to its net."""
