"""Write standin.json: tests of the complete pipeline on the stand-in for ImageNet.

    deeper prepare data=photos
    python experiments/photographs/standin.py            (all parts; 40 minutes on one core)
    python experiments/photographs/standin.py killed     (some of them)

A part that was interrupted continues, and the results of the other parts are kept.
"""

import argparse
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from deeper.data import crops, epoch_order
from deeper.data.dataset import open_dataset
from deeper.data.encoded_images import View
from deeper.data.host_batches import Workers, stream
from deeper.run import load

HERE = Path(__file__).parent
DEEPER = str(Path(sys.executable).with_name("deeper"))
NET = ("data=photos", "model=resnet", "model.depth=18", "augment=none", "tracker.mode=disabled")
LEARN = (*NET, "train.batch_size=64", "train.epochs=10", "train.log_every=27")
SHORT = (*NET, "train.batch_size=32", "train.steps=32", "train.epochs=null", "train.log_every=2")
OFTEN = ("train.steps_per_call=2", "train.checkpoint_every=0.074", "train.train_error_examples=64")
PROTOCOLS = {  # name in the run directory -> arguments of deeper evaluate
    "1crop": ("protocol=1crop",),
    "1crop-at-160-of-182": ("protocol=1crop", "size=160", "shorter_side=182"),
    "flip": ("protocol=flip",),
    "10crop": ("protocol=10crop",),
    "dense": ("protocol=dense",),
}
GENTLE = (
    "optimizer.learning_rate=0.004",
    "model.batch_norm_axis=data",
    "train.steps=8",
    "train.epochs=null",
)
NUDGED = """
import sys, jax, numpy as np
from deeper.run import initial_weights
from deeper.cli.main import main
drawn = initial_weights.initialise
step = np.nextafter(np.float32(1), np.float32(2))
initial_weights.initialise = lambda *given: jax.tree.map(
    lambda leaf: leaf * step, drawn(*given))
sys.exit(main())
"""
BATCHES = 8  # of 128
KILL_AFTER = 18  # steps, of 108 per epoch; the last checkpoint is that of step 16


def train(runs: Path, *overrides: str) -> Path:
    """Start or continue a training; return the run directory."""
    subprocess.run([DEEPER, "train", *overrides, f"runs={runs}"], check=True)
    [run] = runs.glob("single/*")
    return run


def result(run: Path) -> dict[str, Any]:
    """Return a run's result."""
    return json.loads((run / "result.json").read_text())


def learned(work: Path) -> dict[str, Any]:
    """Ten passes of a ResNet-18 at 128 pixels."""
    run = train(work / "learned", *LEARN)
    told = result(run)
    classes = 36
    return {
        "command": f"deeper train {' '.join(LEARN)}",
        "validation_accuracy": 100 - told["metrics"]["test/error"],
        "validation_accuracy_top5": 100 - told["metrics"]["test/error_top5"],
        "training_accuracy": 100 - told["metrics"]["train/error"],
        "chance": 100 / classes,
        "photographs": told["train_images"],
        "validation_photographs": told["metrics"]["test/n_seen"],
        "seconds": told["seconds"],
        "git_commit": told["git_commit"],
    }


def rows(run: Path) -> list[dict[str, Any]]:
    """Return the rows of a run without times."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    clock = ("time", "images_per_second")
    return [{key: value for key, value in line.items() if key not in clock} for line in lines]


def digest(run: Path) -> str:
    """Return the SHA-256 of a run's last parameters and statistics."""
    whole = hashlib.sha256()
    for place, leaf in jax.tree.leaves_with_path(load.open_stored(run, "last", "run").variables):
        whole.update(jax.tree_util.keystr(place).encode())
        whole.update(np.ascontiguousarray(leaf).tobytes())
    return whole.hexdigest()


def killed(work: Path) -> dict[str, Any]:
    """Compare a run that was killed in the middle of an epoch with an uninterrupted one."""
    whole = train(work / "whole", *SHORT, *OFTEN)
    cut = work / "cut"
    command = [DEEPER, "train", *SHORT, *OFTEN, f"runs={cut}"]
    if not list(cut.glob("single/*/result.json")):
        with subprocess.Popen(command, start_new_session=True) as process:
            while not any(
                row["step"] >= KILL_AFTER for r in cut.glob("single/*") for row in got(r)
            ):
                if process.poll() is not None:
                    raise SystemExit("the run ended before it could be killed")
                time.sleep(0.2)
            os.killpg(process.pid, signal.SIGKILL)
    run = train(cut, *SHORT, *OFTEN)
    return {
        "command": f"deeper train {' '.join((*SHORT, *OFTEN))}",
        "steps": result(run)["steps"],
        "killed_after_step": KILL_AFTER,
        "steps_an_epoch": result(run)["train_images"] / 32,
        "same_rows": rows(whole) == rows(run),
        "rows": len(rows(run)),
        "same_parameters": digest(whole) == digest(run),
        "same_metrics": result(whole)["metrics"] == result(run)["metrics"],
        "parameters_sha256": digest(run),
    }


def protocols(work: Path) -> dict[str, Any]:
    """Evaluate the trained net with every protocol at one scale."""
    return evaluated(work, PROTOCOLS)


def multiscale(work: Path) -> dict[str, Any]:
    """Evaluate the trained net at five scales, which takes longer than all other parts together."""
    return evaluated(work, {"multiscale": ("protocol=multiscale",)})


def evaluated(work: Path, by_name: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    """Return the result of `deeper evaluate` for the trained net, computing it if necessary."""
    run, found = train(work / "learned", *LEARN), {}
    for name, asked in by_name.items():
        record = run / f"evaluation-{name}.json"
        if not record.exists():
            subprocess.run([DEEPER, "evaluate", f"run={run}", *asked], check=True)
        told = json.loads(record.read_text())
        found[told["protocol"]] = {
            "command": f"deeper evaluate {' '.join(asked)}",
            "in_words": told["protocol_in_words"],
            "accuracy": 100 - told["test/error"],
            "accuracy_top5": 100 - told["test/error_top5"],
            "negative_log_likelihood": told["test/loss"],
            "calibration_error": told["test/calibration_error"],
            "n_seen": told["test/n_seen"],
        }
    return found


def layouts(work: Path) -> dict[str, Any]:
    """Compare batches from files with restart markers, by threads and by processes, with untouched
    files.
    """
    laid = work / "restart"
    source = os.environ.get("DEEPER_PHOTOS")  # directory of the extracted packages, if any
    command = ["prepare", "data=photos", "layout=restart", f"data.dir={laid}"]
    subprocess.run([DEEPER, *command, *([f"data.source={source}"] if source else [])], check=True)
    plain = Path(os.environ.get("DEEPER_DATA", "data"))
    ways = {
        "plain": (plain, Workers()),
        "restart": (laid, Workers()),
        "restart_processes": (laid, Workers(processes=True)),
    }
    found: dict[str, Any] = {"crops": list(crops.DRAWS), "batches_a_crop": BATCHES, "pixels": 224}
    for way, (root, workers) in ways.items():
        whole = hashlib.sha256()
        for crop in crops.DRAWS:
            splits = open_dataset("photos", root, view=View((224, 224, 3), crop, 256, True)).splits
            train, size = splits["train"], len(splits["train"])
            numbers = partial(epoch_order.batch_indices, size, 128, 0)
            for batch in stream(train, numbers, 0, stop=BATCHES, seed=0, workers=workers):
                whole.update(batch["image"].tobytes() + batch["label"].tobytes())
        whole.update(np.asarray(splits["test"].images[:]).tobytes())
        found[f"sha256_{way}"] = whole.hexdigest()
    found["same"] = len({found[f"sha256_{way}"] for way in ways}) == 1
    found["megabytes"] = {
        way: sum(file.stat().st_size for file in root.glob("photos/*/*.array_record*")) / 1e6
        for way, (root, _) in list(ways.items())[:2]
    }
    return found


def processes(work: Path) -> dict[str, Any]:
    """Compare two processes with two devices each with one process with four.

    Sums are computed in another order, and every step amplifies the rounding errors. A third run of
    one process, whose initial weights are larger by one unit in the last place, measures this
    amplification.
    """
    command = [DEEPER, "train", *NET, *GENTLE, "train.batch_size=32", "train.log_every=1"]
    nudged = [sys.executable, "-c", NUDGED, *command[1:]]
    runs = {"one": (command, 1), "two": (command, 2), "nudged": (nudged, 1)}
    for name, (words, count) in runs.items():
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = f"127.0.0.1:{server.getsockname()[1]}"
        ones = []
        for number in range(count):
            environment = os.environ | {
                "XLA_FLAGS": f"--xla_force_host_platform_device_count={4 // count}",
                "JAX_COORDINATOR_ADDRESS": address,
                "JAX_NUM_PROCESSES": str(count),
                "JAX_PROCESS_ID": str(number),
            }
            ones.append(subprocess.Popen([*words, f"runs={work / name}"], env=environment))
        if max(one.wait(1800) for one in ones):
            raise SystemExit("a process failed")
    found = {name: next(iter((work / name).glob("single/*"))) for name in runs}
    losses = {
        name: [row["train/loss"] for row in rows(run) if "train/loss" in row]
        for name, run in found.items()
    }
    one, *others = (load.open_stored(run, "last", "run").variables for run in found.values())

    def apart(other: Any) -> float:
        far = jax.tree.map(lambda a, b: np.abs(np.asarray(a) - np.asarray(b)).max(), one, other)
        return float(max(jax.tree.leaves(far)))

    return {
        "command": " ".join(["deeper", *command[1:]]),
        "losses": losses,
        "largest_difference_of_a_variable": dict(zip(("two", "nudged"), map(apart, others))),
    }


def got(run: Path) -> list[dict[str, Any]]:
    """Return the rows so far, without an incomplete last line."""
    try:
        return rows(run)
    except (FileNotFoundError, json.JSONDecodeError):
        return []


PARTS = {
    part.__name__: part for part in (learned, protocols, multiscale, killed, layouts, processes)
}


def main() -> None:
    """Run the requested parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=list(PARTS), choices=PARTS)
    parser.add_argument("--work", type=Path, default=Path("runs/standin"))
    asked = parser.parse_args()
    out = HERE / "standin.json"
    for name in asked.parts:
        known = json.loads(out.read_text()) if out.exists() else {}
        known[name] = PARTS[name](asked.work)
        out.write_text(json.dumps(known, indent=2) + "\n")
        print(name, json.dumps(known[name], indent=2))


if __name__ == "__main__":
    main()
