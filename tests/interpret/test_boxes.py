"""Boxes on photographs: where they are, with names that are data."""

import numpy as np
import pytest

from deeper.interpret.boxes import draw_boxes, one_line, sheet
from deeper.plotting import COLOURS

GREY = np.full((120, 160, 3), 128, np.uint8)


def rgb(colour):
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def test_a_box_is_drawn_on_its_own_pixels_in_the_colour_of_its_class():
    boxes = np.array([[40.0, 30, 90, 100]])
    drawn = draw_boxes(GREY, boxes, np.array([1]), None, ["a", "b"])
    assert (GREY == 128).all()
    of_class = (drawn == rgb(COLOURS[1])).all(axis=-1)
    assert of_class[30, 40:90].all()
    assert of_class[99, 40:90].all()
    assert of_class[30:100, 40].all()
    assert of_class[30:100, 89].all()
    assert not of_class[101:].any()
    assert not of_class[:, 91:].any()
    assert (drawn[60:90, 45:85] == 128).all()


def test_no_box_is_drawn_of_padding_of_no_numbers_and_none_leaves_the_photograph():
    boxes = np.array([[0.0, 0, 0, 0], [np.nan, 0, 5, 5], [-50, -50, 300, 300]])
    drawn = draw_boxes(GREY, boxes[:2], np.array([-1, 0]), np.array([0.0, 0.5]), ["a"])
    np.testing.assert_array_equal(drawn, GREY)
    drawn = draw_boxes(GREY, boxes[2:], np.array([0]), np.array([0.5]), ["a"])
    assert (drawn[-1] != 128).any()


@pytest.mark.parametrize(
    "name", ["$x^2$", "$", "a\nb", "<b>&amp;</b>", "日本", "{x}", "%s", "", "x" * 500, "\x00"]
)
def test_any_name_is_drawn_as_it_is_on_one_line(name):
    box, label = np.array([[20.0, 60, 60, 90]]), np.array([0])
    drawn = draw_boxes(GREY, box, label, np.array([0.7]), [name])
    assert drawn.shape == GREY.shape
    assert "\n" not in one_line(name)
    assert len(one_line(name)) <= 40
    # A tall text would reach higher.
    assert (drawn[:30] == 128).all()


def test_true_objects_are_dashed():
    box = np.array([[40.0, 30, 140, 100]])
    drawn = draw_boxes(GREY, box, np.array([0]), None, ["a"], dashed=True)
    upper = (drawn[30, 40:140] != 128).any(axis=-1)
    assert 0.3 < upper.mean() < 0.8


def test_a_sheet_shows_all_pictures():
    page = sheet([GREY, GREY[:50], GREY[:, :20]], columns=2)
    assert (page == 128).all(axis=-1).sum() == 120 * 160 + 50 * 160 + 120 * 20
