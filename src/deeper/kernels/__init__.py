"""Formulations of operations that XLA:CPU runs well."""
