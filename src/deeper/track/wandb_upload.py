"""Sends the record of a run to Weights & Biases, during the run or afterwards.

Row n of ``metrics.jsonl`` is step n of the W&B run. W&B stores each step once, and reports on
resuming how many steps it has. Sending a record again therefore adds the missing rows and repeats
none. This also holds after a requeue, and for a run that is both mirrored and synchronised. The x
axis of the charts is the training step.

``python -m deeper.track.wandb_upload DIRECTORY MODE`` follows a run until its standard input ends,
and prints the number of rows sent, or the setting of W&B that turns it off.
"""

import hashlib
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from deeper.errors import UserError
from deeper.platform_support import lock_file
from deeper.record.atomic_files import read_json, to_json, write_whole
from deeper.record.schema import CONFIG, EXAMPLES, RESULT, ROWS, read_config, read_rows
from deeper.record.wandb_id import MARK, run_id, write_id
from deeper.track.wandb_process import NOT_SENT, has_api_key
from deeper.track.wandb_switches import choose, stored_choice

INIT_SECONDS = 15.0
POLL_SECONDS = 1.0
# W&B draws tables of at most this many rows.
LONGEST_TABLE = 10_000


def upload(path: Path, mode: str, ended: Callable[[], str | None]) -> str:
    """Send the rows of a run that W&B does not have; may raise any error of W&B.

    Args:
        path: the run directory.
        mode: online, offline, or auto; see `allowed_mode`.
        ended: waits a moment and returns the status of the run, or None while it is running.

    Returns:
        A line for `Mirror`: the number of rows sent, or the reason why none was.
    """
    import wandb

    try:
        mode = allowed_mode(wandb, mode)
    except UserError as notice:
        return f"{NOT_SENT}{notice}"
    (path / "wandb").mkdir(exist_ok=True)
    with (path / "wandb" / "lock").open("w") as lock:
        with suppress(OSError):  # a file system without locks
            lock_file(lock.fileno(), wait=True)  # the mirror of an earlier process may be sending
        run = _init_run(wandb, path, mode)
        first = run.starting_step
        number, offset, status = 0, 0, None
        while status is None:
            status = ended()  # read the status before the rows, so that the last read misses no row
            for line, row in read_rows(path, offset):
                offset += len(line)
                if number >= first:
                    values = {key: value for key, value in row.items() if value is not None}
                    run.log(values, step=number, commit=True)
                number += 1
        digest = _digest(path)
        result = read_json(path / RESULT)
        if result is not None:
            _log_result(wandb, run, path, result, max(number, first))
        run.finish(exit_code=0 if status == "finished" else 1)
        write_whole(path / MARK, to_json({**(read_json(path / MARK) or {}), mode: digest}))
    return f"rows sent: {max(0, number - first)}"


def allowed_mode(wandb: Any, mode: str) -> str:
    """Return online or offline, from ``tracker.mode``, W&B's own settings and its API key.

    Args:
        wandb: the module, which reads its settings files.
        mode: ``tracker.mode``.

    Raises:
        UserError: W&B is turned off; the message names the setting.
    """
    choice = choose(mode, stored_choice(wandb.setup().settings))
    if choice.mode == "disabled":
        raise UserError(choice.notice())
    if choice.mode == "auto":
        return "online" if has_api_key() else "offline"
    return choice.mode


def uploaded(path: Path, mode: str) -> bool:
    """Return whether the current record has already been sent to W&B, or written to its offline
    file.
    """
    return (read_json(path / MARK) or {}).get(mode) == _digest(path)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    for name in (ROWS, RESULT):
        if (path / name).is_file():
            digest.update((path / name).read_bytes())
    return digest.hexdigest()


def _init_run(wandb: Any, path: Path, mode: str) -> Any:
    """Start or resume the W&B run of a run directory."""
    config = read_config(path)
    if config is None:
        raise UserError(f"{path} has no {CONFIG}: it is not a run directory.")
    study = (config.get("study") or {}).get("name")
    tracker, settings = config["tracker"], wandb.setup().settings  # settings: WANDB_NAME and others
    tags = (study, config["label"], config["mode"]["name"], *(settings.run_tags or ()))
    run = wandb.init(
        mode=mode,
        project=tracker["project"] or None,  # empty if WANDB_PROJECT is set to nothing
        entity=tracker["entity"] or None,
        dir=str(path),
        id=run_id(path),
        name=settings.run_name or f"{config['label']}-s{config['seed']}",
        group=study or settings.run_group,
        tags=list(dict.fromkeys(tag for tag in tags if tag)),
        resume="allow",
        config=dict(flat(config)),
        settings=quiet_settings(wandb),
    )
    if os.environ.get("WANDB_SWEEP_ID"):  # the agent of a W&B sweep has chosen the id
        write_id(path, run.id)
    run.define_metric("step", hidden=True)
    run.define_metric("*", step_metric="step")
    return run


def quiet_settings(wandb: Any) -> Any:
    """Return settings with which W&B prints nothing and records nothing about the machine."""
    return wandb.Settings(
        silent=True,
        quiet=True,
        console="off",
        init_timeout=INIT_SECONDS,
        # Already recorded in the run directory.
        disable_git=True,
        disable_code=True,
        x_disable_stats=True,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
    )


def _log_result(wandb: Any, run: Any, path: Path, result: Mapping[str, Any], number: int) -> None:
    """Log the final metrics, the example images and the confusion matrix.

    Args:
        wandb: the module.
        run: the W&B run.
        path: the run directory.
        result: content of ``result.json``.
        number: the W&B step after the last row.
    """
    plain = {k: v for k, v in result.items() if k != "metrics" and v is not None}
    run.summary.update(plain | dict(result.get("metrics") or {}))
    if not (path / EXAMPLES).is_file():
        return
    with np.load(path / EXAMPLES, allow_pickle=False) as archive:
        examples = {name: archive[name] for name in archive.files}
    names = [str(name) for name in examples["class_names"]]
    if "found_boxes" in examples:
        run.log({"examples": _boxes(wandb, examples, names)}, step=number, commit=True)
        return
    kind, shown = _shown(wandb, examples)
    table = wandb.Table(columns=[kind, "label", "prediction", "confidence"])
    for example, label, prediction, confidence in zip(
        shown,
        examples["labels"],
        examples["predictions"],
        examples["confidences"],
        strict=True,
    ):
        table.add_data(example, names[label], names[prediction], float(confidence))
    # Like wandb.plot.confusion_matrix, which takes single predictions, but from counts.
    counts = examples["confusion"]
    cells = np.argwhere(counts if counts.size > LONGEST_TABLE else np.ones_like(counts))
    cells = cells[np.argsort(-counts[tuple(cells.T)], kind="stable")][:LONGEST_TABLE]
    confusion = wandb.plot_table(
        data_table=wandb.Table(
            columns=["Actual", "Predicted", "nPredictions"],
            data=[[names[a], names[p], int(counts[a, p])] for a, p in cells],
        ),
        vega_spec_name="wandb/confusion_matrix/v1",
        fields={name: name for name in ("Actual", "Predicted", "nPredictions")},
        string_fields={"title": "Confusion matrix of the test split"},
    )
    run.log({"examples": table, "confusion": confusion}, step=number, commit=True)


def _boxes(wandb: Any, examples: Mapping[str, Any], names: Sequence[str]) -> Any:
    """Return a table of photographs, with W&B's panels of detections and of true objects."""
    classes = dict(enumerate(names))

    def panel(boxes: Any, labels: Any, scores: Any) -> dict[str, Any]:
        data = []
        for place in np.flatnonzero(labels >= 0).tolist():
            x1, y1, x2, y2 = (float(value) for value in boxes[place])
            one: dict[str, Any] = {
                "position": {"minX": x1, "maxX": x2, "minY": y1, "maxY": y2},
                "domain": "pixel",
                "class_id": int(labels[place]),
                "box_caption": names[int(labels[place])],
            }
            if scores is not None:
                one["box_caption"] += f" {float(scores[place]):.2f}"
                one["scores"] = {"score": float(scores[place])}
            data.append(one)
        return {"box_data": data, "class_labels": classes}

    table = wandb.Table(columns=["image", "objects", "detections"])
    for i, image in enumerate(examples["images"]):
        found = panel(
            examples["found_boxes"][i], examples["found_labels"][i], examples["found_scores"][i]
        )
        true = panel(examples["boxes"][i], examples["labels"][i], None)
        boxes = {"detections": found, "objects": true}
        table.add_data(
            wandb.Image(image, boxes=boxes), len(true["box_data"]), len(found["box_data"])
        )
    return table


def _shown(wandb: Any, examples: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """Return what examples are, and each as W&B shows it: an image, a text, a sound or numbers."""
    if "images" in examples:
        images = examples["images"]
        pixels = [image[..., 0] if image.shape[-1] == 1 else image for image in images]
        return "image", [wandb.Image(one) for one in pixels]
    if "texts" in examples:
        return "text", [str(text) for text in examples["texts"]]
    if "rate" in examples:
        rate = int(examples["rate"])
        return "sound", [wandb.Audio(one, sample_rate=rate) for one in examples["inputs"]]
    return "example", [str(one.tolist()) for one in examples["inputs"]]


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of a nested mapping."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


# --- the process that follows a run -------------------------------------------------------------


def _wait_for_status() -> str | None:
    """Return the status that the run sends at its end, or ``killed`` if it ended without one."""
    ready, _, _ = select.select([sys.stdin], [], [], POLL_SECONDS)
    return (sys.stdin.read().strip() or "killed") if ready else None


if __name__ == "__main__":
    # A batch system sends SIGTERM to all processes of a job; the mirror ends with its run.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Images are stored here until they are uploaded; W&B's default is the home directory.
    os.environ.setdefault("WANDB_DATA_DIR", str(Path(sys.argv[1]).absolute() / "wandb" / "data"))
    print(f"\n{upload(Path(sys.argv[1]), sys.argv[2], _wait_for_status)}")
