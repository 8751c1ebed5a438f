"""Photographs: decoded as Pillow does, cropped as the papers do, stored as TFDS reads them."""

import io
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image

from deeper.data import array_records, crops, jpeg, jpeg_restart
from deeper.data.crops import Box, Crop
from deeper.data.dataset import open_dataset
from deeper.data.decode_pool import Processes
from deeper.data.encoded_images import Photographs, View, open_photographs
from deeper.data.epoch_order import batch_indices
from deeper.data.host_batches import Workers, stream
from deeper.data.prepare.image_folder import read_tree
from deeper.data.prepare.imagenet import TRAIN_TAR, VALIDATION_TAR, read_imagenet
from deeper.data.prepare.jpeg_storage import Storage
from deeper.data.prepare.prepare import prepare_photographs
from deeper.data.splitting import hold_out
from deeper.errors import UserError

RNG = np.random.default_rng(0)
VIEW = View((32, 32, 3), "inception", 36, antialias=True)


def photograph(height, width, mode="RGB"):
    """Return something with edges and slopes."""
    coarse = RNG.integers(0, 256, (height // 16 + 2, width // 16 + 2, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def encoded(picture, form="JPEG", **options):
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def prepared_from(data_dir, tree, fraction=0.15):
    return prepare_photographs("pets", data_dir, lambda: read_tree(tree, fraction), 3)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Three classes of 14 photographs."""
    root = tmp_path_factory.mktemp("tree")
    for label in ("cat", "dog", "emu"):
        (root / label).mkdir()
        for i in range(14):
            picture = photograph(*RNG.integers(40, 90, 2))
            (root / label / f"{i:02d}.jpg").write_bytes(encoded(picture, quality=90))
    return root


@pytest.fixture(scope="module")
def prepared(tree, tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("data")
    prepared_from(data_dir, tree)
    return data_dir


# --- decoding -----------------------------------------------------------------------------------

TURNED = Image.Exif()
TURNED[0x0112] = 6  # a quarter
CASES = {
    "4:2:0": encoded(photograph(75, 101), quality=92),
    "4:4:4": encoded(photograph(75, 101), quality=97, subsampling=0),
    "progressive": encoded(photograph(64, 50), quality=85, progressive=True),
    "grey": encoded(photograph(40, 61, "L"), quality=90),
    "CMYK": encoded(photograph(40, 61, "CMYK"), quality=90),
    "PNG under another name": encoded(photograph(33, 20), "PNG"),
    "PNG with a palette": encoded(photograph(33, 20, "P"), "PNG"),
    "turned by EXIF": encoded(photograph(33, 20), quality=90, exif=TURNED),
}


@pytest.mark.parametrize("data", CASES.values(), ids=CASES)
@pytest.mark.parametrize("channels", [1, 3])
def test_whatever_a_file_is_its_pixels_are_pillows(data, channels):
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB" if channels == 3 else "L"))
    expected = expected.reshape(*expected.shape[:2], channels)
    np.testing.assert_array_equal(jpeg.decode(data, channels, "x"), expected)
    assert jpeg.size_of(data, "x") == expected.shape[:2]


LARGE = {
    "4:2:0": {"quality": 92},
    "4:2:2": {"quality": 92, "subsampling": 1},
    "4:4:4": {"quality": 97, "subsampling": 0},
    "restart markers": {"quality": 90, "restart_marker_rows": 1},
    "progressive": {"quality": 85, "progressive": True},
}


@pytest.mark.parametrize("options", LARGE.values(), ids=LARGE)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_rows_that_are_needed_are_those_of_the_whole(options, mode):
    data = encoded(photograph(301, 203, mode), **options)
    whole = jpeg.decode(data, 3, "x")
    for rows in (1, 31, 32, 100, 161, 300, 301):
        found = jpeg.decode(data, 3, "x", Box(0, 10, rows, 150))
        np.testing.assert_array_equal(found, whole[:rows, 10:150])


def test_a_file_cut_short_is_refused_though_its_rows_are_there():
    data = encoded(photograph(301, 203), quality=92)
    with pytest.raises(UserError, match="x cannot be decoded"):
        jpeg.decode(data[: len(data) // 2], 3, "x", Box(0, 0, 64, 64))


LAID = LARGE | {
    "with EXIF and a profile": {"exif": TURNED, "icc_profile": b"x" * 3000, "quality": 80},
}


transcoder = pytest.mark.skipif(
    shutil.which(jpeg_restart.PROGRAM) is None, reason="there is no jpegtran (libjpeg-turbo-progs)"
)


@transcoder
@pytest.mark.parametrize("options", LAID.values(), ids=LAID)
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("size", [(301, 203), (97, 160), (20, 9)])
def test_files_laid_out_anew_have_the_same_pixels_part_by_part(options, mode, size):
    data = encoded(photograph(*size, mode), **options)
    laid = jpeg_restart.with_restart_markers(data)
    whole = jpeg.decode(data, 3, "x")
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(laid)).convert("RGB")), whole)
    header = jpeg_restart.read_header(laid)
    rng = np.random.default_rng(0)
    for _ in range(30):
        top, left = rng.integers(size[0]), rng.integers(size[1])
        box = Box(top, left, rng.integers(top, size[0]) + 1, rng.integers(left, size[1]) + 1)
        np.testing.assert_array_equal(
            jpeg.decode(laid, 3, "x", box), whole[box.top : box.bottom, box.left : box.right]
        )
        assert len(jpeg_restart.splice(laid, header, box).data) <= len(laid)


@transcoder
def test_a_part_is_made_of_a_part_of_the_bytes():
    laid = jpeg_restart.with_restart_markers(encoded(photograph(375, 500), quality=95))
    part = jpeg_restart.splice(laid, jpeg_restart.read_header(laid), Box(100, 100, 200, 200))
    assert len(part.data) < len(laid) / 4


@transcoder
def test_what_is_no_plain_jpeg_is_not_laid_out_anew():
    for kind in ("CMYK", "PNG under another name"):
        assert jpeg_restart.with_restart_markers(CASES[kind]) is None
    assert jpeg_restart.with_restart_markers(CASES["4:2:0"][:500]) is None


def test_wrong_ways_to_store_are_said(monkeypatch, prepared, tree):
    with pytest.raises(UserError, match="layout=restrat is unknown"):
        Storage("restrat")
    with pytest.raises(UserError, match="shorter_side=0"):
        Storage(shorter_side=0)
    with pytest.raises(UserError, match=r"prepared already .* with shorter_side=None: move"):
        prepare_photographs("pets", prepared, lambda: tree, 3, Storage(shorter_side=30))
    monkeypatch.setattr(jpeg_restart, "PROGRAM", "jpegtran-that-is-not-there")
    with pytest.raises(UserError, match="libjpeg-turbo-progs"):
        Storage("restart")


@transcoder
def test_the_layout_changes_no_batch(prepared, tree, tmp_path):
    def read():
        return read_tree(tree, 0.15)

    path = prepare_photographs("pets", tmp_path, read, 3, Storage("restart"))
    assert b"deeper restart" in next(path.glob("*train.array_record*")).read_bytes()
    for crop in ("inception", "resnet"):
        view = replace(VIEW, crop=crop)
        plain, laid = (open_dataset("pets", d, view=view).splits for d in (prepared, tmp_path))
        numbers = partial(batch_indices, 36, 20, 0)
        for split, seed in (("train", 7), ("test", None)):
            shown = numbers if split == "train" else np.arange(6).reshape(1, 6).__getitem__
            streams = [stream(s[split], shown, 0, stop=1, seed=seed) for s in (plain, laid)]
            for one, other in zip(*streams, strict=True):
                np.testing.assert_array_equal(one["image"], other["image"])
                np.testing.assert_array_equal(one["label"], other["label"])


def test_photographs_are_made_smaller_once():
    data = encoded(photograph(120, 90), quality=95)
    expected = Image.open(io.BytesIO(data)).resize((45, 60), Image.Resampling.BICUBIC)
    assert Storage(shorter_side=45).of(data, 3, "x") == encoded(expected, quality=95)
    assert Storage(shorter_side=90).of(data, 3, "x") is data


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("name", ["inception", "vgg", "resnet", "alexnet"])
def test_a_crop_of_the_needed_pixels_is_that_of_the_whole(name, antialias):
    if not antialias:
        pytest.importorskip("cv2", reason="needs the extra opencv, which .ci/run installs")
    pixels = np.asarray(photograph(301, 203))
    for crop in many(name, (301, 203), (64, 64), 40):
        box = crop.box((301, 203), (64, 64))
        part = pixels[box.top : box.bottom, box.left : box.right]
        found = cut_part(part, crop, (64, 64), box, antialias)
        whole = cut(pixels, crop, (64, 64), antialias)
        difference = np.abs(found.astype(int) - whole)
        # Places are float32 in Pillow, 32nds of a pixel in OpenCV: shifted, some round otherwise.
        assert difference.max() <= (1 if antialias else 8) and np.mean(difference > 0) < 0.01
        assert name != "inception" or difference.max() == 0


def test_an_inception_crop_is_cropped_then_resized():
    picture = photograph(301, 203)
    for crop in many("inception", (301, 203), (64, 64), 20):
        box = (crop.left, crop.top, crop.left + crop.width, crop.top + crop.height)
        expected = np.asarray(picture.crop(box).resize((64, 64), Image.Resampling.BILINEAR))
        expected = expected[:, ::-1] if crop.mirrored else expected
        np.testing.assert_array_equal(cut(np.asarray(picture), crop, (64, 64)), expected)


def test_fast_antialiasing_is_within_one_grey_level_of_pillows():
    pytest.importorskip("cykooz_resizer", reason="needs the extra resizer, which .ci/run installs")
    rng = np.random.default_rng(0)
    equal = []
    for number in range(200):
        height, width, tall, wide = (*rng.integers(20, 400, 2), *rng.integers(8, 260, 2))
        channels = (1, 3)[number % 2]
        if number % 3:  # noise, and black beside white
            pixels = rng.integers(0, 256, (height, width, channels), np.uint8)
            pixels = pixels if number % 3 == 1 else np.where(pixels < 128, 0, 255).astype(np.uint8)
        else:
            pixels = np.asarray(photograph(int(height), int(width)))[..., :channels]
        down, along = rng.uniform(4, height), rng.uniform(4, width)
        top, left = rng.uniform(0, height - down), rng.uniform(0, width - along)
        crop = Crop(top, left, down, along, bool(rng.integers(2)))
        pillows, fast = (cut(pixels, crop, (tall, wide), how) for how in (True, "fast"))
        assert np.abs(pillows.astype(int) - fast).max() <= 1, (pixels.shape, pillows.shape, crop)
        equal.append(np.mean(pillows == fast))
    assert np.mean(equal) > 0.8


def test_without_antialiasing_four_pixels_make_one():
    pytest.importorskip("cv2", reason="needs the extra opencv, which .ci/run installs")
    ramp = np.arange(120, dtype=np.float64)
    pixels = np.repeat(np.round(ramp[None, :, None] + ramp[:, None, None]), 3, 2).astype(np.uint8)
    for crop in (Crop(10, 20, 60, 48, False, crop_first=True), Crop(10.25, 20.5, 60.0, 48.0, True)):
        rows = crop.top + (np.arange(24) + 0.5) * crop.height / 24 - 0.5
        columns = crop.left + (np.arange(32) + 0.5) * crop.width / 32 - 0.5
        columns = columns[::-1] if crop.mirrored else columns
        expected = rows[:, None] + columns
        found = cut(pixels, crop, (24, 32), antialias=False)
        assert np.abs(found[..., 0] - expected).max() <= 0.6
    # Every second pixel is white; a filter that does not widen sees some of them alone.
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::4] = 255
    crop = Crop(0, 0, 64, 64, False, crop_first=True)
    assert np.ptp(cut(stripes, crop, (16, 16))) < np.ptp(stripes) / 4
    found = cut(stripes, crop, (16, 16), antialias=False)
    assert len(np.unique(found)) == 1 and found[0, 0, 0] in (0, 127, 128)


def test_what_is_no_picture_is_said_by_name():
    whole = CASES["4:2:0"]
    for data in (b"", b"no picture", whole[:300], whole[: len(whole) // 2]):
        with pytest.raises(UserError, match=r"cat/3\.jpg"):
            jpeg.decode(data, 3, "cat/3.jpg")
    height = whole.index(b"\xff\xc0") + 5
    for claim, message in ((20_000, "20000x20000 pixels"), (65_535, "bomb.jpg is too large")):
        side = claim.to_bytes(2, "big")
        bomb = whole[:height] + side + side + whole[height + 4 :]
        with pytest.raises(UserError, match=message):
            jpeg.decode(bomb, 3, "bomb.jpg")


def test_damaged_files_end_in_a_picture_or_a_sentence():
    rng = np.random.default_rng(1)
    seen = set()
    for number in range(300):
        data = bytearray(list(CASES.values())[number % len(CASES)])
        for place in rng.integers(2, len(data), rng.integers(1, 6)):
            data[place] = rng.integers(256)
        try:
            pixels = jpeg.decode(bytes(data), 3, "x")
            assert pixels.ndim == 3 and pixels.shape[2] == 3
            seen.add("picture")
        except UserError:
            seen.add("sentence")
    assert seen == {"picture", "sentence"}


# --- crops --------------------------------------------------------------------------------------


def cut(pixels, crop, out, antialias=True):
    """Cut a crop out of a whole photograph, of which all is looked at."""
    box = crop.box(pixels.shape[:2], out) if crop.crop_first else Box(0, 0, *pixels.shape[:2])
    part = pixels[box.top : box.bottom, box.left : box.right]
    return cut_part(part, crop, out, box, antialias)


def cut_part(part, crop, out, box, antialias):
    """Cut a crop out of the part of a photograph that it needs."""
    image = np.empty((*out, part.shape[2]), np.uint8)
    crops.cut_into(image, part, crop, box, antialias)
    return image


def many(name, size, out=(224, 224), count=2000):
    draw = crops.draw_of(name)
    return [draw(np.random.default_rng(i), size, out) for i in range(count)]


@pytest.mark.parametrize("name", ["inception", "vgg", "resnet", "alexnet"])
@pytest.mark.parametrize("size", [(375, 500), (500, 333), (30, 400)])
def test_crops_lie_inside_and_half_are_mirrored(name, size):
    found = many(name, size)
    for crop in found:
        assert crop.top >= 0 and crop.left >= 0 and crop.height > 0 and crop.width > 0
        assert crop.top + crop.height <= size[0] + 1e-6
        assert crop.left + crop.width <= size[1] + 1e-6
    assert 0.45 < np.mean([crop.mirrored for crop in found]) < 0.55


def test_crops_are_as_large_as_the_papers_say():
    height, width = 375, 500
    shares = [c.height * c.width / (height * width) for c in many("inception", (height, width))]
    assert min(shares) < 0.1 and max(shares) > 0.85 and 0.4 < np.mean(shares) < 0.6
    ratios = [c.width / c.height for c in many("inception", (height, width))]
    assert 0.74 < min(ratios) < 0.8 and 1.25 < max(ratios) < 1.35
    for name, (least, most) in {"vgg": (256, 512), "resnet": (256, 480)}.items():
        scales = [224 * height / c.height for c in many(name, (height, width))]
        assert round(min(scales)) == least and round(max(scales)) == most
    square = many("alexnet", (height, width))
    assert all(c.left >= 62 and c.left + c.width <= 62 + 375 + 1e-6 for c in square)
    assert {round(c.height) for c in square} == {round(375 * 224 / 256)}


@pytest.mark.parametrize("size", [(375, 500), (500, 331), (256, 256), (90, 1200)])
def test_middle_is_resize_and_centre_crop(size):
    """As torchvision does it: resize the shorter side to 256, cut out the middle 224."""
    picture = photograph(*size)
    height, width = size
    if height <= width:
        resized = picture.resize((int(256 * width / height), 256), Image.Resampling.BILINEAR)
    else:
        resized = picture.resize((256, int(256 * height / width)), Image.Resampling.BILINEAR)
    left, top = round((resized.width - 224) / 2), round((resized.height - 224) / 2)
    expected = np.asarray(resized.crop((left, top, left + 224, top + 224)), int)
    crop = crops.middle(size, (224, 224), 256)
    found = cut(np.asarray(picture), crop, (224, 224)).astype(int)
    assert np.abs(found - expected).max() <= 1  # a level, where Pillow rounds a box's edge


def test_a_mirrored_crop_is_the_crop_mirrored():
    pixels = np.asarray(photograph(60, 80))
    one = cut(pixels, Crop(5, 7, 40, 50, False), (32, 32))
    other = cut(pixels, Crop(5, 7, 40, 50, True), (32, 32))
    np.testing.assert_array_equal(one[:, ::-1], other)


def test_wrong_crops_are_said():
    with pytest.raises(UserError, match=r"data\.crop=incption is unknown; choose inception, vgg"):
        crops.draw_of("incption")
    with pytest.raises(UserError, match=r"data\.shorter_side=200 is less than the net's 224"):
        crops.middle((300, 300), (224, 224), 200)


# --- stored -------------------------------------------------------------------------------------


def test_tfds_reads_what_was_prepared_and_bytes_are_untouched(tree, prepared):
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(prepared / "pets" / "1.0.0")
    source = builder.as_data_source("train", decoders={"image": tfds.decode.SkipDecoding()})
    directory = prepared / "pets" / "1.0.0"
    own = array_records.open_records(directory, "train")
    labels = array_records.labels_of(directory, "train", None)
    names = builder.info.features["label"].names
    assert builder.info.splits["test"].num_examples == 6
    assert len(source) == len(own) == len(labels) == 36
    for i in (0, 17, 35):
        theirs, mine = source[i], array_records.fields(own[i])
        assert theirs["image"] == mine["image"]
        assert theirs["label"] == mine["label"] == labels[i]
        assert theirs["file_name"] == mine["file_name"]
        name = mine["file_name"].decode()
        assert (tree / name).read_bytes() == mine["image"]
        assert names[labels[i]] == name.split("/")[0]
    assert "tensorflow" not in sys.modules


def test_labels_that_nobody_noted_are_read(prepared, tmp_path):
    directory = prepared / "pets" / "1.0.0"
    noted = array_records.labels_of(directory, "train", None)
    (directory / "labels-train.npy").rename(tmp_path / "aside.npy")
    told = []
    read = array_records.labels_of(directory, "train", lambda *one: told.append(one))
    np.testing.assert_array_equal(read, noted)
    assert told == [("labels of train", 36, 36)]


def cut_in_half(directory):
    path = next(directory.glob("*train.array_record*"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path.name


def with_flipped_bytes(directory):
    path = next(directory.glob("*train.array_record*"))
    data = bytearray(path.read_bytes())
    for place in range(200, len(data) - 200, 997):
        data[place] ^= 255
    path.write_bytes(data)
    return path.name


def missing(directory):
    next(directory.glob("*train.array_record*")).unlink()
    return "train.array_record"


def without_a_description(directory):
    (directory / "dataset_info.json").write_text("{broken")
    return "dataset_info.json"


def with_another_description(directory):
    (directory / "dataset_info.json").write_text("[]")
    return "dataset_info.json"


DAMAGES = (
    cut_in_half,
    with_flipped_bytes,
    missing,
    without_a_description,
    with_another_description,
)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("noted", [True, False])
def test_damaged_files_of_a_prepared_set_are_named(prepared, tmp_path, damage, noted):
    shutil.copytree(prepared, tmp_path / "data")
    directory = tmp_path / "data" / "pets" / "1.0.0"
    name = damage(directory)
    if not noted:
        (directory / "labels-train.npy").unlink()
    with pytest.raises(UserError, match=f"{name}.*prepare the data set again"):
        images = open_dataset("pets", tmp_path / "data", view=VIEW).splits["train"].images
        images[np.arange(36)]


def cropped(images, rows, seed, first):
    found = np.empty((len(rows), *images.shape[1:]), np.uint8)
    images.decode_into(found, rows, seed, first)
    return found


def test_a_batch_is_a_function_of_its_number(prepared):
    train = open_dataset("pets", prepared, view=VIEW).splits["train"]
    rows = np.array([3, 1, 3])
    one, again = (cropped(train.images, rows, 0, 64) for _ in range(2))
    np.testing.assert_array_equal(one, again)
    assert (one[0] != one[2]).any()  # the same photograph, another place in the stream
    assert (cropped(train.images, rows, 1, 64) != one).any()
    np.testing.assert_array_equal(cropped(train.images, rows[1:], 0, 65), one[1:])

    def numbers(batch):
        return np.arange(4) + batch

    def first(start, seed):
        found = stream(train, numbers, start, stop=6, seed=seed)
        return {start + i: batch for i, batch in enumerate(found)}

    whole, resumed = first(0, 0), first(4, 0)
    np.testing.assert_array_equal(whole[5]["image"], resumed[5]["image"])
    np.testing.assert_array_equal(whole[2]["label"], train.labels[2:6])
    many = partial(batch_indices, 36, 40, 0)  # of several pieces
    for workers in (Workers(1), Workers(3), Workers(2, processes=True)):
        found = list(stream(train, many, 1, stop=4, seed=0, workers=workers))
        expected = list(stream(train, many, 1, stop=4, seed=0))
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one["image"], other["image"])
        alone = cropped(train.images, many(3), 0, 3 * 40)
        np.testing.assert_array_equal(found[2]["image"], alone)
    middle = first(0, None)[2]["image"]
    np.testing.assert_array_equal(middle, train.images[2:6])
    still = open_dataset("pets", prepared, view=replace(VIEW, crop="middle")).splits["train"]
    np.testing.assert_array_equal(cropped(still.images, rows, 0, 64), train.images[rows])


def test_processes_that_a_batch_system_asks_to_end_decode_on_for_the_checkpoint(prepared):
    train = open_dataset("pets", prepared, view=VIEW).splits["train"]
    rows = np.arange(36)
    with Processes(train.images, 2, slots=1, shape=(36, 32, 32, 3), seed=0) as processes:
        children = multiprocessing.active_children()
        assert len(children) == 2
        for child in children:
            os.kill(child.pid, signal.SIGTERM)  # before they listen
        slot, images = processes.take(36)
        processes.submit(slot, 0, rows, 0).result()
        for child in children:
            os.kill(child.pid, signal.SIGTERM)
        processes.submit(slot, 0, rows[:18], 0).result()
        processes.submit(slot, 18, rows[18:], 18).result()
        assert all(child.is_alive() for child in children)
        np.testing.assert_array_equal(images, cropped(train.images, rows, 0, 0))


def test_selecting_decodes_nothing_and_keeps_order(prepared):
    dataset = open_dataset("pets", prepared, view=VIEW)
    train, held = hold_out(dataset.splits["train"], 9)
    assert isinstance(train.images, Photographs)
    assert train.images.shape == (27, 32, 32, 3)
    assert np.bincount(held.labels).tolist() == [3, 3, 3]
    assert not set(train.images.numbers) & set(held.images.numbers)
    some = held.select(np.array([4, 0]))
    np.testing.assert_array_equal(some.images[0], held.images[4])
    assert some.images.identity != held.images.identity


def test_photographs_are_known_by_their_content_whatever_they_are_called(tmp_path):
    """Pictures without compression: another one changes no size and no label."""

    def fingerprint(data_dir, name, shade):
        for label in ("cat", "dog"):
            (tmp_path / "tree" / label).mkdir(parents=True, exist_ok=True)
            for i in range(3):
                picture = Image.new("RGB", (40, 40), (shade, i, 0))
                picture.save(tmp_path / "tree" / label / f"{i}.bmp")
        prepare_photographs(name, data_dir, lambda: read_tree(tmp_path / "tree", 0.3), 3)
        dataset = open_dataset(name, data_dir, view=VIEW)
        return dataset.fingerprint, dataset.splits["train"].images.identity

    first = fingerprint(tmp_path / "first", "pets", 10)
    assert fingerprint(tmp_path / "first", "animals", 10) == first
    other = fingerprint(tmp_path / "second", "pets", 200)
    assert other[0] != first[0] and other[1] != first[1]
    # Replaced where they lay: what was noted of the ones before is not believed.
    note = tmp_path / "first" / "pets" / "1.0.0" / "content.json"
    noted = note.read_text()
    shutil.copytree(tmp_path / "second", tmp_path / "first", dirs_exist_ok=True)
    note.write_text(noted)
    assert open_dataset("pets", tmp_path / "first", view=VIEW).fingerprint == other[0]


def test_a_validation_folder_is_the_test_split(tree, tmp_path):
    for name in ("train", "val"):
        (tmp_path / "source" / name).mkdir(parents=True)
        for label in ("cat", "dog", "emu"):
            (tmp_path / "source" / name / label).symlink_to(tree / label)
    found = read_tree(tmp_path / "source", 0.1)
    assert {name: len(some) for name, some in found.splits.items()} == {"train": 42, "test": 42}
    labels = [photograph.label for photograph in found.splits["train"][:12]]
    assert len(set(labels)) == 3  # shuffled: a beginning is a sample


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "there is no such directory"),
        (lambda root: (root / "train" / "a").mkdir(parents=True), "it has none"),
        (lambda root: (root / "a").mkdir(parents=True), "has no photograph"),
    ],
)
def test_trees_that_cannot_be_are_said(tmp_path, make, message):
    make(tmp_path / "tree")
    with pytest.raises(UserError, match=message):
        prepared_from(tmp_path / "data", tmp_path / "tree")


def test_names_that_are_no_text_or_no_line_are_kept_apart(tree, tmp_path):
    strange = [b"caf\xe9", "a\u2028b".encode(), b"c\nd", b"e\rf", "für".encode()]
    for name, source in zip(strange, ["cat", "dog", "emu", "cat", "dog"], strict=True):
        shutil.copytree(tree / source, tmp_path / "tree" / os.fsdecode(name))
    prepared_from(tmp_path / "data", tmp_path / "tree")
    names = open_dataset("pets", tmp_path / "data", view=VIEW).class_names
    assert set(names) == {r"caf\udce9", "a\u2028b", r"c\nd", r"e\rf", "für"}


def test_a_file_that_is_no_picture_stops_prepare_and_is_named(tree, tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / "tree" / label).mkdir(parents=True)
        for path in sorted((tree / label).iterdir())[:4]:
            (tmp_path / "tree" / label / path.name).write_bytes(path.read_bytes())
    broken = tmp_path / "tree" / "dog" / "01.jpg"
    broken.write_bytes(b"<html>404</html>")
    with pytest.raises(UserError, match=r"dog/01\.jpg is no picture"):
        prepared_from(tmp_path / "data", tmp_path / "tree", 0.3)
    broken.unlink()
    path = prepared_from(tmp_path / "data", tmp_path / "tree", 0.3)
    assert len(open_photographs(path, VIEW, lambda *told: None).splits["train"][1]) == 5


KILLED = """
import sys
from pathlib import Path
from deeper.data.prepare import shard_writer
from deeper.data.crops import Box, Crop
from deeper.data.prepare.image_folder import read_tree
from deeper.data.prepare.prepare import prepare_photographs
shard_writer.SHARD = 8000
def progress(what, done, total):
    print(done, flush=True)
def read():
    return read_tree(Path(sys.argv[1]), 0.15)
prepare_photographs("pets", Path(sys.argv[2]), read, 3, progress=progress)
"""


def test_a_killed_prepare_goes_on(tree, tmp_path, monkeypatch):
    arguments = [sys.executable, "-c", KILLED, str(tree), str(tmp_path)]
    begun = tmp_path / ".pets-begun" / "1.0.0"
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    whole = {path.name: path.stat().st_mtime_ns for path in begun.glob("pets-*")}
    assert whole
    monkeypatch.setattr("deeper.data.prepare.shard_writer.SHARD", 8000)
    path = prepared_from(tmp_path, tree)
    for name, when in whole.items():
        assert (path / name).stat().st_mtime_ns == when
    opened = open_photographs(path, VIEW, lambda *told: None)
    photographs, labels = opened.splits["train"]
    assert photographs[np.arange(36)].shape == (36, 32, 32, 3)
    assert np.bincount(labels).tolist() == [12, 12, 12]
    assert not begun.parent.exists()


# --- ImageNet -----------------------------------------------------------------------------------

WNIDS = ("n01751748", "n09193705", "n02105855")  # of the first validation photographs
COUNTS = {"train": 6, "validation": 3}


def tarred(members):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, data in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    return stream.getvalue()


@pytest.fixture(params=["tars", "class folders", "Kaggle"])
def imagenet(request, tmp_path):
    """A small ImageNet in each of the forms that people have it in."""
    files = {
        wnid: {f"{wnid}_{i}.JPEG": encoded(photograph(40, 50)) for i in range(2)} for wnid in WNIDS
    }
    held = {f"ILSVRC2012_val_{i:08d}.JPEG": encoded(photograph(50, 40)) for i in (1, 2, 3)}
    source = tmp_path / "source"
    source.mkdir()
    if request.param == "tars":
        classes = {f"{wnid}.tar": tarred(some) for wnid, some in files.items()}
        (source / TRAIN_TAR).write_bytes(tarred(classes))
        (source / VALIDATION_TAR).write_bytes(tarred(held))
    else:
        root = source / "ILSVRC/Data/CLS-LOC" if request.param == "Kaggle" else source
        folders = files | {f"../val/{w}": {f: held[f]} for w, f in zip(WNIDS, held, strict=True)}
        if request.param == "Kaggle":
            folders = files | {"../val": held}
        for folder, some in folders.items():
            (root / "train" / folder).mkdir(parents=True)
            for name, data in some.items():
                (root / "train" / folder / name).write_bytes(data)
    return source, files, held


def test_imagenet_is_found_in_each_form(imagenet, tmp_path):
    source, files, held = imagenet
    told = []

    def read():
        return read_imagenet(source, lambda *one: told.append(one), COUNTS, 3)

    found = read()
    assert found.class_names == tuple(sorted(WNIDS))
    for photograph in found.splits["train"]:
        wnid, name = photograph.name.split("/")
        assert found.class_names[photograph.label] == wnid
        assert photograph.read() == files[wnid][name]
    of_file = dict(zip(held, WNIDS, strict=True))
    for photograph in found.splits["validation"]:
        name = photograph.name.split("/")[-1]
        assert found.class_names[photograph.label] == of_file[name]
        assert photograph.read() == held[name]
    path = prepare_photographs("imagenet", tmp_path / "data", read, 3)
    assert path == tmp_path / "data" / "imagenet2012" / "5.1.0"
    dataset = open_dataset("imagenet", tmp_path / "data", view=VIEW)
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 6, "test": 3}
    assert dataset.splits["test"].images[0].shape == (32, 32, 3)


def test_what_is_left_out_of_imagenet_is_said(imagenet):
    source, _, _ = imagenet
    if (source / TRAIN_TAR).is_file():
        with tarfile.open(source / VALIDATION_TAR, "a") as tar:
            tar.addfile(tarfile.TarInfo("val/readme.txt"))
            tar.addfile(tarfile.TarInfo("val/._x.JPEG"))
    else:
        train = next(source.rglob("train"))
        (train / WNIDS[0] / "readme.txt").touch()
        (train / WNIDS[0] / "._x.JPEG").touch()
        (train / "linked").symlink_to(train / WNIDS[1])
    found = read_imagenet(source, lambda *told: None, COUNTS, 3)
    assert {"hidden", ".txt"} <= set(found.left_out)
    assert ("links to folders" in found.left_out) == (not (source / TRAIN_TAR).is_file())
    assert found.left_out[".txt"][0].endswith("readme.txt")


def test_what_imagenet_lacks_is_said(imagenet):
    source, _, _ = imagenet

    def said(sizes=COUNTS, classes=3):
        with pytest.raises(UserError) as error:
            read_imagenet(source, lambda *told: None, sizes, classes)
        return str(error.value)

    assert "has 6 photographs, not 1,281,167" in said({**COUNTS, "train": 1_281_167})
    assert "has 3 classes to train on, not 1,000" in said(classes=1000)
    if (source / TRAIN_TAR).is_file():
        (source / VALIDATION_TAR).unlink()
        assert f"{VALIDATION_TAR} is missing: image-net.org gives" in said()
        (source / VALIDATION_TAR).write_bytes(b"half a tar")
        assert "is damaged" in said()
