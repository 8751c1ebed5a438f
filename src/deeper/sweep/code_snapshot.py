"""The code of a sweep as it was when the sweep was submitted.

A snapshot is a copy of the package, its Hydra plugins and ``conf/``, about 2 MB, in
``RUNS/.code/DIGEST/``, with the commit and the diff of the tree that it was taken from.
"""

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeper.config.yaml_files import conf_directory
from deeper.errors import UserError
from deeper.record.atomic_files import disk_errors, to_json
from deeper.record.environment import FROZEN, FROZEN_DIFF, code_version, root

KINDS = ("snapshot", "tree")


@dataclass(frozen=True)
class Code:
    """Which code runs.

    Attributes:
        root: of the snapshot; None where the installed code runs as it is.
        digest: of its files.
        git_commit: of the tree; None outside a checkout.
        git_dirty: whether the tree was another than the commit.
        diff: file with what differs; None where nothing does that is in a commit.
    """

    root: str | None
    digest: str
    git_commit: str | None
    git_dirty: bool | None
    diff: str | None

    def plain(self) -> dict[str, Any]:
        """Return plain values."""
        return dataclasses.asdict(self)

    def notice(self) -> str | None:
        """Say that the code is in no commit, if so."""
        if not self.git_dirty:
            return None
        where = f"the difference is kept in {self.diff}" if self.diff else "it has files of its own"
        return f"The tree is not commit {str(self.git_commit)[:10]}: {where}."


def freeze(kind: str, runs: Path) -> Code:
    """Take the code as it is now.

    Args:
        kind: snapshot, or tree: the arms run what is installed when they start.
        runs: where run directories go.

    Raises:
        UserError: the kind is unknown, the place cannot be told to Python, or the disk refuses.
    """
    if kind not in KINDS:
        raise UserError(f"code={kind} is unknown; choose {' or '.join(KINDS)}.")
    version = code_version(root())
    diff, own = version["git_diff"], digest()
    parts = "\0".join([own, str(version["git_commit"]), diff or ""])
    name = hashlib.sha256(parts.encode()).hexdigest()[:12]
    place = runs.absolute() / ".code" / (name if kind == "snapshot" else f"{name}-diff")
    if kind == "snapshot" and os.pathsep in str(place):
        raise UserError(
            f"The code cannot be kept in {place}: a path with {os.pathsep!r} in it is two to "
            "Python. Choose another place with runs=DIRECTORY, or code=tree."
        )
    if not place.is_dir() and (diff or kind == "snapshot"):
        _write(place, version, copy=kind == "snapshot")
    return Code(
        root=str(place) if kind == "snapshot" else None,
        digest=own,
        git_commit=version["git_commit"],
        git_dirty=version["git_dirty"],
        diff=str(place / FROZEN_DIFF) if diff else None,
    )


def digest() -> str:
    """Return a digest of the code that runs in this process."""
    total = hashlib.sha256()
    for name, file in _files():
        total.update(f"{name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()[:16]


def _package() -> Path:
    return Path(__file__).resolve().parents[1]


def _files() -> Iterator[tuple[str, Path]]:
    """Yield the files of the code with their places in a snapshot."""
    package = _package()
    folders = [("src/deeper", package, "*")]
    folders.append(("src/hydra_plugins", package.parent / "hydra_plugins", "deeper_*.py"))
    if not conf_directory().is_relative_to(package):
        folders.append(("conf", conf_directory(), "*"))
    for name, folder, pattern in folders:
        for file in sorted(folder.rglob(pattern)):
            if file.is_file() and "__pycache__" not in file.parts:
                yield f"{name}/{file.relative_to(folder)}", file


def _write(place: Path, version: dict[str, Any], copy: bool) -> None:
    """Write a snapshot aside and rename it: another launcher may be writing the same."""
    aside = place.with_name(f".{place.name}.{os.getpid()}")
    with disk_errors(place.parent):
        try:
            aside.mkdir(parents=True, exist_ok=True)
            for name, file in _files() if copy else ():
                (aside / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, aside / name)
            (aside / FROZEN).write_bytes(to_json({**version, "git_diff": None}, indent=1))
            if version["git_diff"]:
                (aside / FROZEN_DIFF).write_text(version["git_diff"], encoding="utf-8")
            try:
                aside.rename(place)
            except OSError:
                if not place.is_dir():
                    raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
