"""`deeper see` end to end."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

import deeper
from deeper.interpret.attribution import METHODS
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


@pytest.mark.long
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
    with np.load(run / "see" / "attribution.npz") as drawn:
        assert drawn["names"].tolist() == ["validation 0", "validation 1"]
        assert set(METHODS) == {name.split("/")[0] for name in drawn if name.endswith("/maps")}
    looked = start(
        "see", f"run={run}", "method=attribution", f"images={own}", "wandb=true",
        "attribution=[gradient,grad_cam]", "classes=[3,bag]", "out=own",
    )  # fmt: skip
    assert looked.returncode == 0, looked.output
    assert "Weights & Biases is turned off" in looked.output
    assert "Grad-CAM: maps of stage2, 7x7: those of stage3 have 4x4" in looked.output
    with np.load(tmp_path / "own" / "attribution.npz") as drawn:
        assert drawn["names"].tolist() == ["own.png", "own.png"]
        assert drawn["classes"].tolist() == [3, 8] and drawn["class_names"][8] == "Bag"
        assert drawn["grad_cam/maps"].shape == drawn["gradient/maps"].shape == (2, 28, 28)
        assert "occlusion/maps" not in drawn
    for arguments, expected in {
        ("method=probes", f"images={own}"): "method=probes needs labels",
        ("method=field", f"other={run}"): "is for method=probes, dynamics, similarity",
        ("method=cam",): "method=cam is unknown; choose one of filters",
        ("method=similarity",): "say other=DIRECTORY",
        ("split=tset",): "split=tset is not there; this run has validation, test, train",
        ("n=99999",): "give 1 to 100 images",
        ("method=attribution", "classes=[10]"): "0 to 9",
        ("method=maximise", "classes=[bga]"): "Bag",
        ("method=field", "classes=[1]"): "classes= is for method=attribution, maximise",
        ("attribution=[cam]",): "choose of gradient",
        ("score=cam",): "choose of insertion",
        ("score=all", "method=field"): "leave method=",
    }.items():
        assert expected in mistake("see", f"run={run}", *arguments)


@pytest.mark.long
def test_methods_of_attribution_are_scored_from_the_command_line_and_in_python(
    said, tmp_path, trained
):
    out = tmp_path / "scores"
    chosen = ("attribution=gradient", "score=[deletion,sanity]", "n=2", f"out={out}")
    told = said("see", f"run={trained}", "split=test", *chosen)
    assert re.search(r"\| gradient \| \d\.\d\d ± \d\.\d\d \| ", told)
    assert (out / "scores.png").is_file() and "<h2>Scores" in (out / "index.html").read_text()
    numbers = json.loads((out / "scores.json").read_text())
    found = deeper.load(trained).score("gradient", ["deletion", "sanity"], n=2)
    assert list(numbers["scores"]["gradient"]["sanity"])[-1] == "conv1"
    assert numbers["scores"]["gradient"]["deletion"]["mean"] == pytest.approx(
        found.by_method["gradient"]["deletion"]["mean"], abs=1e-3
    )


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
