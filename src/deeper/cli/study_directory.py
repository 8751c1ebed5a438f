"""Where a study's runs are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def study_directory(runs: str, study: Mapping[str, Any] | None, mode: str) -> Path:
    """Return a study's directory; another mode than quick has one of its own."""
    if not study:
        return Path(runs) / "single"
    return Path(runs) / (study["name"] if mode == "quick" else f"{study['name']}-{mode}")
