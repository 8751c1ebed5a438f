"""Image files of all formats are read in the shape of the net's input."""

import os

import numpy as np
import pytest
from PIL import Image, ImageOps

from deeper.data import array_records, jpeg
from deeper.data.crops import Box
from deeper.data.encoded_images import View, open_photographs
from deeper.data.image_files import describe_left_out, picture_files, read_picture
from deeper.data.prepare.image_folder import checked, read_tree
from deeper.data.prepare.jpeg_storage import Storage
from deeper.data.prepare.prepare import prepare_photographs
from deeper.errors import UserError


def whole(shape, *, exif=True):
    """Return the view of a net that sees all of a picture along its shorter side."""
    return View(shape, "middle", min(shape[:2]), antialias=True, exif=exif)


def half_and_half(size=(60, 40)):
    """Left half dark red, right half light blue."""
    array = np.zeros((size[1], size[0], 3), np.uint8)
    array[:, : size[0] // 2] = (120, 10, 10)
    array[:, size[0] // 2 :] = (150, 180, 250)
    return Image.fromarray(array)


@pytest.mark.parametrize("kind", ["RGB", "CMYK", "P", "RGBA"])
def test_colours_of_every_mode(tmp_path, kind):
    name = tmp_path / ("a.jpg" if kind == "CMYK" else "a.png")
    half_and_half().convert(kind).save(name)
    image = read_picture(name, whole((20, 30, 3)))
    assert image.shape == (20, 30, 3) and image.dtype == np.uint8
    assert image[10, 3, 0] > image[10, 3, 2] + 50  # red on the left
    assert image[10, 26, 2] > image[10, 26, 0] + 50  # blue on the right


def test_a_turned_photograph_is_turned_back(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    half_and_half().save(tmp_path / "a.jpg", exif=exif)
    image = read_picture(tmp_path / "a.jpg", whole((30, 20, 3)))
    assert image[3, 10, 0] > image[3, 10, 2] + 50  # left has come to the top
    assert image[26, 10, 2] > image[26, 10, 0] + 50


def test_grey_sixteen_bits_and_transparency(tmp_path):
    grey = np.linspace(0, 65535, 100 * 100).reshape(100, 100).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    image = read_picture(tmp_path / "grey.png", whole((28, 28, 1)))
    assert image.shape == (28, 28, 1) and image[0].mean() < 10 and image[-1].mean() > 245
    Image.new("RGBA", (50, 50), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (read_picture(tmp_path / "clear.png", whole((8, 8, 3))) == 255).all()


def test_the_middle_is_cut_out(tmp_path):
    array = np.zeros((256, 300, 3), np.uint8)
    array[16:240, 38:262] = 200
    Image.fromarray(array).save(tmp_path / "a.png")
    assert (read_picture(tmp_path / "a.png", View((224, 224, 3), "middle", 256, True)) == 200).all()


def test_what_is_no_picture_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"a\.png is no picture that can be read"):
        read_picture(tmp_path / "a.png", whole((8, 8, 3)))
    with pytest.raises(UserError, match="no such file"):
        picture_files(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no picture in it"):
        picture_files(tmp_path / "empty")


@pytest.fixture
def kinds(tmp_path):
    """A tree of two classes, one file of each kind that decoders are known to disagree on."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 65535, 48 * 60).reshape(48, 60).astype(np.uint16)
    colours = half_and_half((60, 48))
    clear = colours.convert("RGBA")
    clear.putalpha(Image.fromarray(rng.integers(0, 256, (48, 60)).astype(np.uint8)))
    exif = Image.Exif()
    exif[0x0112] = 6
    for label in ("a", "b"):
        folder = tmp_path / "tree" / label
        folder.mkdir(parents=True)
        Image.fromarray(ramp).save(folder / "sixteen.png")
        Image.fromarray(ramp).save(folder / "sixteen.tiff")
        clear.save(folder / "rgba.png")
        clear.convert("LA").save(folder / "la.png")
        clear.quantize(16).save(folder / "palette.png")
        colours.convert("L").save(
            folder / "key.png", transparency=int(np.asarray(colours.convert("L"))[0, 0])
        )
        colours.convert("CMYK").save(folder / "cmyk.jpg")
        colours.convert("1").save(folder / "bits.png")
        colours.save(folder / "turned.jpg", exif=exif)
        colours.save(folder / "turned.png", exif=exif)
        colours.save(folder / "turned.webp", exif=exif)
    return tmp_path / "tree"


@pytest.mark.parametrize("exif", [True, False])
@pytest.mark.parametrize("shape", [(32, 32, 3), (32, 32, 1), (24, 40, 3)])
def test_a_file_has_the_same_pixels_in_a_data_set_and_by_itself(kinds, tmp_path, exif, shape):
    path = prepare_photographs("kinds", tmp_path, lambda: read_tree(kinds, 0.2), 3)
    view = View(shape, "inception", 36, antialias=True, exif=exif)
    images, _ = open_photographs(path, view, lambda *told: None).splits["train"]
    opened = array_records.open_records(path, "train")
    for row, number in enumerate(images.numbers):
        name = array_records.fields(opened[int(number)])["file_name"].decode()
        np.testing.assert_array_equal(images[row], read_picture(kinds / name, view), err_msg=name)


def decoded(path, channels=3, **options):
    return jpeg.decode(path.read_bytes(), channels, path.name, **options)


def test_sixteen_bits_are_scaled_to_eight_in_training_too(kinds):
    for name in ("sixteen.png", "sixteen.tiff"):
        found = decoded(kinds / "a" / name, 1)[..., 0].ravel()
        assert found[0] == 0 and found[-1] == 255 and abs(int(found[found.size // 2]) - 128) <= 1
        assert len(np.unique(found)) == 256


def test_what_is_transparent_is_white_in_training_too(tmp_path, kinds):
    colour = (200, 30, 40)
    picture = Image.new("RGBA", (20, 10), (*colour, 0))
    picture.paste((*colour, 255), (0, 0, 10, 10))
    for name, form in {
        "rgba.png": picture,
        "la.png": picture.convert("LA"),
        "palette.png": picture.quantize(4),
        "a.webp": picture,
    }.items():
        form.save(tmp_path / name, **({"lossless": True} if name == "a.webp" else {}))
        found = decoded(tmp_path / name)
        assert (found[:, 10:] == 255).all(), name
        opaque = np.asarray(picture.convert("LA" if "la" in name[:2] else "RGBA").convert("RGB"))
        np.testing.assert_array_equal(found[:, :10], opaque[:, :10])
    key = decoded(kinds / "a" / "key.png")
    assert (key[:, :30] == 255).all() and (key[:, 30:] < 255).all()


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("form", ["jpg", "png", "webp", "tiff"])
def test_every_part_of_a_turned_photograph_is_that_of_the_whole(tmp_path, turn, form):
    rng = np.random.default_rng(turn)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3)).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = turn
    path = tmp_path / f"a.{form}"
    coarse.resize((90, 71)).save(path, exif=exif)
    with Image.open(path) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    found = decoded(path, exif=True)
    np.testing.assert_array_equal(found, expected)
    assert jpeg.size_of(path.read_bytes(), "x", exif=True) == expected.shape[:2]
    for top, left, bottom, right in ((0, 0, 20, 30), (5, 50, 71, 60), (33, 10, 40, 71)):
        part = decoded(path, box=Box(top, left, bottom, right), exif=True)
        np.testing.assert_array_equal(part, expected[top:bottom, left:right])
    if form != "tiff":
        assert decoded(path).shape == (71, 90, 3)


def test_a_photograph_that_is_made_smaller_keeps_its_exif_entry(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    half_and_half((120, 80)).save(tmp_path / "a.jpg", exif=exif)
    data = Storage(shorter_side=40).of((tmp_path / "a.jpg").read_bytes(), 3, "x")
    assert jpeg.size_of(data, "x") == (40, 60)
    assert jpeg.size_of(data, "x", exif=True) == (60, 40)


def test_pixels_without_a_stated_white_are_refused(tmp_path):
    Image.fromarray(np.linspace(0, 1, 400).reshape(20, 20).astype(np.float32)).save(
        tmp_path / "f.tiff"
    )
    with pytest.raises(UserError, match=r"f\.tiff has 32-bit pixels"):
        decoded(tmp_path / "f.tiff")


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path):
    for size in ((9000, 9000), (14000, 14000), (20000, 20000)):
        Image.new("1", size).save(tmp_path / "large.png")
        with pytest.raises(UserError, match=r"large\.png"):
            read_picture(tmp_path / "large.png", whole((8, 8, 3)))
    Image.new("L", (20000, 1), 7).save(tmp_path / "long.png")
    assert (read_picture(tmp_path / "long.png", whole((224, 224, 3))) == 7).all()


def test_a_net_that_is_not_square_sees_photographs_unstretched(tmp_path):
    y, x = np.mgrid[:300, :300]
    disc = (np.hypot(x - 150, y - 150) < 60).astype(np.uint8) * 255
    Image.fromarray(disc).save(tmp_path / "disc.png")
    for shape in ((64, 128, 1), (128, 64, 1)):
        seen = read_picture(tmp_path / "disc.png", View(shape, "middle", 73, True))[..., 0] > 127
        height, width = np.ptp(np.argwhere(seen), axis=0) + 1
        assert abs(height - width) <= 1


def test_what_is_left_out_of_a_tree_is_counted_by_its_reason(tmp_path):
    tree, picture = tmp_path / "tree", half_and_half()
    for folder in ("cat", "dog", "cat/more", ".ipynb_checkpoints", "__MACOSX", "dog/.thumbnails"):
        (tree / folder).mkdir(parents=True)
        for number in range(4):
            picture.save(tree / folder / f"{number}.png")
    picture.save(tree / "in_root.png")
    for name in ("._0.png", "a.ico", "b.ico", "none"):
        picture.save(tree / "cat" / name, "PPM")
    (tree / "cat" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tree / "cat" / "linked").symlink_to(tree / "dog")
    os.mkfifo(tree / "cat" / "pipe.png")
    found = read_tree(tree, 0.25)
    assert found.class_names == ("cat", "dog")
    assert sum(map(len, found.splits.values())) == 12
    assert found.left_out == {
        "hidden": [".ipynb_checkpoints", "__MACOSX", "cat/._0.png", "dog/.thumbnails"],
        "in no class folder": ["in_root.png"],
        ".ico": ["cat/a.ico", "cat/b.ico"],
        "without a suffix": ["cat/none"],
        "broken links": ["cat/gone.png"],
        "pipes or devices": ["cat/pipe.png"],
        "links to folders": ["cat/linked"],
    }
    assert "2 .ico (cat/a.ico ...)" in describe_left_out(found.left_out)
    left_out = {}
    assert len(picture_files(tree, left_out)) == 13
    assert left_out["hidden"] == found.left_out["hidden"]


@pytest.mark.parametrize("names", [("Train", "Test"), ("training", "validation")])
def test_train_and_test_folders_are_no_classes_however_they_are_spelled(tmp_path, names):
    for folder in names:
        for label in ("a", "b"):
            (tmp_path / folder / label).mkdir(parents=True)
            half_and_half().save(tmp_path / folder / label / "0.png")
    found = read_tree(tmp_path, 0.5)
    assert found.class_names == ("a", "b")
    assert {name: len(some) for name, some in found.splits.items()} == {"train": 2, "test": 2}


def test_prepare_names_all_files_that_cannot_be_read_or_leaves_them_out(tmp_path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for number in range(6):
            half_and_half().save(tmp_path / label / f"{number}.png")
    (tmp_path / "a" / "page.jpg").write_bytes(b"<html>404</html>")
    (tmp_path / "b" / "empty.jpg").touch()
    tree = read_tree(tmp_path, 0.5)
    with pytest.raises(UserError) as error:
        checked(tree, "raise", lambda *told: None)
    said = str(error.value)
    assert "2 files" in said and "a/page.jpg is no" in said and "b/empty.jpg is no" in said
    assert "object at" not in said
    found = checked(tree, "skip", lambda *told: None)
    assert sum(map(len, found.splits.values())) == 12
    assert "2 that cannot be read" in describe_left_out(found.left_out)


def test_pictures_of_all_common_kinds_are_taken_in(tmp_path):
    kinds = {
        "JPEG": (".jpg", ".JPEG", ".jpe", ".jfif"),
        "PPM": (".ppm", ".pgm", ".pnm"),
        "JPEG2000": (".jp2", ".j2k"),
        **{name: (f".{name.lower()}",) for name in ("PNG", "WEBP", "BMP", "GIF", "TIFF", "TGA")},
    }
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for kind, suffixes in kinds.items():
            for suffix in suffixes:
                half_and_half().save(tmp_path / label / f"{kind}{suffix}", kind)
    tree = checked(read_tree(tmp_path, 0.2), "raise", lambda *told: None)
    assert not tree.left_out
    assert sum(map(len, tree.splits.values())) == 2 * sum(map(len, kinds.values()))


def test_a_link_to_a_folder_elsewhere_is_a_class_and_one_into_the_tree_is_none(tmp_path):
    tree = tmp_path / "tree"
    for place in (tree / "cat", tree / "dog", tmp_path / "horses"):
        place.mkdir(parents=True)
        for number in range(3):
            half_and_half().save(place / f"{number}.png")
    (tree / "horse").symlink_to(tmp_path / "horses")
    (tree / "again").symlink_to(tree / "cat")
    (tree / "round").symlink_to(tree)
    (tree / "above").symlink_to(tmp_path)
    found = read_tree(tree, 0.3)
    assert found.class_names == ("cat", "dog", "horse")
    assert sum(map(len, found.splits.values())) == 9
    left_out = {"links to folders of the tree itself": ["above", "again", "round"]}
    assert found.left_out == left_out
