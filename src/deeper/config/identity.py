"""What a run is called and where it lies: functions of its resolved config, never of the clock."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deeper.config.moved_targets import as_hashed
from deeper.config.yaml_files import conf_directory
from deeper.errors import UserError

# The one list of what changes no number of a run, for its name and for reports: dotted keys, each
# with all that stands under it. A recipe's section is its name and its source: what it sets stands
# in other sections.
CHANGES_NO_NUMBER = (
    "label", "choices", "runs", "tracker", "study", "mode", "recipe",
    "data.kind", "data.dir", "data.original_dir",
    "data.on_device", "data.workers", "data.processes",
)  # fmt: skip
# Keys that older configs lack, with the value that stands for that: it is left out of the hash, so
# that such a config keeps its own.
ADDED: dict[str, dict[str, Any]] = {
    "data": {"exif": "ignore", "interpolation": "bilinear"},
    "model": {"pool_size": None},
}
SINGLE = "single"  # the directory of runs without a study
LAUNCHING = ("launch", "code", "jobs")  # of a sweep, not of a run


def label_of(config: Mapping[str, Any], choices: Mapping[str, Any]) -> str:
    """Return the run's label: its model group, with its depth where the net has one.

    Args:
        config: the composed config.
        choices: group -> the file that was chosen.
    """
    model, choice = config.get("model"), choices.get("model")
    if not isinstance(model, Mapping) or not choice:
        raise UserError("model=null (the net): give model=NAME of conf/model.")
    depth = model.get("depth")
    return str(choice) if depth is None else f"{choice}{depth}"


def frozen(
    config: Mapping[str, Any], choices: Mapping[str, Any], leave_out: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return a run's config as ``config.yaml`` holds it, not checked yet.

    Args:
        config: composed and resolved, as plain values.
        choices: group -> the file that was chosen, Hydra's own groups among them.
        leave_out: keys of the command alone.
    """
    mine = {
        str(group): choice
        for group, choice in sorted(choices.items())
        if not str(group).startswith("hydra/")
    }
    own = {
        key: value for key, value in config.items() if key not in ("hydra", *LAUNCHING, *leave_out)
    }
    return {"label": label_of(config, choices), "choices": mine, **own}


def changes_no_number(key: str) -> bool:
    """Return whether a dotted key of a config is one of `CHANGES_NO_NUMBER`, or under one."""
    return any(f"{key}.".startswith(f"{name}.") for name in CHANGES_NO_NUMBER)


def config_hash(config: Mapping[str, Any]) -> str:
    """Return 8 hex digits that differ where the numbers of two runs may differ."""
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


def run_directory(config: Mapping[str, Any]) -> Path:
    """Return the run's directory."""
    label = config["label"].replace("/", "-")  # of a model in a folder of the group
    name = f"{label}-s{config['seed']}-{config_hash(config)}"
    return study_directory(config["runs"], config["study"], config["mode"]["name"]) / name
