"""A net opened: its layers, other gradient rules, and what attributions are by their formulas."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deeper.errors import UserError
from deeper.interpret import attribution_methods as methods
from deeper.interpret.deconvnet import TOP, project, strongest
from deeper.interpret.traced_net import LOGITS, TracedNet
from deeper.models.alexnet import alexnet
from deeper.models.googlenet import googlenet
from deeper.models.initializers import initialise
from deeper.models.lenet import lenet5
from deeper.models.resnet import resnet
from deeper.models.vgg import vgg

RNG = np.random.default_rng(0)


def opened(model, shape, seed=0):
    variables = initialise(model, seed, shape)
    rng = np.random.default_rng(seed)

    def drawn(leaf):
        """He's variance everywhere: with the papers' own the deep nets answer nothing yet."""
        if leaf.ndim < 2:
            return jnp.asarray(leaf)
        deviation = np.sqrt(2 / np.prod(leaf.shape[:-1]))
        return jnp.asarray(deviation * rng.normal(size=leaf.shape), jnp.float32)

    variables = {"params": {}, "batch_stats": {}} | jax.tree.map(drawn, variables)
    return TracedNet(model, variables, shape), variables


def pictures(n, shape):
    return jnp.asarray(RNG.normal(size=(n, *shape)), jnp.float32)


NETS = {
    "resnet": (resnet(8, 10, width=4), (12, 12, 1)),
    "pre-activation": (resnet(8, 10, width=4, pre_activation=True), (12, 12, 3)),
    "vgg": (vgg(11, 10, hidden=16, batch_norm=True), (32, 32, 3)),
    "alexnet": (alexnet(10, stem="small", hidden=16), (28, 28, 1)),
    "lenet": (lenet5(10), (28, 28, 1)),
}


def test_googlenet_opened_answers_as_itself():
    model, shape = googlenet(10, stem="small"), (28, 28, 1)
    net, variables = opened(model, shape)
    images = pictures(2, shape)
    expected = jax.jit(lambda x: model.apply(variables, x, train=False))(images)
    found = jax.jit(lambda x: net(x, [LOGITS])[LOGITS])(images)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETS)
def test_every_net_opened_answers_and_differentiates_as_itself(name):
    model, shape = NETS[name]
    net, variables = opened(model, shape)
    images = pictures(2, shape)
    plain = jax.jit(lambda x: model.apply(variables, x, train=False))
    np.testing.assert_allclose(net(images, [LOGITS])[LOGITS], plain(images), atol=1e-5, rtol=1e-5)
    expected = jax.jit(jax.grad(lambda x: plain(x)[:, 3].sum()))(images)
    classes = jnp.array([3, 3])
    found = {
        rule: jax.jit(lambda x, rule=rule: methods.gradient(net, x, classes, rule))(images)
        for rule in ("gradient", "guided", "deconvnet")
    }
    # By norms: where two values in a pooling window differ by rounding alone, the two programs may
    # send a patch of the gradient through either.
    off = {
        rule: np.linalg.norm(g - expected) / np.linalg.norm(expected) for rule, g in found.items()
    }
    assert off["gradient"] < 0.02
    assert off["guided"] > 0.3
    assert off["deconvnet"] > 0.3


class Small(nn.Module):
    """Two convolutions with rectifiers, a pooling in between, and a dense layer."""

    @nn.compact
    def __call__(self, images, *, train):
        x = jnp.maximum(nn.Conv(4, (3, 3), padding=1, name="conv1")(images), 0)
        self.sow("intermediates", "first", x)
        x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.relu(nn.Conv(5, (3, 3), padding=1, use_bias=True, name="conv2")(x))
        self.sow("intermediates", "second", x)
        return nn.Dense(3, name="fc")(x.mean((1, 2)))


SHAPE = (8, 8, 2)


@pytest.fixture(scope="module")
def small():
    images = pictures(12, SHAPE)
    variables = Small().init(jax.random.key(0), images, train=False)
    variables = {"params": variables["params"]}
    return TracedNet(Small(), variables, SHAPE), variables["params"], images


def numpy_conv(x, kernel, bias):
    wide = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    out = np.zeros((*x.shape[:2], kernel.shape[-1]))
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] = np.tensordot(wide[i : i + 3, j : j + 3], kernel, 3) + bias
    return out


def numpy_conv_transposed(y, kernel):
    wide = np.zeros((y.shape[0] + 2, y.shape[1] + 2, kernel.shape[2]))
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            wide[i : i + 3, j : j + 3] += kernel @ y[i, j]
    return wide[1:-1, 1:-1]


def numpy_deconvnet(image, params, channel):
    """Project the strongest activation of a channel of the second layer, written out."""
    k1, b1 = (np.asarray(params["conv1"][n], np.float64) for n in ("kernel", "bias"))
    k2, b2 = (np.asarray(params["conv2"][n], np.float64) for n in ("kernel", "bias"))
    first = np.maximum(numpy_conv(np.asarray(image, np.float64), k1, b1), 0)
    pooled, switches = np.zeros((4, 4, 4)), np.zeros((4, 4, 4), int)
    for i in range(4):
        for j in range(4):
            window = first[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].reshape(4, 4)
            switches[i, j] = window.argmax(axis=0)
            pooled[i, j] = window.max(axis=0)
    second = np.maximum(numpy_conv(pooled, k2, b2), 0)
    row, column = np.unravel_index(second[..., channel].argmax(), (4, 4))
    alone = np.zeros_like(second)
    alone[row, column, channel] = second[row, column, channel]
    back = numpy_conv_transposed(np.maximum(alone, 0), k2)
    unpooled = np.zeros_like(first)
    for i in range(4):
        for j in range(4):
            for c in range(4):
                down, right = divmod(switches[i, j, c], 2)
                unpooled[2 * i + down, 2 * j + right, c] = back[i, j, c]
    return row, column, numpy_conv_transposed(np.maximum(unpooled, 0), k1)


def test_the_deconvnet_is_the_one_written_out_in_numpy(small):
    net, params, images = small
    shown = 0
    for number in range(4):
        for channel in range(5):
            row, column, expected = numpy_deconvnet(images[number], params, channel)
            found = project(
                net,
                images[number : number + 1],
                "second",
                *(jnp.array([v]) for v in (channel, row, column)),
            )[0]
            np.testing.assert_allclose(found, expected, atol=1e-5)
            shown += np.abs(expected).max() > 0
    assert shown > 10  # of some, rectification leaves nothing


def test_the_strongest_places_of_a_data_set_are_found_in_one_pass(small):
    net, _, images = small
    batches = [
        (np.array([0, 1, 2, 3, 4]), images[:5]),
        (np.array([5, 6, 7, 8, 9]), images[5:10]),
        (np.array([10, 11, -1, -1, -1]), images[jnp.array([10, 11, 0, 0, 0])]),
    ]
    seen = []
    found = strongest(net, ["first", "second"], batches, seen.append)
    assert seen == [5, 10, 12]
    for layer, side in (("first", 8), ("second", 4)):
        maps = np.asarray(net(images, [layer])[layer])
        peaks = maps.reshape(12, side * side, -1).max(axis=1)
        expected = np.sort(peaks, axis=0)[::-1][:TOP].T
        np.testing.assert_allclose(found[layer].activation, expected, rtol=1e-5)
        one = found[layer]
        np.testing.assert_allclose(
            maps[one.image, one.row, one.column, np.arange(maps.shape[-1])[:, None]], expected,
            rtol=1e-5,
        )  # fmt: skip
        assert one.channels(2)[0] == expected.mean(axis=1).argmax()


def slope(function, x, direction, step=1e-2):
    return (function(x + step * direction) - function(x - step * direction)) / (2 * step)


CLASSES = jnp.array([0, 2, 1, 1])


def test_the_gradient_is_the_slope(small):
    net, _, images = small
    some, way = images[:4], pictures(4, SHAPE)
    expected = slope(lambda x: methods.scores(net, x, CLASSES), some, way, 2e-4)
    found = (methods.gradient(net, some, CLASSES) * way).sum((1, 2, 3))
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=2e-3)


def test_integrated_gradients_add_up_to_the_difference_of_the_scores(small):
    net, _, images = small
    some = images[:4]
    found = methods.integrated_gradients(net, some, CLASSES, steps=256).maps.sum((1, 2, 3))
    ends = [methods.scores(net, x, CLASSES) for x in (some, jnp.zeros_like(some))]
    np.testing.assert_allclose(found, ends[0] - ends[1], atol=2e-3)


def test_integrated_gradients_take_more_steps_where_they_do_not_add_up(small):
    """A net with biases bends between zero and an image: two steps are far off."""
    net, params, images = small
    rng = np.random.default_rng(0)
    bent = jax.tree.map(lambda x: x + rng.normal(size=x.shape) if x.ndim == 1 else x, params)
    net = net.with_variables({"params": bent})
    some = images[:4]
    coarse = methods.integrated_gradients(net, some, CLASSES, 2, 2)
    assert coarse.steps.tolist() == [2, 2, 2, 2] and (coarse.gaps > methods.GAP).any()
    found = methods.integrated_gradients(net, some, CLASSES, 2, 54)
    assert ((found.gaps <= methods.GAP) | (found.steps == 54)).all()
    assert (found.steps[coarse.gaps > methods.GAP] > 2).all()
    for number, steps in enumerate(found.steps.tolist()):
        same = methods.integrated_gradients(net, some, CLASSES, steps, steps)
        np.testing.assert_allclose(found.maps[number], same.maps[number], atol=1e-5)


def test_smooth_grad_is_a_mean_over_noise(small):
    net, _, images = small
    key = jax.random.key(0)
    still = methods.smooth_grad(net, images[:4], CLASSES, key, samples=2, noise=0.0)
    np.testing.assert_allclose(still, methods.gradient(net, images[:4], CLASSES), atol=1e-6)
    noisy = methods.smooth_grad(net, images[:4], CLASSES, key, samples=3)
    spread = np.ptp(np.asarray(images[:4]), axis=(1, 2, 3))[:, None, None, None]
    grains = [jax.random.normal(jax.random.fold_in(key, n), (4, *SHAPE)) for n in range(3)]
    each = [methods.gradient(net, images[:4] + 0.15 * spread * g, CLASSES) for g in grains]
    np.testing.assert_allclose(noisy, np.mean(each, axis=0), atol=1e-5)


def written_out(net, images, classes, layer):
    """Return a layer's maps and the slopes of the score by each value of them."""
    maps = np.asarray(net(images, [layer])[layer])
    slopes = np.zeros_like(maps)
    for index in np.ndindex(maps.shape[1:]):
        one = jnp.zeros(maps.shape).at[(slice(None), *index)].set(1.0)

        def score(size, one=one):
            return methods.scores(net, images, classes, added={layer: size * one})

        slopes[(slice(None), *index)] = (score(1e-2) - score(-1e-2)) / 2e-2
    return maps, slopes


def test_grad_cam_and_its_successor_are_their_formulas(small):
    net, _, images = small
    some = images[:4]
    maps, slopes = written_out(net, some, CLASSES, "second")
    cam = np.maximum((slopes.mean((1, 2), keepdims=True) * maps).sum(-1), 0)
    found = methods.grad_cam(net, some, CLASSES, "second")
    np.testing.assert_allclose(found, cam, atol=1e-4)
    total = maps.sum((1, 2), keepdims=True)
    below = 2 * slopes**2 + total * slopes**3
    alpha = np.divide(slopes**2, below, out=np.zeros_like(slopes), where=np.abs(below) > 1e-12)
    weights = (alpha * np.maximum(slopes, 0)).sum((1, 2), keepdims=True)
    plus = np.maximum((weights * maps).sum(-1), 0)
    found = methods.grad_cam_plus_plus(net, some, CLASSES, "second")
    np.testing.assert_allclose(found, plus, atol=2e-3 * plus.max())


def test_occlusion_is_the_probability_with_a_square_over_the_image(small):
    net, _, images = small
    some = images[:4]
    seen = []
    found = methods.occlusion(
        net,
        some,
        CLASSES,
        side=3,
        stride=2,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert found.shape == (4, 4, 4)
    assert seen[-1] == (16, 16)
    hidden = some.at[:, 3:6, 1:4].set(0.0)
    logits = net(hidden, [LOGITS])[LOGITS]
    expected = jax.nn.softmax(logits)[jnp.arange(4), CLASSES]
    np.testing.assert_allclose(found[:, 2, 1], expected, rtol=1e-5)


def test_the_effective_field_lies_in_the_receptive_field(small):
    net, _, images = small
    found = np.asarray(methods.effective_field(net, images, "second"))
    # The middle place of 4x4, (2, 2), sees rows and columns 1 to 8 of the image: all but the first.
    assert found[0].max() == 0.0
    assert found[:, 0].max() == 0.0
    assert found[1:, 1:].max() > 0.0


def test_other_weights_give_another_map():
    """The sanity check of Adebayo et al. 2018: a map that ignores the weights explains nothing."""
    model, shape = NETS["resnet"]
    images, classes = pictures(4, shape), jnp.array([1, 2, 3, 4])
    nets = [opened(model, shape, seed)[0] for seed in (0, 1)]
    by_name = {
        "gradient": lambda net: methods.gradient(net, images, classes),
        "guided": lambda net: methods.gradient(net, images, classes, "guided"),
        "deconvnet": lambda net: methods.gradient(net, images, classes, "deconvnet"),
        "integrated": lambda net: methods.integrated_gradients(net, images, classes, 8, 8).maps,
        "smooth": lambda net: methods.smooth_grad(
            net, images, classes, jax.random.key(0), samples=4
        ),
        "grad-cam": lambda net: methods.grad_cam(net, images, classes, "stage2_out"),
    }
    for name, method in by_name.items():
        found = [np.abs(np.asarray(method(net))).ravel() for net in nets]
        ranks = [np.argsort(np.argsort(values)) for values in found]
        assert np.corrcoef(*ranks)[0, 1] < 0.8, name


def test_a_layer_that_is_not_there_or_has_no_maps_is_said():
    net, _ = opened(*NETS["resnet"])
    known = r"no layer stage9; there are conv1, bn1, stage1, .* such as stage1/"
    with pytest.raises(UserError, match=known):
        net.shape("stage9")
    with pytest.raises(UserError, match="layer fc has no maps, only 10 values; take one of conv1"):
        methods.grad_cam(net, pictures(1, (12, 12, 1)), jnp.array([0]), "fc")
