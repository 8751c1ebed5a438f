"""First-layer filters of sequences: what they are said to answer to is what they answer to."""

import numpy as np
import pytest

from deeper.interpret.sequence_filters import (
    draw_responses,
    draw_tokens,
    response,
    strongest_tokens,
)


@pytest.mark.parametrize("hz", [500.0, 1500.0, 3000.0])
def test_the_response_of_a_wave_is_largest_at_its_frequency(hz):
    rate, length = 8000.0, 80
    wave = np.sin(2 * np.pi * hz * np.arange(length) / rate)
    sizes = response(wave[:, None, None])
    frequencies = np.linspace(0.0, rate / 2, len(sizes))
    assert frequencies[sizes[:, 0].argmax()] == pytest.approx(hz, abs=rate / 2 / len(sizes))


def test_the_response_is_that_of_the_filters_output():
    kernel = np.random.default_rng(0).normal(size=(9, 2, 3))
    places = np.arange(4000)
    wave = np.cos(2 * np.pi * 0.125 * places)
    passed = np.stack([np.convolve(wave, kernel[:, 0, f], "valid") for f in range(3)])
    loud = passed.std(axis=1) / wave.std()
    sizes = response(kernel[:, :1])
    np.testing.assert_allclose(sizes[len(sizes) // 4], loud, rtol=2e-2)


def test_the_strongest_tokens_have_the_largest_products():
    vectors = np.eye(4)
    kernel = np.zeros((2, 4, 1))
    kernel[0, 2], kernel[1, 3], kernel[1, 0] = 5.0, 1.0, 2.0
    values, places = strongest_tokens(kernel, vectors)
    assert places[0, 0, 0] == 2 and places[1, 0, :2].tolist() == [0, 3]
    assert values[1, 0, :2].tolist() == [2.0, 1.0]


def test_any_symbol_and_any_number_of_filters_are_drawn(tmp_path):
    kernel = np.random.default_rng(0).normal(size=(3, 4, 70)).astype(np.float32)
    draw_tokens("t", kernel, np.eye(4), ["$x$", " ", "_", "a" * 50], tmp_path / "a.png")
    draw_responses("t", kernel, tmp_path / "b.png")
    draw_responses("t", kernel[..., :1], tmp_path / "c.png", 8000)
    assert all((tmp_path / name).stat().st_size > 5000 for name in ("a.png", "b.png", "c.png"))
