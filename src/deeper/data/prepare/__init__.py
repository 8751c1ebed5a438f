"""Making data sets, once."""
