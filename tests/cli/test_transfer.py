"""Transfer end to end: from a run on some classes to nets for the others."""

import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from deeper.errors import UserError
from deeper.models.googlenet import googlenet
from deeper.models.resnet import resnet
from deeper.run import load, preprocessing
from deeper.weights.weight_files import WeightFile
from tests.cli.conftest import SMALL, starting

FIVE = ("data.classes=5", "data.validation=40", "train.epochs=null")
TARGET = (*SMALL, *FIVE, "data.keep_classes=[9,8,7,6,5]", "train.steps=10", "data.examples=40")


@pytest.fixture(scope="module")
def source(tmp_path_factory, data_dir):
    directory = tmp_path_factory.mktemp("source")
    start = starting(directory, data_dir)
    done = start("train", *SMALL, *FIVE, "data.keep_classes=[0,1,2,3,4]", "train.steps=10")
    assert done.returncode == 0, done.output
    [run] = directory.glob("runs/single/*")
    return run


def result_of(tmp_path, runs):
    [run] = tmp_path.glob(f"{runs}/single/*")
    return run, json.loads((run / "result.json").read_text())


def frozen(before, after):
    """Return the layers whose parameters and statistics are the same to the bit."""
    found = set()
    for name in before["params"]:
        some = [(one["params"][name], one["batch_stats"].get(name)) for one in (before, after)]
        if all(jax.tree.leaves(jax.tree.map(np.array_equal, *some))):
            found.add(name)
    return found


@pytest.mark.long
def test_linear_staged_and_truncated_end_to_end(start, tmp_path, source):
    before = load.open_stored(source, "last", "run").variables
    begin = f"init_from={source.parent}/resnet8-s0-*"

    linear = start("train", *TARGET, "transfer=linear", "augment=none", begin, "runs=linear")
    assert linear.returncode == 0, linear.output
    assert "new: fc" in linear.output
    assert "head train, 85 of " in linear.output
    assert "parameters; frozen: stage1, stage2, stage3" in linear.output
    assert "computed once" in linear.output
    run, result = result_of(tmp_path, "linear")
    assert list(tmp_path.glob("linear/.features/*.npy"))
    after = load.open_stored(run, "last", "run").variables
    assert frozen(before, after) == {"conv1", "bn1", "stage1", "stage2", "stage3"}
    # The whole net on images says what the last layer said on features.
    told = start("evaluate", f"run={run}", "out=whole.json")
    assert told.returncode == 0, told.output
    whole = json.loads((tmp_path / "whole.json").read_text())["test/loss"]
    assert whole == pytest.approx(result["metrics"]["test/loss"], rel=1e-4)

    # Images that change: features are computed every step, and the trunk is frozen all the same.
    every = start("train", *TARGET, "transfer=linear", begin, "runs=every")
    assert every.returncode == 0, every.output
    assert "computed once" not in every.output
    slow = load.open_stored(result_of(tmp_path, "every")[0], "last", "run").variables
    assert frozen(before, slow) == frozen(before, after)

    staged = start(
        "train", *TARGET, "transfer=staged", "transfer.truncate_at=stage2", begin, "runs=cut"
    )
    assert staged.returncode == 0, staged.output
    assert "new: head" in staged.output and "left out: fc, stage3/block1/bn1" in staged.output
    assert "Steps 3 to 6: stage2, head train" in staged.output
    assert all(len(line) <= 100 for line in staged.output.splitlines() if "from" not in line)

    told = start("features", f"run={run}", "layer=stage2", "out=f.npz")
    assert told.returncode == 0, told.output
    with np.load(tmp_path / "f.npz") as file:
        assert file["test_features"].shape == (len(file["test_labels"]), 8)
        assert str(file["class_names"][0]) == "Ankle boot"


def test_mistakes_are_told(mistake, source):
    mistakes = {
        ("model.depth=14", f"init_from={source}"): "is of another net",
        ("transfer=linear", "transfer.phases.0.rate=0"): "give a number above 0",
        ("data.examples=99999",): "data.examples=99999: there are",
    }
    for arguments, expected in mistakes.items():
        assert expected in mistake("train", *TARGET[:-1], *arguments)
    assert "There is no layer stage9" in mistake("features", f"run={source}", "layer=stage9")


@pytest.mark.long
def test_weights_carry_their_preprocessing(said, mistake, source):
    begin = (*TARGET[:-1], f"init_from={source}", "train.steps=1")
    other = ("data.mean=[0.5]", "data.std=[0.5]")
    # A run of the same data set that is normalised in another way by its study, say.
    config = (source / "config.yaml").read_text()
    (source / "config.yaml").write_text(config.replace("- 0.286", "- 0.4"))
    try:
        told = mistake("train", *begin)
        assert "its weights are of images with data.mean=[0.4]" in told
        assert "data.mean=[0.286]" in told
        told = said("train", *begin, *other, "seed=1")
        assert "mean [0.4] there, [0.5] here; std [0.353] there, [0.5] here" in told
        assert "shown otherwise" not in said("train", *begin, "data.mean=[0.4]", "seed=2")
    finally:
        (source / "config.yaml").write_text(config)


FILE = WeightFile({}, {"source": "net.pth"})


def test_imported_weights_are_begun_from_with_the_preprocessing_that_they_expect():
    inception = SimpleNamespace(**preprocessing.of_file(FILE, googlenet(10)))
    usual = SimpleNamespace(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])

    def compared(ours, overrides, same_data=True):
        return preprocessing.compared(
            ours, "googlenet.pth", inception, same_data=same_data, overrides=overrides
        )

    assert compared(inception, []) is None
    with pytest.raises(UserError, match=r"data.mean=\[0.5,0.5,0.5\] data.std=\[0.5,0.5,0.5\]"):
        compared(usual, ["data.mean=[0.485,0.456,0.406]"])
    both = ["data.mean=[0.485,0.456,0.406]", "data.std=[0.229,0.224,0.225]"]
    assert "mean [0.5,0.5,0.5] there" in compared(usual, both)
    assert "mean [0.5,0.5,0.5] there" in compared(usual, [], same_data=False)
    assert preprocessing.of_file(FILE, resnet(18, 10)) == {}
