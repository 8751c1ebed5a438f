"""Convolution arithmetic, compared with worked examples and XLA, and impossible layers."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from deeper.errors import UserError
from deeper.profile.conv_arithmetic import Geometry, apply
from deeper.profile.conv_figure import draw, example


def test_the_lectures_dense_layer():
    layer = Geometry("conv", 640, 480, 3, kernel=3, stride=2, padding=1, features=1000)
    assert layer.dense_parameters == 921_601_000
    assert layer.output == (320, 240, 1000)
    assert layer.parameters == 3 * 3 * 3 * 1000 + 1000
    assert layer.macs == 320 * 240 * 27 * 1000


def test_the_worked_example_of_dumoulin_and_visin():
    layer = Geometry("conv", 5, 5, 1, kernel=3)
    x, kernel = example(layer)
    # Figure 1 of arXiv:1603.07285.
    expected = [[12, 12, 17], [10, 17, 19], [9, 6, 14]]
    np.testing.assert_array_equal(apply(layer, x, kernel), expected)


@pytest.mark.parametrize("kind", ["conv", "pool", "transposed"])
@pytest.mark.parametrize(
    "numbers", [(3, 1, 0, 1), (3, 2, 1, 1), (2, 2, 0, 1), (3, 1, 2, 2), (4, 3, 1, 1), (1, 2, 0, 1)]
)
def test_sizes_and_values_are_xlas(kind, numbers):
    kernel, stride, padding, dilation = numbers
    layer = Geometry(kind, 7, 9, 1, kernel, stride, padding, dilation)
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(7, 9)), rng.normal(size=(kernel, kernel))
    side = ((padding, padding),) * 2
    if kind == "pool":
        theirs = lax.reduce_window(
            jnp.asarray(x, jnp.float32), -jnp.inf, lax.max, (kernel,) * 2, (stride,) * 2, side,
            window_dilation=(dilation,) * 2,
        )  # fmt: skip
    else:
        low = layer.extent - 1 - padding
        turned = kind == "transposed"
        theirs = lax.conv_general_dilated(
            jnp.asarray(x, jnp.float32)[None, ..., None],
            jnp.asarray(weights[::-1, ::-1] if turned else weights, jnp.float32)[..., None, None],
            (1, 1) if turned else (stride,) * 2,
            ((low, low),) * 2 if turned else side,
            lhs_dilation=(stride,) * 2 if turned else None,
            rhs_dilation=(dilation,) * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )[0, ..., 0]
    assert layer.output[:2] == theirs.shape
    np.testing.assert_allclose(apply(layer, x, weights), theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("conv", 4, 4, 1, 5), "does not fit"),
        (("conv", 5, 5, 1, 3, 1, 0, 3), "does not fit"),
        (("transposed", 1, 1, 1, 3, 1, 2), "cuts everything off"),
        (("conv", 5, 5, 3, 3, 1, 0, 1, 4, 2), "groups=2"),
        (("conv", 5, 5, 1, 3, 0), "stride=0"),
        (("fold", 5, 5, 1, 3), "kind=fold"),
    ],
)
def test_impossible_geometry_gets_a_sentence(arguments, word):
    with pytest.raises(UserError, match=word):
        Geometry(*arguments)


def test_pictures(tmp_path):
    layer = Geometry("conv", 5, 5, 1, kernel=3, stride=2, padding=1)
    for name in ("a.png", "a.svg"):
        draw(layer, tmp_path / name, animate=False)
        first = (tmp_path / name).read_bytes()
        draw(layer, tmp_path / name, animate=False)
        assert (tmp_path / name).read_bytes() == first
    draw(Geometry("transposed", 2, 2, 1, kernel=3), tmp_path / "a.gif", animate=True)
    from PIL import Image

    with Image.open(tmp_path / "a.gif") as picture:
        assert picture.n_frames == 4
    with pytest.raises(UserError, match="cannot be drawn"):
        draw(Geometry("conv", 64, 64, 1, kernel=3), tmp_path / "b.png", animate=False)
    with pytest.raises(UserError, match=r"\.gif"):
        draw(layer, tmp_path / "b.gif", animate=False)
