"""Operations on boxes beside torchvision's (detection_golden.npz) and beside plain loops."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deeper.models.detection import anchors, boxes, regions, suppression

HERE = Path(__file__).parent
STRIDES = (4, 8, 16, 32)
ALL = {"rpn": (1.0, 1.0, 1.0, 1.0), "head": (10.0, 10.0, 5.0, 5.0)}


@pytest.fixture(scope="module")
def golden():
    with np.load(HERE / "detection_golden.npz") as file:
        return dict(file)


def test_overlaps_and_clipped_boxes_are_torchvisions(golden):
    found = boxes.iou(golden["objects"], golden["anchors"])
    np.testing.assert_allclose(found, golden["iou"], rtol=1e-6, atol=1e-7)
    clipped = boxes.clip(jnp.asarray(golden["anchors"]), jnp.asarray([100.0, 90.0]))
    np.testing.assert_array_equal(clipped, golden["clipped"])


def test_overlaps_are_those_of_counted_pixels():
    one, other = np.array([[1, 2, 6, 7]]), np.array([[3, 0, 9, 5], [6, 7, 8, 9], [2, 2, 2, 5]])
    canvas = np.zeros((3, 10, 10), bool)
    for mask, (x1, y1, x2, y2) in zip(canvas, other):
        mask[y1:y2, x1:x2] = True
    own = np.zeros((10, 10), bool)
    own[2:7, 1:6] = True
    expected = [(own & m).sum() / (own | m).sum() for m in canvas]
    found = boxes.iou(jnp.asarray(one, jnp.float32), jnp.asarray(other, jnp.float32))
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_boxes_are_coded_as_torchvision_codes_them(golden, name):
    objects = golden["objects"][np.arange(200) % 6]
    codes = boxes.encode(jnp.asarray(objects), jnp.asarray(golden["anchors"]), ALL[name])
    np.testing.assert_allclose(codes, golden[f"codes_{name}"], rtol=1e-5, atol=1e-5)
    back = boxes.decode(codes, jnp.asarray(golden["anchors"]), ALL[name])
    np.testing.assert_allclose(back, objects, rtol=1e-4, atol=1e-3)
    far = jnp.asarray(golden[f"far_{name}"])
    decoded = boxes.decode(far, jnp.asarray(golden["anchors"]), ALL[name])
    np.testing.assert_allclose(decoded, golden[f"decoded_{name}"], rtol=1e-5, atol=1e-2)


MATCHERS = {"rpn": (0.3, 0.7, True), "head": (0.5, 0.5, False)}


@pytest.mark.parametrize("name", MATCHERS)
def test_matches_are_torchvisions_and_padding_matches_nothing(golden, name):
    low, high, also_best = MATCHERS[name]
    overlaps = np.full((9, 205), 1.0, np.float32)  # padding would be the best match
    overlaps[:6, :200] = golden["iou"]
    is_object, is_box = np.arange(9) < 6, np.arange(205) < 200
    found = boxes.match(overlaps, is_object, is_box, low=low, high=high, also_best=also_best)
    np.testing.assert_array_equal(found[:200], golden[f"matches_{name}"])
    assert (found[200:] == boxes.NOTHING).all()


def test_without_objects_every_box_matches_nothing():
    overlaps, none, boxed = jnp.zeros((3, 4)), jnp.zeros(3, bool), jnp.ones(4, bool)
    found = boxes.match(overlaps, none, boxed, low=0.3, high=0.7, also_best=True)
    assert (found == boxes.NOTHING).all()


@pytest.mark.parametrize(
    ("n_positive", "n_negative", "expected"),
    [(50, 50, (8, 24)), (3, 50, (3, 29)), (50, 5, (8, 5)), (0, 100, (0, 32)), (0, 0, (0, 0))],
)
def test_a_sample_has_its_share_of_positives_and_is_filled_with_negatives(
    n_positive, n_negative, expected
):
    rng = np.random.default_rng(0)
    kind = rng.permutation([1] * n_positive + [0] * n_negative + [-1] * (100 - n_positive
                                                                         - n_negative))  # fmt: skip
    draws = rng.random(100, np.float32)
    found = boxes.sample(kind == 1, kind == 0, jnp.asarray(draws), count=32, positives=8)
    index, positive, drawn = (np.asarray(part) for part in found)
    assert (int(positive.sum()), int((drawn & ~positive).sum())) == expected
    assert len(set(index[drawn])) == drawn.sum()
    for number, is_positive in ((1, True), (0, False)):
        of_kind = np.flatnonzero(kind == number)
        smallest = of_kind[np.argsort(draws[of_kind])][: expected[0 if is_positive else 1]]
        chosen = index[drawn & (positive == is_positive)]
        assert set(chosen) == set(smallest)


def test_anchors_are_torchvisions(golden):
    ratios = (0.5, 1.0, 2.0)
    given = ((5, 7), [16, 16], (32,)), ((3, 4), [26, 28], (64, 80))
    found = [anchors.over_map(s, jnp.asarray([step]), sizes, ratios)[0] for s, step, sizes in given]
    np.testing.assert_array_equal(np.concatenate(found), golden["grid"])


def greedy(values, scores, threshold):
    """Return the kept boxes in the order in which the rule keeps them."""
    kept = []
    for place in np.argsort(-scores, kind="stable"):
        if all(float(boxes.iou(values[[place]], values[[k]])[0, 0]) <= threshold for k in kept):
            kept.append(int(place))
    return kept


WAYS = {
    "default": suppression.keep_sorted,
    "all at once": lambda b, m, t: suppression.all_at_once(t, b, m),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_suppression_keeps_what_torchvision_keeps(golden, way, threshold):
    order = np.argsort(-golden["scores"])
    ranked = jnp.asarray(golden["crowded"][order])
    is_box = jnp.ones(len(order), bool)
    kept = jax.jit(WAYS[way], static_argnums=2)(ranked, is_box, threshold)
    np.testing.assert_array_equal(order[np.asarray(kept)], golden[f"nms_{threshold}"])
    padded = jnp.concatenate([ranked[:1], ranked])  # a copy of the best, as padding in front
    is_box = jnp.arange(len(padded)) > 0
    again = jax.jit(WAYS[way], static_argnums=2)(padded, is_box, threshold)
    assert not again[0]
    np.testing.assert_array_equal(again[1:], kept)


def test_detections_are_those_of_greedy_suppression_in_each_class(golden):
    values, scores = golden["crowded"].reshape(100, 3, 4), golden["scores"].reshape(100, 3)
    expected = [
        (float(scores[place, label]), label, place)
        for label in range(3)
        for place in greedy(values[:, label], scores[:, label], 0.5)
        if scores[place, label] > 0.2
    ]
    expected.sort(reverse=True)
    for count in (10, 100):
        given = partial(suppression.best_by_class, threshold=0.5, least=0.2, count=count)
        found = jax.jit(given)(jnp.asarray(values), jnp.asarray(scores))
        best, labels = np.asarray(found[1]), np.asarray(found[2])
        there = min(count, len(expected))
        np.testing.assert_array_equal(labels[:there], [e[1] for e in expected[:there]])
        np.testing.assert_array_equal(best[:there], np.float32([e[0] for e in expected[:there]]))
        for box, (_, label, place) in zip(np.asarray(found[0]), expected[:there]):
            np.testing.assert_array_equal(box, values[place, label])
        assert (labels[there:] == -1).all() and (best[there:] == 0).all()


@pytest.mark.parametrize("way", ["window", "level"])
def test_aligned_regions_and_their_gradient_are_torchvisions(golden, way):
    maps = [jnp.asarray(golden[f"map_{level}"]) for level in range(4)]
    sizes, given = jnp.asarray([[128, 96], [100, 128]]), jnp.asarray(golden["regions"])
    forward, backward = {
        "window": (regions.by_window, regions.gradient_by_window),
        "level": (regions.by_gathering, regions.gradient_by_level),
    }[way]
    level = regions.levels_of(given, STRIDES)
    of_regions = regions.in_maps(given, level, sizes, STRIDES)
    found = jax.jit(partial(forward, 7))(maps, of_regions)
    np.testing.assert_allclose(found, golden["aligned"], rtol=1e-4, atol=2e-5)
    gradient = jax.jit(partial(backward, 7))(maps, of_regions, jnp.asarray(golden["weight"]))
    for level, one in enumerate(gradient):
        np.testing.assert_allclose(one, golden[f"gradient_{level}"], rtol=1e-4, atol=1e-4)


def test_a_region_of_any_shape_is_aligned_alike_by_window_and_by_gathering():
    rng = np.random.default_rng(1)
    maps = [jnp.asarray(rng.normal(size=(1, 80, 72, 2)), jnp.float32)]
    sides = np.array([[3, 3], [7, 8], [30, 30], [60, 8], [8, 60], [70, 70], [14.5, 0.1]])
    start = rng.uniform(0, 1, (7, 2)) * np.maximum(0, [72, 80] - sides)
    given = jnp.asarray(4 * np.concatenate([start, start + sides], axis=1)[None], jnp.float32)
    sizes = jnp.asarray([[320, 288]])
    found = regions.align(maps, given, sizes, (4,), 7)
    level = jnp.zeros((1, 7), jnp.int32)
    of_regions = regions.in_maps(given, level, sizes, (4,))
    expected = regions.by_gathering(7, tuple(maps), of_regions)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_gradient_of_many_regions_of_some_levels_is_that_of_gathering():
    rng = np.random.default_rng(2)
    maps = [jnp.asarray(rng.normal(size=(2, side, side, 2)), jnp.float32) for side in (16, 8, 4)]
    start = rng.uniform(0, 40, (2, 300, 2))
    given = jnp.asarray(np.concatenate([start, start + rng.uniform(2, 24, start.shape)], axis=-1))
    level = jnp.asarray(rng.choice([0, 2], (2, 300), p=[0.95, 0.05]))  # none is of the second
    sizes = jnp.asarray([[64, 64], [60, 64]])
    of_regions = regions.in_maps(given.astype(jnp.float32), level, sizes, (4, 8, 16))
    found, backward = jax.vjp(lambda maps: regions.by_gathering(3, maps, of_regions), tuple(maps))
    cotangent = jnp.asarray(rng.normal(size=found.shape), jnp.float32)
    for one, other in zip(
        jax.jit(partial(regions.gradient_by_level, 3))(tuple(maps), of_regions, cotangent),
        backward(cotangent)[0],
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_pooled_regions_and_their_gradient_are_torchvisions(golden):
    values, given = jnp.asarray(golden["map_1"]), jnp.asarray(golden["regions"])
    whole = jnp.asarray([[128, 128], [128, 128]])

    def weighted(values):
        found = regions.pool(values, given, whole, 8, 7)
        return (found * golden["weight"]).sum(), found

    gradient, found = jax.jit(jax.grad(weighted, has_aux=True))(values)
    np.testing.assert_array_equal(found, golden["pooled"])
    np.testing.assert_allclose(gradient, golden["pool_gradient"], rtol=1e-5, atol=1e-6)
