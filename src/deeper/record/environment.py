"""The environment of a run: versions, machine, code."""

import datetime
import functools
import importlib.metadata
import platform
import socket
import subprocess
from pathlib import Path
from typing import Any

from deeper import version
from deeper.platform_support import core_count, cpu_name
from deeper.record.atomic_files import read_json
from deeper.version import RELEASE, commit, git

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow-datasets")
LONGEST_DIFF = 1_000_000
FROZEN, FROZEN_DIFF = "code.json", "diff.patch"  # in a copy of the code: its origin


def environment() -> dict[str, Any]:
    """Return the content of `environment.json`, without the devices."""
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "deeper": RELEASE,  # the commit is below
        "system": platform.platform(),
        "hostname": socket.gethostname(),
        "cpu": cpu_name(),
        "cpu_count": core_count(),
        **code_version(root()),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def root() -> Path:
    """Return the checkout, or the copy of a checkout, that contains this code."""
    return Path(__file__).resolve().parents[3]


@functools.cache  # cached: edits during a run are not part of its code
def code_version(root: Path) -> dict[str, Any]:
    """Return the commit of a checkout and the diff to it; None for each that is unknown.

    If the commit is unknown, ``git_unknown`` says why. Git uses this checkout regardless of
    ``GIT_DIR`` and similar variables, and of the owner of the checkout.

    Args:
        root: root of the checkout, or of a copy that records its origin.
    """
    frozen = read_json(root / FROZEN)
    if frozen is not None:
        diff_file = root / FROZEN_DIFF
        diff = diff_file.read_text(encoding="utf-8") if diff_file.is_file() else None
        return frozen | {"git_diff": diff}
    if not (root / ".git").exists():
        built = commit() if root == version.PACKAGE.parents[1] else None
        if built is not None:
            return {"git_commit": built[0], "git_dirty": built[1], "git_diff": None}
        return _unknown(f"{root} is no checkout")
    head: str | None = None
    try:
        head = git(root, "rev-parse", "HEAD").strip()
        diff = git(root, "diff", "--no-ext-diff", "HEAD")
        # Untracked files are not in the diff, but make the tree dirty.
        dirty = bool(git(root, "status", "--porcelain"))
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error).encode()
        return _unknown(f"git: {said.decode(errors='replace').strip()[:300]}", head)
    if len(diff) > LONGEST_DIFF:
        diff = diff[:LONGEST_DIFF] + f"\n... {len(diff) - LONGEST_DIFF} characters more\n"
    return {"git_commit": head, "git_dirty": dirty, "git_diff": diff or None}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _unknown(why: str, commit: str | None = None) -> dict[str, Any]:
    return {"git_commit": commit, "git_dirty": None, "git_diff": None, "git_unknown": why}
