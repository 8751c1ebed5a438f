"""Faster R-CNN: counts, forms, padding, torchvision's answers, and where weights go."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deeper.errors import UserError
from deeper.models import valid_region
from deeper.models.detection import boxes as on
from deeper.models.detection import faster_rcnn as faster_rcnn_module
from deeper.models.detection import proposals
from deeper.models.detection.faster_rcnn import Scenes, faster_rcnn
from deeper.models.detection.heads import PyramidHead, ResNetHead
from deeper.models.googlenet import googlenet
from deeper.models.initializers import initialise, shapes_of
from deeper.models.resnet import resnet
from deeper.models.vgg import vgg
from deeper.tasks.detection import losses_by_image
from deeper.weights import torchvision
from tests.models import faster_rcnn_golden as golden

SMALL = dict(  # noqa: C408
    channels=8, hidden=16, proposals_before=(40, 30), proposals_after=(30, 20), sampled=16,
    sampled_anchors=16, detections=10,
)  # fmt: skip
SHAPE = (64, 64, 3)


def small(**options):
    return faster_rcnn(resnet(18, 1, width=4), 2, **{**SMALL, **options})


@pytest.mark.parametrize(("version", "parameters"), [(1, 41_755_286), (2, 43_712_278)])
def test_a_pyramid_on_resnet50_has_torchvisions_number_of_parameters(version, parameters):
    """Of the first, torchvision counts neither scales nor shifts of frozen BatchNorm."""
    net = faster_rcnn(resnet(50, 1), 90, version=version)
    counted = [
        leaf.size
        for path, leaf in jax.tree.leaves_with_path(shapes_of(net, SHAPE)["params"])
        if version == 2 or not net.fixed(tuple(part.key for part in path))
    ]
    assert sum(counted) == parameters


def test_any_net_is_a_backbone_and_layers_behind_its_stages_are_left_out():
    nets = {
        "plain": (resnet(18, 1, width=4, residual=False), (4, 8, 16, 32)),
        "small": (resnet(8, 1, width=4), (1, 2, 4)),
        "vgg": (vgg(11, 1, hidden=8), (4, 8, 16, 32)),
        "googlenet": (googlenet(1), None),
    }
    for name, (net, strides) in nets.items():
        detector = faster_rcnn(net, 2, **SMALL)
        assert strides is None or detector.strides == strides, name
        layers = set(shapes_of(detector, SHAPE)["params"]["backbone"])
        assert not layers & {"fc", "fc1", "fc2", "fc3"}, name
    with pytest.raises(UserError, match="form=pyramid"):
        faster_rcnn(googlenet(1), 2, form="c4")


@pytest.mark.parametrize("kind", ["pyramid", "resnet c4", "vgg c4"])
def test_a_classifiers_weights_have_their_places_in_a_detector(kind):
    net = vgg(11, 5, hidden=16, pool_size=7) if kind == "vgg c4" else resnet(18, 5, width=4)
    detector = faster_rcnn(net, 2, **{**SMALL, "form": kind.split()[-1]})
    shapes = {
        jax.tree_util.keystr(path): leaf.shape
        for path, leaf in jax.tree.leaves_with_path(shapes_of(detector, SHAPE))
    }
    placed = detector.placed(shapes_of(net, SHAPE))
    given = {jax.tree_util.keystr(p): leaf.shape for p, leaf in jax.tree.leaves_with_path(placed)}
    assert {name: shapes.get(name) for name in given} == given
    new = {name.split("'")[3] for name in shapes.keys() - given.keys()}
    expected = {"rpn", "class", "box"} | ({"pyramid", "head"} if kind == "pyramid" else set())
    assert new == expected


def test_frozen_stages_and_batch_norm_are_fixed_and_no_other_parameter_is():
    net = small(frozen_stages=1)
    fixed = {
        "/".join(part.key for part in path)
        for path, _ in jax.tree.leaves_with_path(shapes_of(net, SHAPE)["params"])
        if net.fixed(tuple(part.key for part in path))
    }
    assert {"backbone/conv1/kernel", "backbone/stage1/block1/conv1/kernel"} <= fixed
    assert "backbone/stage4/block1/bn1/scale" in fixed
    assert "backbone/stage2/block1/conv1/kernel" not in fixed
    assert all(name.startswith("backbone/") for name in fixed)


def scenes(canvas, garbage):
    rng = np.random.default_rng(0)
    images = np.full((2, canvas, canvas, 3), garbage, np.float32)
    sizes = [(50, 64), (64, 40)]
    for number, (height, width) in enumerate(sizes):
        images[number, :height, :width] = rng.normal(size=(height, width, 3))
    boxes = jnp.asarray([[[5, 5, 30, 40], [0, 0, 0, 0]], [[2, 10, 35, 60], [20, 20, 38, 44.0]]])
    labels = jnp.asarray([[1, -1], [0, 1]])
    return Scenes(jnp.asarray(images), jnp.asarray(sizes, jnp.float32), boxes, labels)


@pytest.fixture(scope="module")
def net_and_variables():
    net = small(proposals_before=(2000, 2000), sampled_anchors=4000)
    variables = initialise(net, 0, SHAPE)
    # Scores that differ, so that their order is not a matter of rounding.
    for name, factor in (("rpn", 30.0), ("class", 30.0)):
        layer = variables["params"][name]
        layer = layer["score"] if name == "rpn" else layer
        layer["kernel"] = factor * layer["kernel"]
    return net, variables


@pytest.mark.long
def test_detections_do_not_depend_on_what_lies_beyond_the_images(net_and_variables):
    net, variables = net_and_variables
    answer = jax.jit(lambda s: net.apply(variables, s, train=False))
    small, large = (answer(scenes(*given)) for given in ((64, 0.0), (96, 9.0)))
    assert (small.labels >= 0).any()
    np.testing.assert_array_equal(small.labels, large.labels)
    np.testing.assert_allclose(small.boxes, large.boxes, atol=1e-3)
    np.testing.assert_allclose(small.scores, large.scores, atol=1e-5)


@pytest.mark.long
def test_losses_do_not_depend_on_what_lies_beyond_the_images(net_and_variables):
    """All anchors are in the loss, since draws are by place in the array."""
    net, variables = net_and_variables
    answer = jax.jit(
        lambda s: losses_by_image(net.apply(variables, s, train=True, mutable=["batch_stats"])[0])
    )
    small, large = (answer(scenes(*given)) for given in ((64, 0.0), (96, 9.0)))
    for name in ("loss_objectness", "loss_anchor_box"):
        np.testing.assert_allclose(small[name], large[name], rtol=1e-4)
        assert (small[name] > 0).all()


@pytest.mark.long
def test_a_batch_without_sizes_is_one_that_fills_its_array(net_and_variables):
    net, variables = net_and_variables
    images = jax.random.normal(jax.random.key(0), (1, *SHAPE))
    whole = jnp.asarray([[64.0, 64.0]])
    answer = jax.jit(lambda s: net.apply(variables, s, train=False))
    for one, other in zip(answer(Scenes(images)), answer(Scenes(images, whole)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def as_torchvision():
    """A small net with the weights of the golden file, and its two images in one array."""
    net = faster_rcnn(
        resnet(18, 1, width=golden.WIDTH), golden.CLASSES, channels=golden.CHANNELS,
        hidden=golden.HIDDEN, proposals_before=(golden.BEFORE,) * 2,
        proposals_after=(golden.AFTER,) * 2, sampled=golden.EVERY, sampled_anchors=golden.EVERY,
        least_score=golden.LEAST_SCORE,
    )  # fmt: skip
    names = torchvision.revert(initialise(net, 0, SHAPE), net, SHAPE)
    arrays = {name: golden.drawn(name, value.shape) for name, value in names.items()}
    canvas = np.full((len(golden.SIZES), 128, 128, 3), 9.0, np.float32)  # beyond, anything
    for number, image in enumerate(golden.images()):
        canvas[number, : image.shape[0], : image.shape[1]] = image
    given = Scenes(
        jnp.asarray(canvas), jnp.asarray(golden.SIZES, jnp.float32),
        jnp.asarray(golden.BOXES, jnp.float32), jnp.asarray(golden.LABELS),
    )  # fmt: skip
    with np.load(Path(golden.__file__).with_suffix(".npz")) as file:
        return net, torchvision.convert(arrays, net, SHAPE), given, dict(file)


@pytest.mark.long
def test_proposals_and_detections_are_torchvisions(as_torchvision):
    net, variables, given, expected = as_torchvision
    answer = jax.jit(lambda v, s: net.apply(v, s, train=False, mutable=["intermediates"]))
    found, sown = answer(variables, Scenes(given.images, given.size))
    (proposed,) = sown["intermediates"]["proposals"]
    for number in range(len(golden.SIZES)):
        theirs = expected[f"{number}/proposals"]
        np.testing.assert_allclose(proposed[number, : len(theirs)], theirs, atol=1e-3)
        count = len(expected[f"{number}/scores"])
        assert count > 10 and (np.asarray(found.labels[number]) >= 0).sum() == count
        np.testing.assert_array_equal(
            found.labels[number, :count] + 1, expected[f"{number}/labels"]
        )
        np.testing.assert_allclose(
            found.scores[number, :count], expected[f"{number}/scores"], rtol=1e-4
        )
        np.testing.assert_allclose(
            found.boxes[number, :count], expected[f"{number}/boxes"], atol=1e-2
        )


@pytest.mark.long
def test_the_four_losses_and_their_gradient_are_torchvisions(as_torchvision):
    net, variables, given, expected = as_torchvision
    rest = {"batch_stats": variables["batch_stats"]}

    @jax.jit
    def answer(params, scenes):
        def total(params):
            answers, _ = net.apply(
                {**rest, "params": params}, scenes, train=True, mutable=["batch_stats"]
            )
            losses = losses_by_image(answers)
            return sum(loss.sum() for loss in losses.values()), losses

        return jax.grad(total, has_aux=True)(params)

    gradient, losses = answer(variables["params"], given)
    for name in golden.LOSSES:
        theirs = [expected[f"{number}/{name}"] for number in range(len(golden.SIZES))]
        np.testing.assert_allclose(losses[name], theirs, rtol=1e-4)
    mine = gradient["backbone"]["stage2"]["block1"]["conv1"]["kernel"]
    theirs = sum(expected[f"{number}/gradient"] for number in range(len(golden.SIZES)))
    np.testing.assert_allclose(mine, theirs, atol=1e-3 * np.abs(theirs).max())


@pytest.mark.long
def test_bfloat16_has_nearly_float32s_losses_and_boxes_stay_in_float32(monkeypatch):
    """Anchors are matched alike; proposals differ by rounding, and with them what is drawn."""
    seen = []
    for module, name in ((on, "decode"), (on, "encode"), (on, "iou"), (proposals, "keep_sorted"),
                         (faster_rcnn_module, "best_by_class")):  # fmt: skip
        original = getattr(module, name)

        def noting(*arguments, original=original, **options):
            seen.extend(leaf.dtype for leaf in jax.tree.leaves(arguments) if hasattr(leaf, "dtype"))
            return original(*arguments, **options)

        monkeypatch.setattr(module, name, noting)
    given, found = scenes(64, 0.0), {}

    def net_in(dtype):
        return faster_rcnn(resnet(8, 1, width=4, dtype=dtype), 2, **SMALL, dtype=dtype)

    variables = initialise(net_in("float32"), 0, SHAPE)

    def losses_in(dtype, params):
        answers, _ = net_in(dtype).apply(
            {**variables, "params": params}, given, train=True, mutable=["batch_stats"]
        )
        losses = losses_by_image(answers)
        return sum(loss.mean() for loss in losses.values()), (losses, answers)

    _, (found["float32"], _) = jax.jit(partial(losses_in, "float32"))(variables["params"])
    step = jax.jit(jax.grad(partial(losses_in, "bfloat16"), has_aux=True))
    gradient, (found["bfloat16"], answers) = step(variables["params"])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert all(leaf.dtype in (jnp.float32, jnp.int32) for leaf in answers)
    assert seen and jnp.dtype(jnp.bfloat16) not in seen
    for name in ("loss_objectness", "loss_anchor_box", "loss_class"):
        one, other = (np.asarray(found[dtype][name]) for dtype in found)
        np.testing.assert_allclose(other, one, rtol=0.02, err_msg=name)
        assert (one != other).any(), "the net was not computed in bfloat16"


@pytest.mark.parametrize("head", ["convolutions", "stage"])
def test_a_region_that_was_not_drawn_counts_in_no_statistics(head):
    """A batch of fewer regions than the array has rows is normalised as if it were alone."""
    rng = np.random.default_rng(0)
    maps = jnp.asarray(rng.normal(size=(5, 7, 7, 16)), jnp.float32)
    drawn = jnp.asarray([True, True, False, True, False])
    net = (
        PyramidHead(8, 2, jnp.float32)
        if head == "convolutions"
        else ResNetHead(resnet(18, 10, width=4))
    )
    variables = jax.tree.map(
        lambda v: jnp.asarray(
            rng.uniform(0.1, 0.5, v.shape) * rng.choice([-1, 1, 1], v.shape), v.dtype
        ),
        net.init(jax.random.key(0), maps, True),
    )

    def apply(params, maps, drawn):
        with valid_region.missing_maps((7, 7), drawn):
            return net.apply({**variables, "params": params}, maps, True, mutable=["batch_stats"])

    def loss(params, maps, drawn):
        return (apply(params, maps, drawn)[0][drawn] ** 2).sum()

    there = maps[drawn], jnp.ones(3, bool)
    answers, stats = apply(variables["params"], maps, drawn)
    alone, alone_stats = apply(variables["params"], *there)
    assert np.abs(alone).max() > 0.1
    close = partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-3)
    close(answers[drawn], alone)
    jax.tree.map(close, stats, alone_stats)
    gradients = [jax.grad(loss)(variables["params"], *x) for x in ((maps, drawn), there)]
    jax.tree.map(lambda a, b: close(a / np.abs(b).max(), b / np.abs(b).max()), *gradients)
