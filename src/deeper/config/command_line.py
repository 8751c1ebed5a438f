"""Commands that a message suggests, as they are typed in a shell."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

# What Hydra's grammar takes as it stands for a value; all else is quoted.
_PLAIN = re.compile(r"[\w./:*+%@?|-]+( [\w./:*+%@?|-]+)*")


def override(key: str, value: object) -> str:
    """Return ``KEY=VALUE`` so that Hydra reads the value back, whatever is in it."""
    text = str(value)
    return f"{key}={text if _PLAIN.fullmatch(text) else quoted(text)}"


def quoted(text: str) -> str:
    """Return a text in the quotes of Hydra's grammar."""
    # Hydra takes a backslash only before a quote, or at the end, for an escape.
    inside = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text)
    return f"'{inside}'"


def command(*words: str, directories: Sequence[Path | str] = ()) -> str:
    """Return a command of ours as a line for a shell.

    Args:
        *words: verb and overrides.
        directories: of YAML files of the user's own, which its ``--config-dir`` names.
    """
    options = [part for each in directories for part in ("--config-dir", str(each))]
    return shlex.join(["deeper", *words, *options])
