"""Picture files of all kinds come out as the net's shape."""

import numpy as np
import pytest
from PIL import Image

from deeper.data.pictures import picture_files, read_picture
from deeper.errors import UserError


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
    image = read_picture(name, (20, 30, 3), crop=1.0)
    assert image.shape == (20, 30, 3) and image.dtype == np.uint8
    assert image[10, 3, 0] > image[10, 3, 2] + 50  # red on the left
    assert image[10, 26, 2] > image[10, 26, 0] + 50  # blue on the right


def test_a_turned_photograph_is_turned_back(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    half_and_half().save(tmp_path / "a.jpg", exif=exif)
    image = read_picture(tmp_path / "a.jpg", (30, 20, 3), crop=1.0)
    assert image[3, 10, 0] > image[3, 10, 2] + 50  # left has come to the top
    assert image[26, 10, 2] > image[26, 10, 0] + 50


def test_grey_sixteen_bits_and_transparency(tmp_path):
    grey = np.linspace(0, 65535, 100 * 100).reshape(100, 100).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    image = read_picture(tmp_path / "grey.png", (28, 28, 1), crop=1.0)
    assert image.shape == (28, 28, 1) and image[0].mean() < 10 and image[-1].mean() > 245
    Image.new("RGBA", (50, 50), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (read_picture(tmp_path / "clear.png", (8, 8, 3), crop=1.0) == 255).all()


def test_the_middle_is_cut_out(tmp_path):
    array = np.zeros((256, 300, 3), np.uint8)
    array[16:240, 38:262] = 200
    Image.fromarray(array).save(tmp_path / "a.png")
    assert (read_picture(tmp_path / "a.png", (224, 224, 3), crop=0.875) == 200).all()


def test_what_is_no_picture_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"a\.png cannot be read"):
        read_picture(tmp_path / "a.png", (8, 8, 3), crop=1.0)
    with pytest.raises(UserError, match="no such file"):
        picture_files(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no picture in it"):
        picture_files(tmp_path / "empty")
