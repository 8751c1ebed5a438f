"""`deeper see` end to end."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import SMALL, starting
from tests.cli.test_photographs import first_answers


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data_dir):
    directory = tmp_path_factory.mktemp("trained")
    start = starting(directory, data_dir)
    done = start("train", *SMALL, "train.steps=10", "train.epochs=null", "train.keep_at=[4]")
    assert done.returncode == 0, done.output
    [run] = directory.glob("runs/single/*")
    return run


def test_all_sheets_and_a_page_of_them(start, mistake, tmp_path, trained):
    run = shutil.copytree(trained, tmp_path / trained.name)
    done = start("see", f"run={run}", "n=2", "channels=2")
    assert done.returncode == 0, done.output
    page = (run / "see" / "index.html").read_text()
    sheets = ("filters", "activations", "field", "deconvnet", "attribution", "maximise")
    sheets += ("probes", "dynamics")
    assert re.findall(r"<h2>(\w+)</h2>", page) == [name.capitalize() for name in sheets]
    assert page.count("data:image/png;base64,") == 8
    assert all((run / "see" / f"{name}.png").is_file() for name in sheets)
    numbers = json.loads((run / "see" / "dynamics.json").read_text())["resnet8 on fashion_mnist"]
    assert list(numbers) == ["0", "4", "10"]  # drawn, kept, last
    own = tmp_path / "own.png"
    Image.fromarray(np.arange(400, dtype=np.uint8).reshape(20, 20)).save(own)
    looked = start("see", f"run={run}", "method=attribution", f"images={own}", "wandb=true")
    assert looked.returncode == 0, looked.output
    assert "Weights & Biases is turned off" in looked.output
    for arguments, expected in {
        ("method=probes", f"images={own}"): "method=probes needs labels",
        ("method=field", f"other={run}"): "is for method=probes, dynamics, similarity",
        ("method=cam",): "method=cam is unknown; choose one of filters",
        ("method=similarity",): "say other=DIRECTORY",
        ("split=tset",): "split=tset is not there; this run has validation, test, train",
        ("n=99999",): "give 1 to 100 images",
    }.items():
        assert expected in mistake("see", f"run={run}", *arguments)


def test_predict_answers_about_an_image_of_one_size_as_evaluation_does(start, tmp_path, trained):
    (tmp_path / "own").mkdir()
    with np.load(trained / "examples.npz") as told:
        for i, image in enumerate(told["images"]):
            Image.fromarray(image[..., 0]).save(tmp_path / "own" / f"{i:02d}.png")
        names = told["class_names"][told["predictions"]].tolist()
        expected = list(zip(names, told["confidences"].tolist(), strict=True))
    done = start("predict", "images=own", f"weights={trained}")
    assert done.returncode == 0, done.output
    found = first_answers(tmp_path / "predictions.csv")
    assert [found[f"own/{i:02d}.png"] for i in range(len(expected))] == expected


def test_a_checkpoint_of_another_net_is_said(mistake, tmp_path, trained):
    run = shutil.copytree(trained, tmp_path / trained.name)
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("depth: 8", "depth: 14"))
    told = mistake("see", f"run={run}", "method=filters")
    assert "holds a checkpoint of another net than its config.yaml says" in told
    assert "stage1/block2/" in told
