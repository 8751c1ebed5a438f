"""Checks that a change of the code has changed no number of a run.

    python experiments/reliability/same_bits.py --write      # before the change
    python experiments/reliability/same_bits.py              # after it: names what differs

Trains small runs of nets of images, by each kind of feed, transfer and number of processes, and of
learning without labels, each by the command in a process of its own on one core. For each it
records the training losses, the final metrics, the config's hash, and a SHA-256 of the final
checkpoint's arrays; also the rows of a study's report. The bits depend on the type of CPU and the
version of JAX, which are recorded too: compare on the machine that wrote the file.
"""

import argparse
import csv
import hashlib
import json
import os
import platform
import re
import socket
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

RECORD = Path(__file__).with_suffix(".json")
CLOCK = ("time", "images_per_second")
SHORT = (
    "data=digits", "train.batch_size=32", "train.steps=12", "train.epochs=null",
    "train.steps_per_call=4", "train.log_every=2", "train.train_error_examples=100",
    "data.validation=100", "optimizer.learning_rate=0.05",
)  # fmt: skip
RESNET = ("model=resnet", "model.depth=8", "model.width=8")
PICTURES = (
    "data=folder", "data.name=squares", "data.classes=3", "data.image_shape=[32,32,3]",
    "data.shorter_side=36", "data.validation=0", "data.stem=small", "data.hidden=64",
)  # fmt: skip
# Name -> overrides. Runs with names that begin with "after" start from the weights of another run.
RUNS: dict[str, tuple[str, ...]] = {
    "lenet5": ("model=lenet5",),
    "alexnet, dropout": ("model=alexnet", "data.hidden=64"),
    "zfnet": ("model=zfnet",),
    "vgg": ("model=vgg", "model.depth=11", "data.hidden=64"),
    "googlenet": ("model=googlenet",),
    "plain": ("model=plain", "model.depth=8", "model.width=8"),
    "resnet": RESNET,
    "resnet, streamed": (*RESNET, "data.on_device=false"),
    "resnet, pmap": (*RESNET, "train.parallel=pmap"),
    "resnet, bfloat16": (*RESNET, "train.dtype=bfloat16"),
    "resnet, accumulated": (*RESNET, "train.accumulate=2"),
    "resnet, averaged": (*RESNET, "train.ema=0.9"),
    "resnet, LAMB": (*RESNET, "optimizer=lamb", "optimizer.learning_rate=0.005"),
    "resnet, clipped and smoothed": (
        *RESNET, "train.gradient_clip=1", "train.label_smoothing=0.1", "schedule=steps",
    ),
    "resnet, binary": (*RESNET, "train.loss=binary_cross_entropy", "augment=cutmix"),
    "resnet, RandAugment": (*RESNET, "augment=randaugment"),
    "resnet, mixup": (*RESNET, "augment=mixup"),
    "uda": (*RESNET, "train=uda", "data.examples=100", "train.consistency.ratio=2"),
    "uda, streamed": (
        *RESNET, "train=uda", "data.examples=100", "train.consistency.ratio=2",
        "data.on_device=false",
    ),
    "fixmatch, annealed": (
        *RESNET, "train=fixmatch", "data.examples=100", "train.consistency.ratio=2",
        "train.consistency.annealing=linear",
    ),
    "photographs": (*RESNET, *PICTURES),
    "photographs, processes": (*RESNET, *PICTURES, "data.processes=true", "data.crop=resnet"),
    "after resnet: finetune": (*RESNET, "transfer=finetune", "init_from={resnet}"),
    "after resnet: staged": (*RESNET, "transfer=staged", "init_from={resnet}"),
    "after resnet: linear": (*RESNET, "transfer=linear", "init_from={resnet}", "augment=none"),
    "after resnet: truncated": (
        *RESNET, "transfer=linear", "init_from={resnet}", "transfer.truncate_at=stage2",
        "augment=none",
    ),
}  # fmt: skip
STUDY = (
    "study=depth_fashion", "mode=smoke", *SHORT, "study.depths=[14,8]", "study.seeds=[0,1]",
    "study.tests=[]", "study.published=null",
)  # fmt: skip


def main() -> None:
    """Train all runs, and write or compare the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="record the present numbers")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", nargs="+", help="names of runs")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        found = {"machine": machine(), "runs": all_runs(Path(place), asked.jobs, asked.only)}
    if asked.write:
        RECORD.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        return
    kept = json.loads(RECORD.read_text(encoding="utf-8"))
    if kept["machine"] != found["machine"]:
        print(f"Written on {kept['machine']}, compared on {found['machine']}.")
    differing = 0
    for name, numbers in found["runs"].items():
        other = kept["runs"].get(name, {})
        changed = [key for key in numbers if numbers[key] != other.get(key)]
        differing += bool(changed)
        print(f"{name:<32} {'differs in ' + ', '.join(changed) if changed else 'the same'}")
    print(f"{len(found['runs']) - differing} of {len(found['runs'])} are the same to the bit.")
    sys.exit(bool(differing))


def machine() -> dict[str, str]:
    """Return the CPU and versions that determine the bits."""
    import jax

    return {"processor": platform.processor() or platform.machine(), "jax": jax.__version__}


def all_runs(place: Path, jobs: int, only: list[str] | None) -> dict[str, dict[str, Any]]:
    """Prepare the data and train the runs, those that start from another run last."""
    cores = sorted(os.sched_getaffinity(0))
    squares(place / "squares")
    deeper(place, cores[0], "prepare", "data=digits")
    deeper(
        place, cores[0], "prepare", "data=folder", "data.name=squares", "data.classes=3",
        f"data.source={place / 'squares'}",
    )  # fmt: skip
    wanted = {name: words for name, words in RUNS.items() if only is None or name in only}
    later = {name: words for name, words in wanted.items() if name.startswith("after ")}
    first = {name: words for name, words in wanted.items() if name not in later}
    if later:
        first.setdefault("resnet", RUNS["resnet"])
    found: dict[str, dict[str, Any]] = {}
    with ThreadPoolExecutor(jobs) as pool:

        def start(item: tuple[int, tuple[str, tuple[str, ...]]]) -> None:
            number, (name, words) = item
            origin = "resnet/single/*"  # relative, since the path is hashed
            words = tuple(word.format(resnet=origin) for word in words)
            found[name] = one_run(place, cores[number % len(cores)], name, words)

        list(pool.map(start, enumerate(first.items())))
        list(pool.map(start, enumerate(later.items())))
    if only is None or "two processes" in only:
        found["two processes"] = two_processes(place, cores[0])
    if only is None or "study" in only:
        deeper(place, cores[0], "train", "-m", *STUDY, f"runs={place / 'study'}", "jobs=1")
        deeper(place, cores[0], "report", *STUDY[:2], *STUDY[-4:], f"runs={place / 'study'}")
        found["study"] = table(next((place / "study").glob("*/results.csv")))
    return {name: found[name] for name in [*RUNS, "two processes", "study"] if name in found}


def squares(folder: Path) -> None:
    """Make photographs of three classes and several sizes."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 24), ("val", 8)):
        for number, name in enumerate(("blue", "green", "red")):
            (folder / part / name).mkdir(parents=True)
            for index in range(count):
                height, width = rng.integers(40, 90, 2)
                pixels = rng.integers(0, 120, (height, width, 3), np.uint8)
                pixels[..., 2 - number] += 100
                Image.fromarray(pixels).save(folder / part / name / f"{index}.jpg", quality=92)


def deeper(place: Path, core: int, *arguments: str, **more: Any) -> None:
    """Run a command on one core; its output is shown if it fails."""
    environment = os.environ | {
        "DEEPER_DATA": str(place / "data"),
        "WANDB_MODE": "disabled",
        "JAX_PLATFORMS": "cpu",
    }
    os.sched_setaffinity(0, {core})  # applies to child processes of this thread
    done = subprocess.run(
        [sys.executable, "-m", "deeper", *arguments],
        cwd=place,
        env=environment | more,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"deeper {' '.join(arguments)}:\n{done.stdout}{done.stderr}")


def one_run(place: Path, core: int, name: str, words: tuple[str, ...]) -> dict[str, Any]:
    """Train once and return the run's numbers."""
    runs = place / "-".join(re.findall(r"\w+", name))
    deeper(place, core, "train", *SHORT, *words, f"runs={runs}")
    [run] = (runs / "single").iterdir()
    print(f"{name}: done", file=sys.stderr)
    return numbers_of(run)


def numbers_of(run: Path) -> dict[str, Any]:
    """Return the numbers of a run directory, without times."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    result = json.loads((run / "result.json").read_text())
    return {
        "directory": run.name,
        "losses": [row["train/loss"] for row in rows if "train/loss" in row],
        "rows": digest(json.dumps([numbers_in(row) for row in rows], sort_keys=True)),
        "metrics": result["metrics"],
        "parameters": result["parameters"],
        "macs": result["macs"],
        "weights": weights_of(run),
    }


def numbers_in(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row without times."""
    return {key: value for key, value in row.items() if key not in CLOCK}


def weights_of(run: Path) -> str:
    """Return a SHA-256 of the last checkpoint's arrays, read with Orbax directly."""
    import jax
    import orbax.checkpoint as ocp

    steps = [int(p.name) for p in (run / "checkpoints").iterdir() if p.name.isdecimal()]
    saved = run / "checkpoints" / str(max(steps)) / "default"
    reader = ocp.PyTreeCheckpointer()
    shapes = reader.metadata(saved).item_metadata
    as_numpy = jax.tree.map(lambda leaf: ocp.RestoreArgs(restore_type=np.ndarray), dict(shapes))
    tree = reader.restore(saved, restore_args=as_numpy)
    return digest(repr(sorted(flat(tree))))


def flat(tree: Any, name: str = "") -> list[tuple[str, str]]:
    """Return (name, SHA-256) of every array."""
    if isinstance(tree, dict):
        return [one for key, child in tree.items() for one in flat(child, f"{name}/{key}")]
    if isinstance(tree, list | tuple):
        return [one for i, child in enumerate(tree) for one in flat(child, f"{name}/{i}")]
    if tree is None:
        return []
    array = np.asarray(tree)
    return [(name, hashlib.sha256(array.tobytes()).hexdigest() + str(array.shape))]


def digest(text: str) -> str:
    """Return the first 16 hex digits of a text's SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def two_processes(place: Path, core: int) -> dict[str, Any]:
    """Train one net with two processes of one device each."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    words = (*SHORT, "model=lenet5", f"runs={place / 'two'}")
    with ThreadPoolExecutor(2) as pool:
        both = [
            pool.submit(
                deeper, place, core, "train", *words,
                JAX_COORDINATOR_ADDRESS=f"127.0.0.1:{port}",
                JAX_NUM_PROCESSES="2",
                JAX_PROCESS_ID=str(number),
            )
            for number in range(2)
        ]  # fmt: skip
        for process in both:
            process.result()
    [run] = (place / "two" / "single").iterdir()
    return numbers_of(run)


def table(file: Path) -> dict[str, Any]:
    """Return the rows of a report without times."""
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    kept = [k for k in rows[0] if "second" not in k and k not in ("git_commit", "started")]
    return {"table": [{key: row[key] for key in kept} for row in rows]}


if __name__ == "__main__":
    main()
