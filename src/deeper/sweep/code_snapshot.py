"""A snapshot of the code at the time a sweep is submitted.

A snapshot is a copy of the package, its Hydra plugins and ``conf/``, about 2 MB, in
``RUNS/.code/DIGEST/``, with the commit and the diff of its tree. It also contains packages that the
configs name, unless they were installed by a package manager.
"""

import dataclasses
import hashlib
import importlib.util
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeper.config.calls import DEEPER, package_of
from deeper.config.instantiate import targets_in
from deeper.config.yaml_files import conf_directory
from deeper.errors import UserError
from deeper.record.atomic_files import disk_errors, to_json
from deeper.record.environment import FROZEN, FROZEN_DIFF, code_version, root

KINDS = ("snapshot", "tree")
INSTALLED = ("site-packages", "dist-packages")
MOST = 64 << 20  # bytes; a larger package must contain data
LOOKS = 5  # at the code, until two in a row see the same


@dataclass(frozen=True)
class Code:
    """The code of a sweep.

    Attributes:
        root: root of the snapshot; None if the installed code is run.
        digest: digest of its files.
        git_commit: git commit of the tree; None outside a checkout.
        git_dirty: whether the tree differed from the commit.
        diff: file with the diff; None if there is no difference or no commit.
        packages: other packages whose files are included.
    """

    root: str | None
    digest: str
    git_commit: str | None
    git_dirty: bool | None
    diff: str | None
    packages: Sequence[str] = ()

    def plain(self) -> dict[str, Any]:
        """Return plain values."""
        return dataclasses.asdict(self)

    def notice(self) -> str | None:
        """Return a notice if the code is not committed."""
        if not self.git_dirty:
            return None
        where = f"the difference is kept in {self.diff}" if self.diff else "it has files of its own"
        return f"The tree is not commit {str(self.git_commit)[:10]}: {where}."


def freeze(kind: str, runs: Path, configs: Iterable[Mapping[str, Any]]) -> Code:
    """Take a snapshot of the present code.

    Args:
        kind: snapshot, or tree: the arms run the code that is installed when they start.
        runs: where run directories go.
        configs: configs of the arms; packages that they name are included.

    Raises:
        UserError: the kind is unknown, the path cannot be in PYTHONPATH, the disk refuses, a
            target cannot be imported by other processes, the code is being edited, or an earlier
            snapshot of it was.
    """
    if kind not in KINDS:
        raise UserError(f"code={kind} is unknown; choose {' or '.join(KINDS)}.")
    packages = _packages_of(configs)
    version, files = _present(packages)
    diff, of_files = version["git_diff"], _digest_of(files)
    parts = "\0".join([of_files, str(version["git_commit"]), diff or ""])
    name = hashlib.sha256(parts.encode()).hexdigest()[:12]
    place = runs.absolute() / ".code" / (name if kind == "snapshot" else f"{name}-diff")
    if kind == "snapshot" and os.pathsep in str(place):
        raise UserError(
            f"The code cannot be kept in {place}: a path with {os.pathsep!r} in it is two to "
            "Python. Choose another place with runs=DIRECTORY, or code=tree."
        )
    if not place.is_dir() and (diff or kind == "snapshot"):
        _write(place, version, files if kind == "snapshot" else {})
    elif kind == "snapshot" and _digest_of(_contents((n, place / n) for n in files)) != of_files:
        raise UserError(
            f"{place} has the code of an earlier sweep, and was edited since: move it away. Runs "
            "that were submitted with it can be continued by `deeper sweep resume code=snapshot`."
        )
    return Code(
        root=str(place) if kind == "snapshot" else None,
        digest=of_files,
        git_commit=version["git_commit"],
        git_dirty=version["git_dirty"],
        diff=str(place / FROZEN_DIFF) if diff else None,
        packages=packages,
    )


def digest(packages: Sequence[str] = ()) -> str:
    """Return a digest of the code of this process.

    Args:
        packages: other packages whose files are included.
    """
    return _digest_of(_contents(_files(packages)))


def _digest_of(files: Mapping[str, bytes]) -> str:
    total = hashlib.sha256()
    for name, content in files.items():
        total.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return total.hexdigest()[:16]


def _contents(files: Iterable[tuple[str, Path]]) -> dict[str, bytes]:
    """Return what is in files, by their paths in a snapshot; those that are gone are left out."""
    contents = {}
    for name, file in files:
        with suppress(FileNotFoundError):
            contents[name] = file.read_bytes()
    return contents


def _present(packages: Sequence[str]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return git's words on the code of this process, and its files, as two looks saw them alike.

    Raises:
        UserError: it is being edited.
    """
    before = None
    for _ in range(LOOKS):
        seen = code_version(root()), _contents(_files(packages))
        if seen == before:
            return seen
        before = seen
    raise UserError(
        f"The code in {root()} is being edited: repeat the command when it is at rest, so that "
        "the sweep has a version of it that you know."
    )


def changed_since(code: Code) -> dict[str, Any] | None:
    """Return digest and commit of the running code if it differs from the submitted code; else
    None.

    Args:
        code: the submitted code.

    Raises:
        UserError: the code was frozen, and other code is running.
    """
    current = digest(code.packages)
    if current == code.digest:
        return None
    if code.root is not None:
        raise UserError(
            f"The code of this run was frozen in {code.root}, but other code is running, in "
            f"{root()}: has the snapshot been edited, or does something set Python's path? "
            "`deeper sweep resume code=snapshot` continues with the present code."
        )
    return {"digest": current, "git_commit": code_version(root())["git_commit"]}


def _package() -> Path:
    return Path(__file__).resolve().parents[1]


def _packages_of(configs: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the packages that configs name and that no package manager installed."""
    targets = {package_of(target): target for config in configs for target in targets_in(config)}
    if "__main__" in targets:
        raise UserError(
            f"{targets['__main__']} is defined in this notebook or script, where the processes of "
            "a sweep do not find it: put it into a module and import it from there."
        )
    return sorted(name for name in targets if name != DEEPER and _place_of(name) is not None)


def _place_of(package: str) -> Path | None:
    """Return a package's directory or a module's file; None if a package manager installed it."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise UserError(
            f"There is no package {package} here. Install it, or put its directory into PYTHONPATH."
        )
    if spec.submodule_search_locations:
        place = Path(next(iter(spec.submodule_search_locations)))
    elif spec.has_location and spec.origin is not None:
        place = Path(spec.origin)
    else:  # standard library
        return None
    standard = Path(os.__file__).parent
    if place.is_relative_to(standard) or set(INSTALLED) & set(place.parts):
        return None
    return place


def _files_of(package: str) -> Iterator[tuple[str, Path]]:
    """Yield the files of another package with their paths in a snapshot."""
    place = _place_of(package)
    if place is None:
        return
    if place.is_file():
        yield f"src/{place.name}", place
        return
    size = 0
    for file in sorted(place.rglob("*")):
        if file.is_file() and not {"__pycache__", ".git"} & set(file.parts):
            size += file.stat().st_size
            yield f"src/{package}/{file.relative_to(place)}", file
    if size > MOST:
        raise UserError(
            f"{place} is {size / 2**20:.0f} MiB, too much to keep with each sweep: move its data "
            "elsewhere, or say code=tree."
        )


def _files(packages: Sequence[str] = ()) -> Iterator[tuple[str, Path]]:
    """Yield the files of deeper with their paths in a snapshot."""
    package = _package()
    folders = [("src/deeper", package, "*")]
    folders.append(("src/hydra_plugins", package.parent / "hydra_plugins", "deeper_*.py"))
    if not conf_directory().is_relative_to(package):
        folders.append(("conf", conf_directory(), "*"))
    for name, folder, pattern in folders:
        for file in sorted(folder.rglob(pattern)):
            if file.is_file() and "__pycache__" not in file.parts:
                yield f"{name}/{file.relative_to(folder)}", file
    for other in packages:
        yield from _files_of(other)


def _write(place: Path, version: dict[str, Any], files: Mapping[str, bytes]) -> None:
    """Write a snapshot under a temporary name and rename it, since other launchers may do the
    same.
    """
    aside = place.with_name(f".{place.name}.{os.getpid()}")
    with disk_errors(place.parent):
        try:
            aside.mkdir(parents=True, exist_ok=True)
            for name, content in files.items():
                (aside / name).parent.mkdir(parents=True, exist_ok=True)
                (aside / name).write_bytes(content)
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
