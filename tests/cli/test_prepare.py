"""Preparing a user's folders from the command line."""

import pytest
from PIL import Image

from deeper.config.compose import configure
from deeper.data.prepare.image_folder import read_tree
from deeper.data.prepare.prepare import prepare_photographs
from deeper.run.cost import train_size


@pytest.fixture
def tree(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / "tree" / label).mkdir(parents=True)
        for i in range(5):
            Image.new("RGB", (40, 40), (i, 0, 0)).save(tmp_path / "tree" / label / f"{i}.png")
    return tmp_path / "tree"


@pytest.mark.parametrize("name", ["mnist", "photos", "imagenet2012"])
def test_a_folder_is_not_called_as_a_known_data_set(name, mistake, tree, tmp_path):
    told = mistake(
        "prepare", "data=folder", f"data.name={name}", "data.classes=2", f"data.source={tree}",
        f"data.dir={tmp_path / 'data'}",
    )  # fmt: skip
    assert f"data.name={name} is the name of a known data set" in told
    assert not (tmp_path / "data").exists()


def test_a_folder_that_is_called_so_all_the_same_is_not_taken_for_it(mistake, tree, tmp_path):
    root = tmp_path / "data"
    prepare_photographs("mnist", root, lambda: read_tree(tree, 0.2), 3)
    told = mistake("prepare", "data=mnist", f"data.dir={root}")
    assert "is not mnist as it was published" in told
    config = configure("data=folder", "data.name=mnist", "data.classes=2", f"data.dir={root}")
    assert train_size(config) == 8


def test_a_source_that_is_gone_or_has_changed_is_not_ready(said, mistake, tree, tmp_path):
    given = (
        "prepare", "data=folder", "data.name=pets", "data.classes=2", "data.fraction=0.2",
        f"data.dir={tmp_path / 'data'}",
    )  # fmt: skip
    assert "pets is ready" in said(*given, f"data.source={tree}")
    assert "pets is ready" in said(*given, f"data.source={tree}")
    assert "pets is ready" in said(*given)
    assert "there is no such directory" in mistake(*given, "data.source=nowhere")
    Image.new("RGB", (50, 40)).save(tree / "cat" / "late.png")
    told = mistake(*given, f"data.source={tree}")
    assert "has changed since pets was prepared" in told and "move" in told
    [note] = (tmp_path / "data").glob("pets/*/source.json")
    note.unlink()  # as an older deeper prepared it
    assert "was not looked at" in said(*given, f"data.source={tree}")


def test_a_second_prepare_repeats_what_the_first_left_out(said, tree, tmp_path):
    given = (
        "prepare", "data=folder", "data.name=pets", "data.classes=2", "data.fraction=0.2",
        f"data.dir={tmp_path / 'data'}", "data.on_bad=skip",
    )  # fmt: skip
    (tree / "cat" / "page.jpg").write_bytes(b"<html>")
    (tree / "dog" / "notes.txt").touch()
    first = said(*given, f"data.source={tree}")
    for told in (first, said(*given, f"data.source={tree}"), said(*given)):
        assert "2 files or folders left out: 1 .txt (dog/notes.txt), 1 that cannot be read" in told
        assert "page.jpg is no picture" in told
    assert "files taken in: 10 .png" in first


def test_mean_and_deviation_are_held_against_the_channels_of_photographs(mistake, said):
    grey = (
        "train", "data=folder", "data.name=pets", "data.classes=2", "data.image_shape=[32,32,1]",
        "mode=dry", "model.depth=8", "model.form=cifar", "data.shorter_side=36",
    )  # fmt: skip
    assert "data.mean=[0.485, 0.456, 0.406] has 3 values" in mistake(*grey)
    assert "data.std=[0.1, 0.2] has 2 values" in mistake(
        *grey, "data.mean=[0.5]", "data.std=[0.1,0.2]"
    )
    assert "data.mean=[0.5] has 1 values" in mistake("train", "data=cifar10", "data.mean=[0.5]")
