"""Checks of output paths before the work."""

import os
from pathlib import Path

from deeper.errors import UserError


def check_file(path: Path, key: str, suffixes: tuple[str, ...] = (), make: bool = False) -> None:
    """Raise a UserError if a file cannot be written.

    Args:
        path: path of the file.
        key: key of the command, for messages.
        suffixes: allowed suffixes; empty allows any.
        make: whether the command creates a missing folder.
    """
    if path.is_dir():
        raise UserError(f"{key}={path} is a directory: give a file.")
    if suffixes and path.suffix not in suffixes:
        raise UserError(f"{key}={path}: give a file named {_either(suffixes)}.")
    folder = path.parent
    if make:
        check_directory(folder, key)
    elif not folder.is_dir():
        raise UserError(f"{key}={path}: there is no directory {folder}. Make it first.")
    target = path if path.exists() else folder
    if target.exists() and not os.access(target, os.W_OK):
        raise UserError(f"{key}={path}: {target} cannot be written to.")


def check_directory(path: Path, key: str) -> None:
    """Raise a UserError if a directory cannot be created and written to."""
    there = path.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        raise UserError(f"{key}={path}: {there} is a file, and a directory is needed.")
    if not os.access(there, os.W_OK):
        raise UserError(f"{key}={path}: {there} cannot be written to.")


def _either(words: tuple[str, ...]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last
