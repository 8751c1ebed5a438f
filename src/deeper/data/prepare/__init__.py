"""Preparation of data sets: from original files to TFDS directories of array_record files."""
