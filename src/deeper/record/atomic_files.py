"""Files that survive crashes and full disks."""

import errno
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from deeper.errors import UserError


def write_whole(file: Path, content: bytes) -> None:
    """Write a file atomically and durably: after a crash it has its old or its new content.

    Raises:
        UserError: the disk refuses; an existing file is unchanged.
    """
    aside = file.with_name(f".{file.name}.unfinished")
    try:
        with disk_errors(file.parent):
            with aside.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            aside.replace(file)
            _fsync_directory(file.parent)
    except UserError:
        with suppress(OSError):
            aside.unlink()
        raise


def read_json(file: Path) -> dict[str, Any] | None:
    """Return the JSON object in a file; None if the file is missing or cannot be read."""
    try:
        value = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def to_json(value: Mapping[str, Any] | Sequence[Any], indent: int | None = None) -> bytes:
    """Return strict JSON, on one line or indented."""
    return (json.dumps(finite(value), indent=indent, allow_nan=False) + "\n").encode()


def finite(value: Any) -> Any:
    """Return plain values for strict JSON: NaN and infinity become None."""
    if isinstance(value, Mapping):
        return {str(key): finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    if hasattr(value, "tolist"):  # NumPy's numbers and arrays
        return finite(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an OSError into a UserError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"The disk of {path} is full. What is there is good; make room and repeat the "
                "command to go on."
            ) from error
        raise UserError(
            f"{path} cannot be written to: {error.strerror or error}. What is there is good; "
            "mend that and repeat the command to go on."
        ) from error


def _fsync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
