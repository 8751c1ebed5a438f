"""The label, hash and directory of a run: functions of its resolved config, not of the time."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deeper.config.moved_targets import as_hashed
from deeper.config.yaml_files import conf_directory
from deeper.errors import UserError

# Dotted keys of values and sections that change no number of a run; the single list, used for its
# name and in reports. The ``recipe`` section holds only its name and source; the values that a
# recipe sets are in other sections.
CHANGES_NO_NUMBER = (
    "label", "choices", "runs", "tracker", "study", "mode", "recipe",
    "data.kind", "data.dir", "data.original_dir", "data.prepare",
    "data.on_device", "data.workers", "data.processes", "train.profile",
)  # fmt: skip
# Keys that older configs lack, with the value that has the same meaning: it is left out of the
# hash, so that those configs keep theirs.
ADDED: dict[str, dict[str, Any]] = {
    "data": {"exif": "ignore", "interpolation": "bilinear"},
    "train": {"repeats": 1},
    "model": {"pool_size": None, "squeeze": None, "stochastic_depth": 0.0, "init": "he"},
}
BACKBONE = "model@model.backbone"  # the config group of a net that another is built on
SINGLE = "single"  # directory of runs without a study
LAUNCHING = ("launch", "code", "jobs")  # keys of a sweep, not of a run
SEARCH = "search"  # section of `deeper search`, which a study may state; not of a run


def label_of(config: Mapping[str, Any], choices: Mapping[str, Any]) -> str:
    """Return the run's label: its model group, with the depth or variant if the net has one.

    Of a net that is built on another, that one's follows: faster_rcnn_resnet50.

    Args:
        config: the composed config.
        choices: config group -> chosen file.
    """
    model, choice = config.get("model"), choices.get("model")
    if not isinstance(model, Mapping) or not choice:
        raise UserError("model=null (the net): give model=NAME of conf/model.")
    depth, variant = model.get("depth"), model.get("variant")
    label = str(choice)
    if variant is not None:
        label = f"{choice}_{variant}"
    elif depth is not None:
        label = f"{choice}{depth}"
    backbone = model.get("backbone")
    if not isinstance(backbone, Mapping) or BACKBONE not in choices:
        return label
    return f"{label}_{choices[BACKBONE]}{backbone.get('depth') or ''}"


def frozen(
    config: Mapping[str, Any], choices: Mapping[str, Any], leave_out: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return a run's config in the form of ``config.yaml``, not yet checked.

    Args:
        config: composed and resolved, as plain values.
        choices: config group -> chosen file, including Hydra's own groups.
        leave_out: keys of the command that are not part of a run's config.
    """
    mine = {
        str(group): choice
        for group, choice in sorted(choices.items())
        if not str(group).startswith("hydra/")
    }
    own = {
        key: value
        for key, value in config.items()
        if key not in ("hydra", SEARCH, *LAUNCHING, *leave_out)
    }
    return {"label": label_of(config, choices), "choices": mine, **own}


def changes_no_number(key: str) -> bool:
    """Return whether a dotted key of a config is one of `CHANGES_NO_NUMBER`, or under one."""
    return any(f"{key}.".startswith(f"{name}.") for name in CHANGES_NO_NUMBER)


def config_hash(config: Mapping[str, Any]) -> str:
    """Return a hash of 8 hex digits over all values that may change a run's numbers."""
    relevant = {key: value for key, value in config.items() if not changes_no_number(key)}
    for section, absent in ADDED.items():
        relevant[section] = {
            key: value
            for key, value in config[section].items()
            if not changes_no_number(f"{section}.{key}")
            and not (key in absent and value == absent[key])
        }
    text = json.dumps(as_hashed(relevant), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def study_directory(runs: str, study: Mapping[str, Any] | None, mode: str) -> Path:
    """Return a study's directory; modes other than quick have their own.

    Raises:
        UserError: the name is not valid for a directory, or the directory is that of other runs.
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


def run_directory(config: Mapping[str, Any]) -> Path:
    """Return the run's directory."""
    label = config["label"].replace("/", "-")  # for a model in a subfolder of the group
    name = f"{label}-s{config['seed']}-{config_hash(config)}"
    return study_directory(config["runs"], config["study"], config["mode"]["name"]) / name
