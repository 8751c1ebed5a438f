"""Crops of Debian's photographs: repeatable, with disjoint training and validation pixels."""

import csv
import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from deeper.data import array_records
from deeper.data.dataset import open_dataset
from deeper.data.encoded_images import View
from deeper.data.prepare import debian_photographs
from deeper.data.prepare.prepare import prepare_photographs
from deeper.errors import UserError

PACKAGES = ["lomiri-wallpapers-16.04"]
CROPS = {"train": 4, "validation": 2}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The package's files, drawn: green where training crops may be, red elsewhere."""
    root = tmp_path_factory.mktemp("root")
    for number, file in enumerate(debian_photographs.PHOTOGRAPHS[PACKAGES[0]].values()):
        width, height = (1000, 640) if number % 3 else (640, 1000)
        pixels = np.zeros((height, width, 3), np.uint8)
        pixels[..., 0] = 200
        green = pixels[: round(0.6 * height)] if height > width else pixels[:, : round(0.6 * width)]
        green[...] = (0, 200, 0)
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, quality=98, subsampling=0)
    licence = root / "usr/share/doc" / PACKAGES[0] / "copyright"
    licence.parent.mkdir(parents=True)
    licence.write_text("License: CC-BY-4.0\n")
    return root


def prepared_from(installed, root):
    def read():
        return debian_photographs.cut_photographs(
            installed, PACKAGES, CROPS, root / "crops", lambda *told: None
        )

    return prepare_photographs("photos", root / "data", read, 3)


def test_crops_are_the_same_each_time_and_of_other_pixels_in_each_split(installed, tmp_path):
    found = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        path = prepared_from(installed, tmp_path / name)
        stored = {}
        for split, colour in (("train", 1), ("validation", 0)):
            for record in array_records.open_records(path, split):
                one = array_records.fields(record)
                stored[split, one["file_name"]] = one["image"], one["label"]
                pixels = np.asarray(Image.open(io.BytesIO(one["image"]))).astype(int)
                assert max(pixels.shape) == 500 and 330 <= min(pixels.shape[:2]) <= 400
                others = np.delete(pixels, colour, axis=2)
                assert pixels[..., colour].min() > 180 and others.max() < 20
        found.append(stored)
    assert found[0] == found[1]
    assert len(found[0]) == 13 * 6


def test_licences_and_sources_lie_beside_the_data(installed, tmp_path):
    path = prepared_from(installed, tmp_path)
    assert (path / f"copyright-{PACKAGES[0]}.txt").read_text() == "License: CC-BY-4.0\n"
    rows = list(csv.DictReader((path / "photographs.csv").read_text().splitlines()))
    dataset = open_dataset(
        "photos", tmp_path / "data", view=View((32, 32, 3), "inception", 36, antialias=True)
    )
    assert tuple(sorted(row["class"] for row in rows)) == dataset.class_names
    for row in rows:
        digest = hashlib.sha256((installed / row["file"]).read_bytes()).hexdigest()
        assert row["sha256"] == digest
    assert np.bincount(dataset.splits["test"].labels).tolist() == [2] * 13


def test_what_is_missing_is_said_with_the_command_that_gets_it(installed, tmp_path):
    def said(packages, source=tmp_path):
        with pytest.raises(UserError) as error:
            debian_photographs.cut_photographs(
                source, packages, CROPS, tmp_path / "crops", lambda *told: None
            )
        return str(error.value)

    assert "apt-get install mate-backgrounds." in said(["mate-backgrounds"], installed)
    assert "nature/Dune.jpg of the Debian package mate-backgrounds" in said(["mate-backgrounds"])
    assert "give a package" in said([])
    assert "none of lomiri-wallpapers-16.04, mate-backgrounds" in said(["kde-wallpapers"])


def test_a_class_is_one_photograph_and_named_once():
    names = [name for classes in debian_photographs.PHOTOGRAPHS.values() for name in classes]
    files = [
        file for classes in debian_photographs.PHOTOGRAPHS.values() for file in classes.values()
    ]
    assert len(set(names)) == len(set(files)) == len(names) == 36
