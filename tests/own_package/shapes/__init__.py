"""A user's package: a net, a data set and a task that deeper knows nothing of."""
