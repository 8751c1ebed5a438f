"""A sweep's arms: claimed and frozen, given to a launcher, run, and looked at from anywhere."""
