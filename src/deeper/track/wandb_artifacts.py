"""Checkpoints as artifacts of W&B: sent at the end of a run, and fetched by ``init_from``.

An artifact holds a run directory with one checkpoint: ``config.yaml``, ``data.json``, ``net.json``
and ``checkpoints/STEP``. What fetches it can therefore be used like a run directory.

``python -m deeper.track.wandb_artifacts ENTITY/PROJECT/NAME:ALIAS`` fetches one, in a process of
its own, and prints its directory.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from deeper.errors import UserError
from deeper.record.atomic_files import disk_errors, read_json, to_json, write_whole
from deeper.record.checkpoint_files import best_step_in, steps_in
from deeper.record.schema import CHECKPOINTS, CONFIG, DATA, ENVIRONMENT, NET, RESULT
from deeper.track.wandb_process import base_url, has_api_key

PREFIX = "wandb:"
KIND = "model"  # W&B's type of an artifact that its model registry takes
MARK = "wandb-artifact.json"  # in a fetched directory, written last: what it is
FETCH_SECONDS = 3600.0
_SAID = "deeper: "  # prefix of the line with the reason why nothing was fetched


def artifact_name(config: Mapping[str, Any]) -> str:
    """Return the name of a run's artifact: the same for all runs of a config."""
    name = f"{config['label']}-s{config['seed']}-{config.get('config_hash')}"
    return re.sub(r"[^\w.-]", "-", name)[-128:]


def log_checkpoints(wandb: Any, run: Any, path: Path, config: Mapping[str, Any]) -> None:
    """Send the best and the last checkpoint of a run; W&B stores equal ones once.

    Without an evaluation on the validation split, the last one is the best.

    Args:
        wandb: the module.
        run: the W&B run.
        path: the run directory, which nobody writes to.
        config: content of its ``config.yaml``.
    """
    folder = path / CHECKPOINTS
    steps = steps_in(folder)
    if not steps:
        return
    last = steps[-1]
    best = best_step_in(folder)
    aliases = {last: ["last"]}
    aliases.setdefault(last if best is None else best, []).append("best")
    metrics = (read_json(path / RESULT) or {}).get("metrics") if best in (None, last) else None
    for step in sorted(aliases):
        artifact = wandb.Artifact(
            artifact_name(config), KIND, metadata={"step": step, "metrics": metrics or {}}
        )
        for name in (CONFIG, DATA, NET):
            if (path / name).is_file():
                artifact.add_file(str(path / name), name)
        place = f"{CHECKPOINTS}/{step}"
        artifact.add_dir(str(path / place), place)
        run.log_artifact(artifact, aliases=aliases[step])


def note_source(run: Any, path: Path, mode: str) -> None:
    """Record at W&B which artifact a run begins with, if any; W&B needs to be online for that.

    Args:
        run: the W&B run.
        path: the run directory, whose ``environment.json`` has the version.
        mode: online or offline.
    """
    source = (read_json(path / ENVIRONMENT) or {}).get("init_from") or ""
    if is_artifact(source) and mode == "online":
        try:
            run.use_artifact(source.removeprefix(PREFIX))
        except Exception as error:  # it may have been removed; the rows are more important
            print(f"no lineage to {source}: {error}")


def is_artifact(source: str) -> bool:
    """Return whether ``init_from`` names an artifact of W&B."""
    return source.startswith(PREFIX)


def fetched(source: str, key: str) -> Path:
    """Return the directory of an artifact, which is fetched if it is not there.

    Args:
        source: ``wandb:ENTITY/PROJECT/NAME:ALIAS``; a version (``v3``) may take the place of the
            alias, and is not asked for again.
        key: key of the config that names it, for messages.

    Raises:
        UserError: the name is none, W&B refuses or cannot be reached, or the disk refuses.
    """
    name = source.removeprefix(PREFIX)
    if not re.fullmatch(r"[^/:\s]+/[^/:\s]+/[\w.-]+:[^/:\s]+", name) or ".." in name:
        raise UserError(f"{key}={source}: give wandb:ENTITY/PROJECT/NAME:ALIAS, as in W&B's page.")
    place = _place(name)
    if re.fullmatch(r"v\d+", name.rpartition(":")[2]) and (place / MARK).is_file():
        return place
    if not has_api_key():
        raise UserError(
            f"{key}={source}: there is no W&B API key. Run `wandb login`, or set WANDB_API_KEY."
        )
    command = [sys.executable, "-P", "-m", "deeper.track.wandb_artifacts", name]
    environment = {k: v for k, v in os.environ.items() if k not in ("WANDB_SERVICE", "WANDB_MODE")}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=FETCH_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{key}={source}: W&B did not send it in {FETCH_SECONDS:.0f} s.") from error
    lines = [line for line in done.stdout.splitlines() if line]
    if done.returncode == 0 and lines:
        return Path(lines[-1])
    said = [line for line in lines if line.startswith(_SAID)]
    errors = [line for line in done.stderr.splitlines() if line.strip()] or ["no reason was given"]
    reason = said[-1].removeprefix(_SAID) if said else re.sub(r"^[\w.]+: ", "", errors[-1])
    raise UserError(f"{key}={source} cannot be had: {reason[:300]}")


def version_of(directory: Path) -> str | None:
    """Return the version that a fetched directory holds, ``wandb:ENTITY/PROJECT/NAME:v3``; None
    of another directory.
    """
    name = (read_json(directory / MARK) or {}).get("name")
    return None if name is None else f"{PREFIX}{name}"


def _place(name: str) -> Path:
    """Return the directory of a version of an artifact, in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    host = re.sub(r"[^\w.-]", "-", base_url().split("//")[-1])
    entity, project, last = name.split("/")
    artifact, _, version = last.rpartition(":")
    return Path(base) / "deeper" / "wandb" / host / entity / project / artifact / version


def _fetch(name: str) -> Path:
    """Fetch an artifact; may raise any error of W&B."""
    import wandb

    artifact = wandb.Api().artifact(name)
    full = f"{artifact.entity}/{artifact.project}/{artifact.name.rpartition(':')[0]}"
    full = f"{full}:{artifact.version}"
    place = _place(full)
    if (place / MARK).is_file():
        return place
    for entry in artifact.manifest.entries:
        parts = PurePosixPath(entry).parts
        if ".." in parts or entry.startswith("/"):
            raise UserError(f"its file {entry} would be outside of its directory")
    with disk_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    try:
        artifact.download(root=str(aside), skip_cache=True)
        artifact.verify(root=str(aside))
        if not (aside / CONFIG).is_file() or not steps_in(aside / CHECKPOINTS):
            raise UserError("it is no checkpoint of deeper: tracker.checkpoints=true makes those")
        write_whole(aside / MARK, to_json({"name": full, "digest": artifact.digest}))
        if not (place / MARK).is_file():  # or another process was faster
            shutil.rmtree(place, ignore_errors=True)
            aside.rename(place)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return place


if __name__ == "__main__":
    try:
        found = _fetch(sys.argv[1])
    except UserError as notice:
        print(f"{_SAID}{notice}")
        sys.exit(2)
    print(f"\n{found.absolute()}")
