"""From a folder of photographs to a trained net, including resuming."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeper.data import array_records
from deeper.data.encoded_images import View, open_photographs
from deeper.data.prepare.debian_photographs import PHOTOGRAPHS
from deeper.record.schema import read_run
from tests.data.test_debian_photographs import PACKAGES, installed

__all__ = ["installed"]

TRAIN = (
    "train",
    "data=folder",
    "data.name=hues",
    "data.classes=2",
    "data.image_shape=[32,32,3]",
    "data.shorter_side=36",
    "model.depth=8",
    "model.width=4",
    "model.form=cifar",
    "data.on_bad=skip",
    "augment=none",
    "optimizer.learning_rate=0.8",
    "train.batch_size=16",
    "train.steps=40",
    "train.epochs=null",
    "train.keep_at=[20]",
)


def of_test_split(directory, examples):
    """Return the files of the test split, and what the run said of them at its end."""
    images = open_photographs(directory, View((32, 32, 3), "middle", 36, True), print).splits
    opened = array_records.open_records(directory, "test")
    names = [
        array_records.fields(opened[int(number)])["file_name"].decode()
        for number in images["test"][0].numbers
    ]
    with np.load(examples) as told:
        classes = told["class_names"][told["predictions"]].tolist()
        return names, list(zip(classes, told["confidences"].tolist(), strict=True))


def first_answers(table):
    """Return file -> its likeliest class and the probability, which is near to what is expected."""
    with table.open() as file:
        return {
            row["file"]: (row["class"], pytest.approx(float(row["probability"]), abs=2e-6))
            for row in csv.DictReader(file)
            if row["rank"] == "1"
        }


@pytest.mark.long
def test_a_folder_is_prepared_learned_and_gone_on_with_to_the_bit(start, tmp_path, data_dir):
    rng = np.random.default_rng(0)
    for channel, name in enumerate(("red", "green")):
        (tmp_path / "tree" / name).mkdir(parents=True)
        for i in range(30):
            pixels = rng.integers(0, 120, (*rng.integers(5, 9, 2), 3)).astype(np.uint8)
            pixels[..., channel] += 110
            picture = Image.fromarray(pixels).resize((48, 40), Image.Resampling.BICUBIC)
            picture.save(tmp_path / "tree" / name / f"{i}.jpg")
    cut = (tmp_path / "tree" / "red" / "0.jpg").read_bytes()[:-300]
    for name in ("cut.jpg", "short.jpg"):
        (tmp_path / "tree" / "red" / name).write_bytes(cut)
    own = f"data.dir={tmp_path / 'data'}"
    done = start("prepare", "data=folder", "data.name=hues", "data.source=tree", own)
    assert done.returncode == 0, done.output
    assert "hues is ready" in done.output and "2 classes: green, red" in done.output
    done = start(*TRAIN, own)
    assert done.returncode == 0, done.output
    [run] = tmp_path.glob("runs/single/*")
    whole = json.loads((run / "result.json").read_text())["metrics"]
    assert "data alone" in done.output and "the run is bound by" in done.output
    told = json.loads((run / "result.json").read_text())
    assert told["antialias"] is True
    assert told["rates"]["data"] > 0 and told["rates"]["compute"] > 0
    left_out = [name for split in told["unreadable"].values() for name in split["files"]]
    assert sorted(left_out) == ["red/cut.jpg", "red/short.jpg"]
    assert told["train_images"] + whole["test/n_seen"] == 60
    rows = (run / "metrics.jsonl").read_text().splitlines()
    assert whole["test/n_seen"] == 6
    assert whole["test/error"] == 0.0

    # predict answers about a file as evaluation does, and one that is damaged costs no other.
    files, answers = of_test_split(tmp_path / "data/hues/1.0.0", run / "examples.npz")
    (tmp_path / "own").mkdir()
    for name in files:
        shutil.copy(tmp_path / "tree" / name, tmp_path / "own" / name.replace("/", "-"))
    Image.new("1", (14000, 14000)).save(tmp_path / "own" / "large.png")
    done = start("predict", "images=own", f"weights={run}")
    assert done.returncode == 2, done.output
    assert "1 of 7 files left out" in done.output and "large.png" in done.output
    assert first_answers(tmp_path / "predictions.csv") == {
        f"own/{name.replace('/', '-')}": answer for name, answer in zip(files, answers, strict=True)
    }

    # As if it had been killed after step 20.
    (run / "result.json").unlink()
    for path in (run / "checkpoints").iterdir():
        if path.is_dir() and path.name != "20":
            shutil.rmtree(path)
    done = start(*TRAIN, own)
    assert done.returncode == 0, done.output
    assert json.loads((run / "result.json").read_text())["metrics"] == whole
    again = (run / "metrics.jsonl").read_text().splitlines()
    for one, other in zip(rows, again, strict=True):
        one, other = json.loads(one), json.loads(other)
        assert one["step"] == other["step"] and one.get("train/loss") == other.get("train/loss")
    # Both lie in the run's directory, from where a report takes them.
    for protocol, more in {"10crop": (), "dense": ("scales=[36,40]",)}.items():
        told = start("evaluate", f"run={run}", f"protocol={protocol}", *more, "out=e.json")
        assert told.returncode == 0, told.output
        found = json.loads((tmp_path / "e.json").read_text())
        assert found["protocol"] == protocol + " at 36, 40" * (protocol == "dense")
        assert found["test/n_seen"] == 6 and found["test/error"] == 0.0
        assert found["error_by_class"] == {"green": 0.0, "red": 0.0}
        assert read_run(run).evaluations[found["protocol"]] == found


@pytest.mark.long
def test_the_stand_in_is_cut_from_its_package_and_learned(start, tmp_path, installed):
    """From the package itself where it is installed, as .ci/run does."""
    there = Path("/") / PHOTOGRAPHS[PACKAGES[0]]["fig"]
    source = () if there.exists() else (f"data.source={installed}",)
    own = (
        "data=photos",
        f"data.dir={tmp_path / 'data'}",
        f"data.packages=[{PACKAGES[0]}]",
        "data.classes=13",
        "data.crops.train=10",
        "data.crops.validation=3",
        *source,
    )
    done = start("prepare", *own)
    assert done.returncode == 0, done.output
    assert "13 classes: bird, bridge, brook" in done.output
    assert "130" in done.output and "39" in done.output
    done = start(
        "train",
        *own,
        "data.image_shape=[32,32,3]",
        "data.shorter_side=36",
        "model.depth=8",
        "model.width=8",
        "model.form=cifar",
        "augment=none",
        "train.batch_size=26",
        "train.epochs=10",
        "train.checkpoint_every=10",
    )
    assert done.returncode == 0, done.output
    [result] = tmp_path.glob("runs/single/*/result.json")
    metrics = json.loads(result.read_text())["metrics"]
    assert metrics["test/n_seen"] == 39
    if not source:
        assert metrics["test/error"] < 80  # chance: 92
