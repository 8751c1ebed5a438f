"""What a net sees: attribution, features and their figures."""
