"""Scenes of garments on photographs: boxes are around what is seen; the splits share nothing."""

import numpy as np
import pytest
from PIL import Image

from deeper.data.dataset import Split
from deeper.data.detection import detection, tables_of
from deeper.data.prepare import debian_photographs
from deeper.data.prepare.scenes import DIFFICULTIES, Difficulty, draw, scenes, side_of
from deeper.errors import UserError

PACKAGES = ["lomiri-wallpapers-16.04"]
FILES = debian_photographs.PHOTOGRAPHS[PACKAGES[0]]


def colour_of(photograph: str) -> tuple[int, int, int]:
    """Return the colour of a made-up photograph: green if scenes to train on may show it."""
    return (0, 160, 0) if side_of(photograph, FILES) == "train" else (160, 0, 0)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    for name, file in FILES.items():
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((160, 200, 3), colour_of(name), np.uint8)
        Image.fromarray(pixels).save(path, quality=98, subsampling=0)
    licence = root / "usr/share/doc" / PACKAGES[0] / "copyright"
    licence.parent.mkdir(parents=True)
    licence.write_text("License: CC-BY-4.0\n")
    return root


@pytest.fixture
def make(installed, data_dir, tmp_path):
    """Draw scenes beside the tiny Fashion-MNIST of the tests."""
    (tmp_path / "fashion_mnist").symlink_to(data_dir / "fashion_mnist")

    def draw_them(name="scenes", **others):
        given = {"side": 48, "train": 6, "test": 4, "difficulty": "medium", **others}
        scenes(str(tmp_path), name, packages=PACKAGES, source=str(installed), **given)
        return detection(str(tmp_path), name, (48, 48), 10)

    return draw_them


def test_scenes_are_the_same_each_time_and_others_by_another_seed(make):
    first, again, other = make("first"), make("again"), make("other", seed=1)
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert {name: len(part) for name, part in first.splits.items()} == {"train": 6, "test": 4}


def test_more_scenes_begin_with_the_same_ones(make, tmp_path):
    make("few"), make("many", train=9)
    few, many = (tables_of(str(tmp_path), name)[0]["train"] for name in ("few", "many"))
    by_id = dict(zip(many.ids.tolist(), many.counts.tolist(), strict=True))
    assert all(by_id[i] == n for i, n in zip(few.ids.tolist(), few.counts.tolist(), strict=True))


def test_scenes_to_train_and_to_test_on_are_of_other_photographs(make):
    dataset = make("easy", difficulty="easy", train=12, test=12)
    for split, channel in (("train", 1), ("test", 0)):
        images = dataset.splits[split].columns["image"].astype(int)
        background = images[..., 2] < 20  # garments are grey
        shown = images[..., channel] > 100
        assert (shown & background).sum() > 0.2 * background.size
        assert not (images[..., 1 - channel] > 100)[background].any()


def test_difficulty_changes_what_is_drawn_and_an_unknown_one_is_refused(make, tmp_path):
    make("easy", difficulty="easy"), make("hard", difficulty="hard")
    counts = [tables_of(str(tmp_path), name)[0]["train"].counts.mean() for name in ("easy", "hard")]
    assert counts[0] < counts[1]
    with pytest.raises(UserError, match="easy, medium, hard"):
        make("odd", difficulty="odd")


def test_other_scenes_under_one_name_are_refused(make):
    make()
    make()
    with pytest.raises(UserError, match="other annotations"):
        make(seed=5)


WHITE = Split.of(image=np.full((3, 28, 28, 1), 255, np.uint8), label=np.array([4, 7, 9], np.int32))
DARK = [np.zeros((90, 120, 3), np.uint8)]


@pytest.mark.parametrize("seed", range(5))
def test_a_box_is_around_the_pixels_of_its_garment(seed):
    one = Difficulty((1, 1), (0.2, 0.6), 0.0, 0.0, 1.0, 0)
    scene, boxes = draw(np.random.default_rng(seed), DARK, WHITE, one, 64)
    [box] = boxes
    rows, columns = np.nonzero(scene[..., 0] > 127)
    expected = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert box.corners == tuple(map(float, expected))
    assert box.area == len(rows)
    assert box.label in (4, 7, 9)
    assert not box.difficult


def test_a_garment_that_is_covered_is_difficult_and_its_box_is_of_what_is_seen():
    many = Difficulty((12, 12), (0.3, 0.6), 1.0, 0.0, 1.0, 0)
    seen = set()
    for seed in range(20):
        _, boxes = draw(np.random.default_rng(seed), DARK, WHITE, many, 64)
        for box in boxes:
            x1, y1, x2, y2 = box.corners
            assert 0 <= x1 < x2 <= 64
            assert 0 <= y1 < y2 <= 64
            assert box.area <= (x2 - x1) * (y2 - y1)
            seen.add(box.difficult)
        assert sum(box.area for box in boxes) <= 64 * 64
    assert seen == {False, True}


@pytest.mark.parametrize("name", DIFFICULTIES)
def test_no_garment_covers_more_than_the_difficulty_allows(name):
    allowed = DIFFICULTIES[name]
    for seed in range(5):
        _, boxes = draw(np.random.default_rng(seed), DARK, WHITE, allowed, 96)
        assert len(boxes) <= allowed.garments[1]
        assert any(box.difficult for box in boxes) <= (allowed.hidden > 0.75)
