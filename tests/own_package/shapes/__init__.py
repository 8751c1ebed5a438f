"""A user's package with a net, a data set and a task that are not part of deeper."""
