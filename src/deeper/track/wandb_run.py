"""Starts the W&B run of a run directory: its id, its group, and where and how it was trained."""

import os
import shlex
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deeper.errors import UserError
from deeper.record.arm_names import arm_of
from deeper.record.atomic_files import read_json
from deeper.record.schema import CONFIG, ENVIRONMENT, RunRecord, nested, read_config
from deeper.record.wandb_id import run_id, write_id

INIT_SECONDS = 15.0
LONGEST_GROUP = 128  # characters that W&B takes
DIFF = "diff.patch"  # W&B's own name for it


def start_run(wandb: Any, path: Path, mode: str, trainer: int | None) -> Any:
    """Start or resume the W&B run of a run directory; may raise any error of W&B.

    Args:
        wandb: the module.
        path: the run directory.
        mode: online or offline.
        trainer: id of the process that is training, whose use of the machine is sent; None if
            training has ended.
    """
    config = read_config(path)
    if config is None:
        raise UserError(f"{path} has no {CONFIG}: it is not a run directory.")
    environment = read_json(path / ENVIRONMENT) or {}
    study = (config.get("study") or {}).get("name")
    tracker, users = config["tracker"], wandb.setup().settings  # users: WANDB_NAME and others
    arm, group = arm_and_group(path, config)
    tags = (study, config["label"], config["mode"]["name"], *(users.run_tags or ()))
    # Their own group takes the place of that of a single run, which is no part of a study.
    chosen = group if study else users.run_group or group
    run = wandb.init(
        mode=mode,
        project=tracker["project"] or None,  # empty if WANDB_PROJECT is set to nothing
        entity=tracker["entity"] or None,
        dir=str(path),
        id=run_id(path),
        name=users.run_name or f"{config['label']}-s{config['seed']}",
        group=chosen,
        job_type=users.run_job_type or "train",
        tags=list(dict.fromkeys(tag for tag in tags if tag)),
        resume="allow",
        config=dict(flat(config)) | {"arm_name": arm},
        settings=quiet_settings(wandb, **_origin(environment, users, trainer)),
    )
    if os.environ.get("WANDB_SWEEP_ID"):  # the agent of a W&B sweep has chosen the id
        write_id(path, run.id)
    run.define_metric("step", hidden=True)
    run.define_metric("*", step_metric="step")
    diff = environment.get("git_diff")
    if diff and not users.disable_code and not users.disable_git:
        (Path(run.dir) / DIFF).write_text(diff, encoding="utf-8", errors="backslashreplace")
        run.save(str(Path(run.dir) / DIFF), base_path=run.dir, policy="now")
    return run


def arm_and_group(path: Path, config: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return the name of a run's arm, and its group at W&B: the runs that differ in their seed
    alone.

    The group ends with the hash of the config without its seed, so that runs of an arm that was
    changed, or of another mode, are another group. It is None for runs of an older deeper that are
    in no study.
    """
    environment = read_json(path / ENVIRONMENT) or {}
    study = config.get("study") or {}
    run = RunRecord(path, "unfinished", config=dict(config), environment=environment)
    arm = arm_of(run, study.get("arms") or {})
    name = f"{study['name']}/{arm}" if study.get("name") else arm
    digest = nested(environment, "run.arm_hash")
    if digest is None:
        return arm, name[:LONGEST_GROUP] if study.get("name") else None
    end = f" ({digest})"
    return arm, f"{name[: LONGEST_GROUP - len(end)]}{end}"


def _origin(environment: Mapping[str, Any], users: Any, trainer: int | None) -> dict[str, Any]:
    """Return the settings for what is recorded of the machine and the code.

    Args:
        environment: content of ``environment.json``.
        users: W&B's settings of the user.
        trainer: id of the process that is training, or None.
    """
    host = environment.get("hostname")
    settings: dict[str, Any] = {
        "host": host or None,
        "program": command_of(environment)[0],
        "git_commit": None if users.disable_git else environment.get("git_commit"),
        # W&B describes the machine that it runs on, which may be another one than trained the run.
        "x_disable_machine_info": users.x_disable_machine_info or host != socket.gethostname(),
    }
    if trainer is not None:
        settings |= {"x_disable_stats": users.x_disable_stats, "x_stats_pid": trainer}
    return settings


def command_of(environment: Mapping[str, Any]) -> list[str]:
    """Return the words of the command that trained a run, the program first."""
    command = environment.get("command")
    if not command:
        return ["deeper.train"]  # called in Python
    try:
        return shlex.split(command)
    except ValueError:
        return str(command).split()


def quiet_settings(wandb: Any, **others: Any) -> Any:
    """Return settings with which W&B prints nothing, and records only what ``others`` allow."""
    return wandb.Settings(
        **{
            "silent": True,
            "quiet": True,
            "console": "off",
            "init_timeout": INIT_SECONDS,
            # Of the present process and directory, which are not the run's.
            "disable_git": True,
            "disable_code": True,
            "x_disable_stats": True,
            "x_disable_machine_info": True,
            "x_save_requirements": False,
            **others,
        }
    )


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of a nested mapping."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
