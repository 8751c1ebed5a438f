"""Figures of sequences."""

from itertools import pairwise

import numpy as np
import pytest

from deeper.interpret.sequence_figure import sequence_figure

WORDS = ["a", "considerably", "longer", "text"] * 12


@pytest.mark.parametrize("symbols", [list("abc $_^ \\" * 12), WORDS, ["w" * 90, "b"], []])
def test_symbols_are_written_once_each_on_their_own_ground(symbols):
    values = np.linspace(-1, 1, 128).astype(np.float32)
    figure = sequence_figure("heading", [values], ["title"], [symbols])
    [axes] = figure.axes
    assert [text.get_text() for text in axes.texts] == list(symbols)
    colours = axes.images[0].get_array()
    places = [(round(text.get_position()[1]), text.get_position()[0]) for text in axes.texts]
    assert len(set(places)) == len(symbols)
    for value, (line, column) in zip(values, places, strict=False):
        assert colours[line, int(column)] == pytest.approx(value)
    figure.canvas.draw()
    # Words do not run into each other.
    ends = [(line, column - len(s) / 2, column + len(s) / 2)
            for s, (line, column) in zip(symbols, places, strict=True)]  # fmt: skip
    if max(map(len, symbols), default=0) < 64:
        for (line, _, end), (other, begin, _) in pairwise(ends):
            assert other > line or begin >= end
