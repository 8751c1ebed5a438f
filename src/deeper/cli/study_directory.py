"""Where a study's runs are."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deeper.cli.main import conf_directory
from deeper.errors import UserError

SINGLE = "single"


def study_directory(runs: str, study: Mapping[str, Any] | None, mode: str) -> Path:
    """Return a study's directory; another mode than quick has one of its own.

    Raises:
        UserError: the name is no directory's, or another study's runs would be in it.
    """
    if not study:
        return Path(runs) / SINGLE
    _require_name(study["name"])
    return Path(runs) / (study["name"] if mode == "quick" else f"{study['name']}-{mode}")


def _require_name(name: Any) -> None:
    if not isinstance(name, str) or not re.fullmatch(r"[^./\\\s][^/\\\0\n]*", name):
        raise UserError(
            f"study.name={name}: give a name for a directory, without slashes and with neither a "
            "dot nor a space at its beginning."
        )
    if name == SINGLE:
        raise UserError(f"study.name={name}: that directory is for runs without a study.")
    for mode in sorted(path.stem for path in (conf_directory() / "mode").glob("*.yaml")):
        if name.endswith(f"-{mode}"):
            other = name.removesuffix(f"-{mode}")
            raise UserError(
                f"study.name={name}: the runs of a study {other} with mode={mode} are in that "
                "directory; give another name."
            )
