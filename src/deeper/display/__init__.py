"""Displays for terminals and notebooks: tables, progress bars and their widths."""
