"""What a run runs on: versions, machine, code."""

import datetime
import functools
import importlib.metadata
import os
import platform
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from deeper.track.files import read_json

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow-datasets")
LONGEST_DIFF = 1_000_000
BUILT = Path(__file__).parents[1] / "_commit.txt"  # in an installed wheel: what it was built of
FROZEN, FROZEN_DIFF = "code.json", "diff.patch"  # of a copy of the code, what it is a copy of


def environment() -> dict[str, Any]:
    """Return what `environment.json` holds, but for the devices."""
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in (*PACKAGES, "deeper")},
        "system": platform.platform(),
        "hostname": socket.gethostname(),
        "cpu": _cpu(),
        "cpu_count": len(os.sched_getaffinity(0)),
        **code_version(root()),
        "command": f"{sys.argv[0]} {shlex.join(sys.argv[1:])}",
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def root() -> Path:
    """Return the checkout, or the copy of one, that this code is in."""
    return Path(__file__).resolve().parents[3]


@functools.cache  # as it was at the first call: what is edited while a run goes on is not in it
def code_version(root: Path) -> dict[str, Any]:
    """Return the commit of a checkout and what differs from it; None for each where it is unknown.

    Where the commit is not known ``git_unknown`` says why. Git looks at this checkout alone,
    whatever ``GIT_DIR`` and the like say, and whoever owns it.

    Args:
        root: of the checkout, or of a copy of one that says what it was taken from.
    """
    frozen = read_json(root / FROZEN)
    if frozen is not None:
        diff_file = root / FROZEN_DIFF
        diff = diff_file.read_text(encoding="utf-8") if diff_file.is_file() else None
        return frozen | {"git_diff": diff}
    if not (root / ".git").exists():
        if BUILT.is_file():
            built = BUILT.read_text(encoding="utf-8").strip()
            return {"git_commit": built, "git_dirty": False, "git_diff": None}
        return _unknown(f"{root} is no checkout")
    commit: str | None = None
    try:
        commit = _git(root, "rev-parse", "HEAD").strip()
        diff = _git(root, "diff", "--no-ext-diff", "HEAD")
        # New files are in no diff, but they make the tree another one all the same.
        dirty = bool(_git(root, "status", "--porcelain"))
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error).encode()
        return _unknown(f"git: {said.decode(errors='replace').strip()[:300]}", commit)
    if len(diff) > LONGEST_DIFF:
        diff = diff[:LONGEST_DIFF] + f"\n... {len(diff) - LONGEST_DIFF} characters more\n"
    return {"git_commit": commit, "git_dirty": dirty, "git_diff": diff or None}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _unknown(why: str, commit: str | None = None) -> dict[str, Any]:
    return {"git_commit": commit, "git_dirty": None, "git_diff": None, "git_unknown": why}


def _git(root: Path, *arguments: str) -> str:
    """Return what git says of a checkout, which may be another user's.

    Raises:
        OSError, subprocess.SubprocessError: there is no git, or it fails.
    """
    # Variables such as GIT_DIR and GIT_WORK_TREE would lead to another repository.
    environ = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    # Git believes safe.directory from the environment, and this code runs from there anyway; no
    # program that the checkout's own settings name is started.
    given = {"safe.directory": str(root), "core.fsmonitor": "false"}
    environ["GIT_CONFIG_COUNT"] = str(len(given))
    for number, (key, value) in enumerate(given.items()):
        environ |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    done = subprocess.run(
        ["git", "--no-optional-locks", "-C", str(root), *arguments],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        env=environ,
        timeout=20,
        check=True,
    )
    return done.stdout.decode(errors="replace")


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "")
