"""Shell commands for messages."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

# Values that Hydra's grammar accepts without quotes.
_PLAIN = re.compile(r"[\w./:*+%@?|-]+( [\w./:*+%@?|-]+)*")


def override(key: str, value: object) -> str:
    """Return ``KEY=VALUE`` with the quotes that Hydra needs to read the value."""
    text = str(value)
    return f"{key}={text if _PLAIN.fullmatch(text) else quoted(text)}"


def quoted(text: str) -> str:
    """Return a text quoted for Hydra's grammar."""
    # In Hydra a backslash escapes only before a quote or at the end.
    inside = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text)
    return f"'{inside}'"


def command(*words: str, directories: Sequence[Path | str] = ()) -> str:
    """Return a deeper command as a line for a shell.

    Args:
        *words: verb and overrides.
        directories: directories of the user's YAML files, for ``--config-dir``.
    """
    options = [part for each in directories for part in ("--config-dir", str(each))]
    return shlex.join(["deeper", *words, *options])
