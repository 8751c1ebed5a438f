"""Mixup and CutMix mix images and labels by the same shares, whatever the number of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deeper.augment.mixing import CutMix, Mixup, OneOf
from deeper.augment.pipeline import augment, mixes
from deeper.augment.policies import RandAugment
from deeper.errors import UserError
from deeper.train import losses

N, CLASSES = 32, 4
IMAGES = jnp.asarray(np.random.default_rng(0).integers(0, 256, (N, 8, 10, 3)), jnp.uint8)
LABELS = jnp.arange(N) % CLASSES
PARTNERS = np.arange(N) ^ 1


def made(kind, per_example=True, probability=1.0, alpha=1.0):
    return kind(alpha, probability, per_example, CLASSES)


BOTH = [made(Mixup), made(CutMix), made(Mixup, False), made(CutMix, False)]
BOTH += [OneOf(made(Mixup), made(CutMix), 0.5, each) for each in (True, False)]


def run(operation, images=IMAGES, labels=LABELS, rows=None, seed=0):
    rows = jnp.arange(len(images)) if rows is None else rows
    out = augment((operation,), jax.random.key(seed), rows, images, labels)
    return jax.tree.map(np.asarray, out)


@pytest.mark.parametrize("operation", BOTH)
def test_shards_of_any_size_see_the_same(operation):
    whole = run(operation)
    parts = [
        run(operation, IMAGES[i : i + 8], LABELS[i : i + 8], jnp.arange(i, i + 8))
        for i in range(0, N, 8)
    ]
    for number in (0, 1):
        np.testing.assert_array_equal(whole[number], np.concatenate([p[number] for p in parts]))


def share(targets):
    """Return each example's own share: its partner has the next or former class."""
    return targets[np.arange(N), LABELS]


@pytest.mark.parametrize("per_example", [True, False])
def test_mixup_is_a_weighted_mean_of_images_and_labels(per_example):
    images, targets = run(made(Mixup, per_example))
    own = share(targets)[:, None, None, None]
    raw = np.asarray(IMAGES, np.float32)
    np.testing.assert_allclose(images, own * raw + (1 - own) * raw[PARTNERS], atol=1e-3)
    np.testing.assert_allclose(targets.sum(axis=1), 1.0, atol=1e-6)
    assert (len(np.unique(own)) > 20) == per_example
    # Beta(1, 1) is even.
    if per_example:
        assert 0.3 < own.mean() < 0.7


@pytest.mark.parametrize("per_example", [True, False])
def test_cutmix_gives_labels_the_shares_of_the_area(per_example):
    images, targets = run(made(CutMix, per_example))
    raw = np.asarray(IMAGES, np.float32)
    own = (images == raw).all(axis=-1)
    other = (images == raw[PARTNERS]).all(axis=-1)
    assert (own | other).all()
    np.testing.assert_allclose(share(targets), own.mean(axis=(1, 2)), atol=0.02)
    for mask in other:  # a rectangle
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert mask.sum() == len(rows) * len(columns)


def test_nothing_is_mixed_at_probability_zero():
    for kind in (Mixup, CutMix):
        images, targets = run(made(kind, probability=0.0))
        np.testing.assert_array_equal(images, IMAGES)
        np.testing.assert_array_equal(targets, np.eye(CLASSES)[LABELS])


def test_the_switch_takes_either_way():
    images, _ = run(OneOf(made(Mixup), made(CutMix), 0.5, True))
    raw = np.asarray(IMAGES, np.float32)
    cut = ((images == raw) | (images == raw[PARTNERS])).all(axis=(1, 2, 3))
    assert 5 < cut.sum() < 27


def test_mixed_labels_train_on_shares_and_count_their_error():
    logits = jnp.log(jnp.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]))
    targets = jnp.array([[0.75, 0.25, 0.0], [0.5, 0.5, 0.0]])
    expected = -(np.asarray(targets) * np.asarray(logits)).sum(axis=1)
    np.testing.assert_allclose(losses.cross_entropy(logits, targets), expected, rtol=1e-5)
    smooth = 0.9 * np.asarray(targets) + 0.1 / 3
    expected = -(smooth * np.asarray(logits)).sum(axis=1)
    np.testing.assert_allclose(losses.cross_entropy(logits, targets, 0.1), expected, rtol=1e-5)
    np.testing.assert_allclose(losses.wrong(logits, targets), [0.25, 1.0])


def test_policies_after_mixing_are_refused():
    with pytest.raises(UserError, match="put it before the operations"):
        operations = (made(Mixup), RandAugment())
        augment(operations, jax.random.key(0), jnp.arange(N), IMAGES, LABELS)
    assert mixes([made(CutMix)])
    assert not mixes([RandAugment()])


def test_a_mistake_is_said_in_a_sentence():
    with pytest.raises(UserError, match="Mixup's alpha=0"):
        Mixup(0.0, 1.0, True, 10)
    with pytest.raises(UserError, match="Mixup's alpha=nan"):
        Mixup(float("nan"), 1.0, True, 10)
    with pytest.raises(UserError, match=r"CutMix's probability=1\.5"):
        CutMix(1.0, 1.5, True, 10)
