"""Verbs that ask nets of texts, sounds and DNA: `deeper see`, `evaluate`, `features`."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

import deeper
from deeper.interpret.attribution import METHODS
from tests.data.sound_files import tree

SHORT = (
    "train.batch_size=8", "train.steps=4", "train.steps_per_call=2", "train.log_every=2",
    "tracker.mode=disabled",
)  # fmt: skip


def trained(directory, *overrides):
    """A run of a few steps; its data are prepared first."""
    places = (f"data.dir={directory / 'data'}", f"runs={directory / 'runs'}")
    source = f"data.prepare.source={directory / 'source'}"
    config = deeper.configure(*overrides, *SHORT, *places, source)
    deeper.prepare(config)
    return deeper.train(config, progress=False)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    directory = tmp_path_factory.mktemp("texts")
    for name, word in (("bad", "awful"), ("good", "fine")):
        (directory / "source" / name).mkdir(parents=True)
        for number in range(16):
            text = f"a {word} film of <b>$x$ {number}"
            (directory / "source" / name / f"{number}.txt").write_text(text)
    return trained(
        directory, "data=texts_words", "data.name=films", "data.classes=2", "data.length=12",
        "model=textcnn", "model.maps=6", "model.features=5", "data.tokens=40", "data.validation=4",
    )  # fmt: skip


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    directory = tmp_path_factory.mktemp("sounds")
    tree(directory / "source", 12)
    return trained(
        directory, "data=sounds", "data.name=tones", "data.classes=2", "data.length=400",
        "data.kept=800", "model=waveform", "model.depth=5", "model.width_multiplier=0.1",
    )  # fmt: skip


@pytest.fixture(scope="module")
def dna(tmp_path_factory):
    directory = tmp_path_factory.mktemp("dna")
    (directory / "source").mkdir()
    rng = np.random.default_rng(0)
    for name in ("bound", "free"):
        rows = ["".join(rng.choice(list("ACGT"), 20)) for _ in range(60)]
        text = "".join(f">{name}\n{row}\n" for row in rows)
        (directory / "source" / f"{name}.fa").write_text(text)
    return trained(
        directory, "data=sequences", "data.folder=sites", "data.length=20", "model=deepbind",
        "model.motifs=4", "model.length=6",
    )  # fmt: skip


def is_drawn(path):
    """Whether a picture has more than one colour."""
    with Image.open(path) as picture:
        return len(np.unique(np.asarray(picture.convert("L")))) > 8


@pytest.mark.long
def test_filters_and_every_method_of_attribution_are_drawn_of_texts(said, texts, tmp_path):
    said("see", f"run={texts.path}", "split=test", "n=2", f"out={tmp_path / 'see'}")
    pictures = sorted(path.stem for path in (tmp_path / "see").glob("*.png"))
    methods = [f"attribution_{name}" for name in METHODS]
    assert pictures == sorted(["filters", *methods])
    assert all(is_drawn(path) for path in (tmp_path / "see").glob("*.png"))
    page = (tmp_path / "see" / "index.html").read_text()
    assert len(re.findall("<h2>", page)) == len(pictures)
    with np.load(tmp_path / "see" / "attribution.npz") as drawn:
        assert drawn["occlusion/maps"].shape == (2, 12)
        assert drawn["names"].tolist() == ["test 0", "test 1"]
        np.testing.assert_array_equal(drawn["classes"], texts.data("test")["label"][:2])


def test_a_text_and_classes_may_be_given(said, texts, tmp_path):
    said(
        "see", f"run={texts.path}", "method=attribution", "attribution=gradient",
        "inputs='a fine day'", "classes=[good,0]", f"out={tmp_path}",
    )  # fmt: skip
    assert sorted(path.stem for path in tmp_path.glob("*.png")) == ["attribution_gradient"]
    with np.load(tmp_path / "attribution.npz") as drawn:
        assert drawn["classes"].tolist() == [1, 0]
        assert drawn["gradient/maps"][:, :3].any() and not drawn["gradient/maps"][:, 3:].any()


def test_filters_of_sounds_are_drawn_without_their_data_being_moved(said, sounds, tmp_path):
    run = shutil.copytree(sounds.path, tmp_path / sounds.path.name)
    said("see", f"run={run}", "method=filters", "split=test")
    assert is_drawn(run / "see" / "filters.png")


@pytest.mark.long
def test_spectrograms_are_drawn_as_pictures(said, tmp_path):
    tree(tmp_path / "source")
    run = trained(
        tmp_path, "data=sounds", "data.name=tones", "data.classes=2", "arm=log_mel",
        "model=resnet", "model.width=4", "model.depth=8",
    )  # fmt: skip
    said("see", f"run={run.path}", "split=test", "n=1", "attribution=gradient", f"out={tmp_path}")
    assert is_drawn(tmp_path / "filters.png") and is_drawn(tmp_path / "attribution_gradient.png")
    with np.load(tmp_path / "attribution.npz") as drawn:
        assert drawn["gradient/maps"].shape == (1, 40, 63)


def test_filters_of_dna_are_motifs(said, dna, tmp_path):
    output = said("see", f"run={dna.path}", "method=filters", "split=train", f"out={tmp_path}")
    assert is_drawn(tmp_path / "filters.png") and "of 4 filters have a motif" in output


def test_what_is_of_images_alone_is_refused(mistake, texts, tmp_path):
    for arguments in (
        ["method=deconvnet"], ["images=a.png"], ["score=all"], [f"other={texts.path}"],
        ["crop=1"], ["split=validations"], ["n=100"], ["inputs=''"],
    ):  # fmt: skip
        mistake("see", f"run={texts.path}", *arguments, f"out={tmp_path}")


def test_a_net_of_sounds_is_evaluated_on_other_sounds_and_gives_their_features(
    said, sounds, tmp_path
):
    tree(tmp_path / "others", 10)
    # The number of classes is not asked for: the folders say it.
    said(
        "prepare", "data=sounds", "data.name=others", f"data.dir={tmp_path}",
        f"data.prepare.source={tmp_path / 'others'}",
    )  # fmt: skip
    others = ("data=sounds", "data.name=others", f"data.dir={tmp_path}", "data.length=400")
    out = tmp_path / "found.json"
    said("evaluate", f"run={sounds.path}", *others, "split=train", f"out={out}")
    found = json.loads(out.read_text())
    assert found["data"] == "others" and found["train/n_seen"] > 10
    out = tmp_path / "features.npz"
    said("features", f"run={sounds.path}", *others, "data.classes=2", f"out={out}")
    with np.load(out) as features:
        assert len(features["train_features"]) == found["train/n_seen"]
