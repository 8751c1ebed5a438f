"""What is written to disk of a run: the run directory, its files and its lock."""
