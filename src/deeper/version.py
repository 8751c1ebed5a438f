"""The version of the package, with its commit.

Imported by the build too (pyproject.toml), before anything is installed: standard library only.

A wheel and an sdist carry ``deeper/_commit.txt``, two lines: the commit (40 hexadecimal digits) and
``clean`` or ``changed``. A checkout asks git, a snapshot of a sweep's code has its ``code.json``.
"""

import functools
import json
import os
import subprocess
from pathlib import Path

RELEASE = "0.1.0"
COMMIT_FILE = "_commit.txt"
PACKAGE = Path(__file__).resolve().parent


@functools.cache  # cached: later changes of the tree do not affect the imported code
def version() -> str:
    """Return the release and the commit (PEP 440): 0.1.0+g0123456789, with .changed where it was.

    Only the release if the commit is unknown.
    """
    known = commit()
    if known is None:
        return RELEASE
    name, changed = known
    return f"{RELEASE}+g{name[:10]}{'.changed' if changed else ''}"


def commit() -> tuple[str, bool] | None:
    """Return the commit and whether the code differed from it; None if unknown."""
    root = PACKAGE.parents[1]
    if (PACKAGE / COMMIT_FILE).is_file():
        name, state = (PACKAGE / COMMIT_FILE).read_text(encoding="utf-8").split()
        return name, state == "changed"
    if (root / "code.json").is_file():
        code = json.loads((root / "code.json").read_text(encoding="utf-8"))
        return (code["git_commit"], bool(code["git_dirty"])) if code.get("git_commit") else None
    if not (root / ".git").exists():
        return None
    try:
        return git(root, "rev-parse", "HEAD").strip(), bool(git(root, "status", "--porcelain"))
    except (OSError, subprocess.SubprocessError):
        return None


def commit_text() -> str | None:
    """Return the content of `COMMIT_FILE`; None if the commit is unknown."""
    known = commit()
    return known and f"{known[0]}\n{'changed' if known[1] else 'clean'}\n"


def git(root: Path, *arguments: str) -> str:
    """Return the output of git on a checkout, which may belong to another user.

    Raises:
        OSError, subprocess.SubprocessError: there is no git, or it fails.
    """
    # Variables such as GIT_DIR and GIT_WORK_TREE would select another repository.
    environ = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    # safe.directory allows a checkout of another user, whose code is running anyway; programs that
    # its git config names are not started.
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
