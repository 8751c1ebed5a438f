"""Sweeps: claiming and freezing the arms, launching and running them, and their status."""
