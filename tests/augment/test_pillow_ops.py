"""Every operation equals Pillow's and torchvision's, on a photograph and on Fashion-MNIST.

`scripts/golden` recorded the references in experiments/augmentation/golden.npz.
"""

import sys
from functools import partial
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from deeper.augment import pillow_ops as engine
from deeper.augment.crops_and_colour import blurred, resized_crop
from deeper.augment.op_table import KINDS, STRENGTHS
from deeper.augment.packed_pixels import pack
from deeper.augment.pillow_ops import transform

HERE = Path(__file__).parents[2] / "experiments" / "augmentation"
sys.path.insert(0, str(HERE))

import cases  # noqa: E402


@pytest.fixture(scope="module")
def golden():
    with np.load(HERE / "golden.npz") as file:
        return dict(file)


@partial(jax.jit, static_argnames=("fill", "bilinear"))
def compiled(kinds, strengths, images, fill, bilinear):
    return transform(kinds, strengths, images, fill=fill, bilinear=bilinear)


def applied(images, kind, strength, how="nearest"):
    fill = cases.FILL[: images.shape[-1]]
    kinds = jnp.full((len(images), 1), KINDS.index(kind))
    strengths = jnp.full((len(images), 1), strength, jnp.float32)
    return np.asarray(compiled(kinds, strengths, images, fill, how == "bilinear"))


def test_every_operation_has_references():
    assert set(cases.STRENGTHS) == set(KINDS) == set(STRENGTHS)


@pytest.mark.parametrize("which", ["photo", "grey"])
@pytest.mark.parametrize(("kind", "strength", "how"), list(cases.names()))
def test_the_operation_is_pillows(golden, which, kind, strength, how):
    found = applied(golden[which], kind, strength, how).astype(int)
    off = np.abs(found - golden[f"{which}/{kind}/{strength:g}/{how}"])
    changed = (off > 0).any(axis=-1).mean()
    if how == "bilinear" or kind == "autocontrast":  # a fraction cut off just above or below
        assert off.max() <= 1
    elif kind == "rotate":  # float32 sines: a coordinate may fall on the other side of a pixel edge
        assert changed < 0.005
    else:
        assert off.max() == 0


def test_operations_follow_one_another_and_differ_by_image(golden):
    images = np.repeat(golden["photo"], 2, axis=0)
    kinds = jnp.array([[KINDS.index("posterize"), KINDS.index("rotate")], [0, 6]])
    out = compiled(kinds, jnp.array([[4.0, 9.0], [0.0, 0.0]]), images, cases.FILL, False)
    first = applied(applied(images, "posterize", 4.0), "rotate", 9.0)
    np.testing.assert_array_equal(out[0], first[0])
    assert not np.array_equal(out[0], out[1])


@pytest.mark.parametrize("which", ["photo", "grey"])
@pytest.mark.parametrize("bilinear", [False, True])
def test_the_form_for_accelerators_gives_the_same_pixels(golden, which, bilinear):
    cycle = np.array([(k, s) for k, some in cases.STRENGTHS.items() for s in some], object)
    images = np.concatenate([golden[which]] * len(cycle))[: len(cycle)]
    kinds = jnp.array([[KINDS.index(k)] for k, _ in cycle])
    strengths = jnp.array([[s] for _, s in cycle], jnp.float32)
    channels = images.shape[-1]
    branches = engine._branches(channels, 7, bilinear)
    chosen = jnp.array([engine._branch_of(k, channels, bilinear) for k in KINDS])[kinds]
    both = [
        jax.jit(partial(form, branches))(chosen, kinds, strengths, pack(jnp.asarray(images)))
        for form in (engine._one_by_one, engine._batched)
    ]
    for (kind, _), one, other in zip(cycle, *both, strict=True):
        off = (np.asarray(one) != np.asarray(other)).mean()
        # The two round float32 products and sums of their own.
        assert off < (0.01 if kind in (*cases.GEOMETRIC, "hue") else 0.001), kind


@pytest.mark.parametrize("number", range(len(cases.CROPS)))
def test_a_resized_crop_is_pillows(golden, number):
    box, size = cases.CROPS[number]
    found = [resized_crop(jnp.asarray(image), *box, size, True) for image in golden["photo"]]
    assert np.abs(np.stack(found).astype(int) - golden[f"crop/{number}"]).max() <= 1


@pytest.mark.parametrize("number", range(len(cases.BLURS)))
def test_a_blur_is_torchvisions(golden, number):
    taps, sigma = cases.BLURS[number]
    images = jnp.asarray(golden["photo"])
    found = blurred(images, jnp.full(len(images), sigma), taps)
    assert np.abs(np.asarray(found).astype(int) - golden[f"blur/{number}"]).max() <= 1


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_the_form_for_accelerators_lowers_for_them(platform):
    shapes = (
        jax.ShapeDtypeStruct((4, 2), jnp.int32),
        jax.ShapeDtypeStruct((4, 2), jnp.float32),
        jax.ShapeDtypeStruct((4, 32, 40, 3), jnp.uint8),
    )
    exported = jax.export.export(jax.jit(transform), platforms=[platform])(*shapes)
    # The images go through it side by side: the program has no loop over them.
    loops = [line for line in exported.mlir_module().splitlines() if "stablehlo.while" in line]
    assert not any("4x32x40" in line for line in loops)
    assert exported.out_avals[0].shape == (4, 32, 40, 3)
