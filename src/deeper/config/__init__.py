"""Configs: their schema, their names, how they are composed, and what they construct."""
