"""Every protocol on a hundred photographs, compared with Pillow and numpy."""

import io
import json
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from deeper.config.compose import configure
from deeper.data.prepare.image_folder import Photograph, Tree
from deeper.data.prepare.prepare import prepare_photographs
from deeper.data.whole_image_batches import decode_groups, groups, headers_of
from deeper.errors import UserError
from deeper.models.initializers import initialise
from deeper.run import build, load
from deeper.run.dataset import open_splits
from deeper.run.device import mesh_of
from deeper.run.evaluate import of_crops, of_whole_photographs
from deeper.run.evaluation_set import correct_labels, numbers_by_name, open_evaluation_set
from deeper.run.protocols import WHOLE, ProtocolRequest, protocol_of
from deeper.tasks.classification import mean_over_views
from deeper.train.evaluate import metrics_of
from deeper.train.evaluate_whole_image import WholeEvaluator, mirrored

N, CLASSES = 100, 4
SIZES = ((50, 66), (66, 50))
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
NETS = {
    "resnet": ("model=resnet", "model.blocks=[1,1]", "model.width=4"),
    "lenet": ("model=lenet5",),
}
SCALES = {"dense": (40,), "multiscale": (32, 45)}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A hundred photographs of four shapes as a data set's test split, and their files' content."""
    rng, directory = np.random.default_rng(0), tmp_path_factory.mktemp("photographs")
    found, contents = [], {}
    for i in range(N + 8):
        height, width = SIZES[int(rng.integers(len(SIZES)))]
        coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3)).astype(np.uint8))
        stream = io.BytesIO()
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=92)
        name = f"ILSVRC2012_val_{i + 1:08d}.JPEG"
        (directory / name).write_bytes(stream.getvalue())
        contents[name] = stream.getvalue()
        size = len(contents[name])
        found.append(Photograph(directory / name, size, f"{i % CLASSES}/{name}", i % CLASSES))
    order = rng.permutation(N)
    test = [found[i] for i in order]
    tree = Tree({"train": found[N:], "test": test}, tuple(f"n{c}" for c in range(CLASSES)))
    prepare_photographs("pets", directory / "data", lambda: tree, 3)
    return directory / "data", [contents[one.path.name] for one in test]


def opened(config, protocol, split="test", other=None):
    """The examples that are evaluated, of a run that has no directory."""
    return open_evaluation_set(Path("none"), config, protocol, split, other)


def config_of(data_dir, net="resnet"):
    """A run's config."""
    return configure(
        "data=folder", "data.name=pets", f"data.classes={CLASSES}", f"data.dir={data_dir}",
        "data.image_shape=[32,32,3]", "data.shorter_side=40", "train.batch_size=12",
        "train.devices=2", *NETS[net],
    )  # fmt: skip


def weights_of(config):
    """A run's net with variables, statistics included, that are not trivial."""
    model = build.build_model(config)
    rng = np.random.default_rng(1)
    variables = jax.tree.map(
        lambda leaf: (leaf * rng.uniform(0.5, 1.5, leaf.shape)).astype(np.float32),
        initialise(model, 0, (32, 32, 3)),
    )
    # The answers to different photographs have to differ, and not in what the softmax leaves out.
    images = open_splits(config).test.images[:20]
    normalised = ((images / 255.0 - MEAN) / STD).astype(np.float32)
    logits = np.asarray(jax.jit(partial(model.apply, train=False))(variables, normalised))
    last = next(variables["params"][name] for name in ("fc", "fc3") if name in variables["params"])
    spread = np.std(logits - logits.mean(1, keepdims=True) - logits.mean(0))
    last["kernel"] = last["kernel"] / spread
    last["bias"] = (last["bias"] - logits.mean(0)) / spread
    return load.Stored(config, model, 7, variables)


# --- a photograph at a time, by Pillow and numpy -------------------------------------------------


def resized(content, shorter):
    """The shorter side in pixels, the longer one in proportion, cut down to whole pixels."""
    with Image.open(io.BytesIO(content)) as picture:
        width, height = picture.size
        if width < height:
            size = (shorter, int(shorter * height / width))
        else:
            size = (int(shorter * width / height), shorter)
        return np.asarray(picture.convert("RGB").resize(size, Image.Resampling.BILINEAR))


def middle(pixels, height, width):
    top = round((pixels.shape[0] - height) / 2.0)
    left = round((pixels.shape[1] - width) / 2.0)
    return pixels[top : top + height, left : left + width]


def reference_views(protocol, content, size=32, shorter=40):
    """Every view of a photograph that a protocol averages over."""
    if protocol in WHOLE:
        seen = [resized(content, scale) for scale in SCALES[protocol]]
    elif protocol == "10crop":
        square = middle(resized(content, shorter), shorter, shorter)
        far, half = shorter - size, (shorter - size) // 2
        corners = ((0, 0), (0, far), (far, 0), (far, far), (half, half))
        seen = [square[y : y + size, x : x + size] for y, x in corners]
    else:
        seen = [middle(resized(content, shorter), size, size)]
    return seen if protocol == "1crop" else [v for one in seen for v in (one, one[:, ::-1])]


def ignore(what, done, total):
    pass


def softmax(logits):
    shares = np.exp(logits - logits.max())
    return shares / shares.sum()


@partial(jax.jit, static_argnums=0)
def maps_and_logits(model, variables, images):
    logits, found = model.apply(variables, images, train=False, mutable=["intermediates"])
    return list(found["intermediates"].values())[-1][0], logits


def reference_logits(weights, pixels, dense):
    """The net's answer to one view; if dense, of LeNet its last map's windows one by one."""
    images = ((pixels / 255.0 - MEAN) / STD).astype(np.float32)[None]
    params, side = weights.variables["params"], 5
    by_window = dense and "fc1" in params
    model = weights.model.clone(window=(side, side)) if by_window else weights.model
    maps, logits = maps_and_logits(model, weights.variables, images)
    if not by_window:
        return np.asarray(logits, np.float64)[0]
    maps, scores = np.asarray(maps, np.float64)[0], []
    for top in range(maps.shape[0] - side + 1):
        for left in range(maps.shape[1] - side + 1):
            x = maps[top : top + side, left : left + side].reshape(-1)
            for layer in ("fc1", "fc2", "fc3"):
                x = x @ params[layer]["kernel"].astype(np.float64) + params[layer]["bias"]
                x = np.maximum(x, 0) if layer != "fc3" else x
            scores.append(x)
    return np.mean(scores, axis=0)


@pytest.mark.parametrize(
    ("protocol", "net"),
    [
        *((name, "resnet") for name in ("1crop", "flip", "10crop", "dense", "multiscale")),
        ("dense", "lenet"),
    ],
)
def test_a_protocol_is_what_pillow_and_numpy_make_of_it(photographs, protocol, net):
    data_dir, contents = photographs
    of_run = config_of(data_dir, net)
    weights = weights_of(of_run)
    requested = ProtocolRequest(protocol, scales=SCALES.get(protocol))
    chosen = protocol_of(requested, of_run.data)
    examined = opened(of_run, chosen)
    labels = np.asarray(examined.split.labels)

    views = [reference_views(protocol, content) for content in contents]
    if protocol in WHOLE:
        headers = headers_of(examined.split.images, ignore)
        found = of_whole_photographs(of_run, weights, chosen, examined, headers, ignore)
        for place, scale in enumerate(chosen.scales):
            some = groups(headers.sizes, scale, 5000, 2, 8)
            for batch in decode_groups(examined.split.images, headers, some, scale):
                for image, size, number in zip(*(batch[k] for k in ("image", "size", "number"))):
                    if number >= 0:
                        own = image[: size[0], : size[1]]
                        np.testing.assert_array_equal(own, views[number][2 * place])
                        assert image.sum() == own.sum()
    else:
        found = of_crops(of_run, weights, chosen, examined, "test", ignore)
        shown = examined.split.images[:]
        seen = shown[None] if chosen.views is None else np.asarray(chosen.views(shown))
        seen = seen.swapaxes(0, 1)
        apart = np.abs(seen.astype(int) - np.array(views))
        assert apart.max() <= 1 and apart.mean() < 0.02  # a part is resized, not the whole
        views = seen

    dense = protocol in WHOLE
    shares = np.array(
        [
            np.mean([softmax(reference_logits(weights, view, dense)) for view in one], axis=0)
            for one in views
        ]
    )
    np.testing.assert_allclose(np.exp(-found["loss"]), shares[np.arange(N), labels], rtol=2e-4)
    np.testing.assert_allclose(found["confidence"], shares.max(1), rtol=2e-4)
    np.testing.assert_array_equal(found["prediction"], shares.argmax(1))
    assert metrics_of(build.task_of(of_run), "test", found)["test/n_seen"] == N
    assert shares.std(0).max() > 0.02, "or the net says the same of every photograph"


@pytest.mark.parametrize(("shapes", "step"), [(5, 6), (None, 1)])
def test_every_whole_photograph_is_in_one_batch_of_its_shape(shapes, step):
    sizes = np.random.default_rng(0).integers(60, 90, (57, 2)).astype(np.int32)
    found = groups(sizes, 30, pixels=30 * 31 * 5, multiple=2, shapes=shapes)
    numbers = np.concatenate([group.numbers.reshape(-1) for group in found])
    assert sorted(numbers[numbers >= 0]) == list(range(57))
    assert len({group.shape for group in found}) == len(found)
    for group in found:
        assert group.numbers.shape[1] in (2, 4)
        for height, width in sizes[group.numbers[group.numbers >= 0]]:
            own = int(30 * max(1, height / width)), int(30 * max(1, width / height))
            assert all(0 <= group.shape[axis] - own[axis] < step for axis in (0, 1))


def test_a_photograph_that_is_missing_or_there_twice_is_noticed():
    evaluate = WholeEvaluator(
        lambda v, images, sizes: np.zeros((2, 3)),
        mesh_of(1),
        "shard_map",
        mean_over_views,
        lambda scores, batch: batch,
    )
    batch = {"image": np.zeros((2, 4, 4, 3), np.uint8), "size": np.full((2, 2), 4, np.int32)}
    for numbers, message in (((0, 1), "2 of 3 examples once"), ((0, 0), "1 more than once")):
        batch["number"] = np.array(numbers)
        with pytest.raises(RuntimeError, match=message):
            evaluate({}, np.zeros(3, np.int32), [[batch]])


def test_images_of_several_widths_are_mirrored_each_by_itself():
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 1)).astype(np.uint8)
    found = np.asarray(mirrored(images, np.array([6, 4, 1])))
    for one, other, width in zip(images, found, (6, 4, 1), strict=True):
        np.testing.assert_array_equal(other[:, :width], one[:, :width][:, ::-1])
        np.testing.assert_array_equal(other[:, width:], one[:, width:])


def test_photographs_of_several_right_answers(photographs, tmp_path):
    """As real.json of ImageNet ReaL: by the number in the file's name, whatever the order."""
    data_dir, _ = photographs
    of_run = config_of(data_dir)
    examined = opened(of_run, protocol_of(ProtocolRequest(), of_run.data))
    names = headers_of(examined.split.images, ignore).names
    listed = [[], [0, 3], *([i % CLASSES] for i in range(2, N))]
    path = tmp_path / "real.json"
    path.write_text(json.dumps(listed))
    right = correct_labels(path, names, examined)
    for row, name in zip(right, names, strict=True):
        assert np.flatnonzero(row).tolist() == listed[int(name[-13:-5]) - 1]
    for content, message in (
        (listed[:-1], "labels of 99 photographs, and pets has 100"),
        ([[4], *listed[1:]], "class numbers, 0 to 3"),
        ({"a": 1}, "give a list"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(UserError, match=message):
            correct_labels(path, names, examined)
    with pytest.raises(UserError, match="those of pets have others"):
        correct_labels(path, [f"{i}.JPEG" for i in range(N)], examined)


def test_class_names_that_are_numbers_are_matched_by_their_value():
    ours = sorted(str(number) for number in range(12))  # 0, 1, 10, 11, 2, ...
    theirs = [f"{number:03d}" for number in range(12)]
    found = numbers_by_name(theirs, ours, "padded")
    assert [ours[number] for number in found] == [str(number) for number in range(12)]
    assert [ours[n] for n in numbers_by_name(["007", "010"], ours, "some")] == ["7", "10"]
    with pytest.raises(UserError, match="none of this net's"):
        numbers_by_name([f"{number:03d}" for number in range(1, 13)], ours, "from 1 on")


def test_other_data_are_asked_about_by_the_names_of_their_classes():
    ours = [f"n{i:02d}" for i in range(12)]
    assert numbers_by_name(["n03", "n00"], ours, "some").tolist() == [3, 0]
    # ImageNet-V2's folders are called by number, and sorted as words: 0 1 10 11 2 ...
    folders = sorted(str(i) for i in range(12))
    assert numbers_by_name(folders, ours, "v2").tolist() == [int(name) for name in folders]
    with pytest.raises(UserError, match="1 of the 2 classes of pets are none of this net's 12"):
        numbers_by_name(["n03", "cat"], ours, "pets")


def test_another_data_set_is_shown_as_the_runs_own_is(photographs):
    of_run = config_of(photographs[0])
    other = configure(
        "data=folder",
        "data.name=pets",
        f"data.classes={CLASSES}",
        f"data.dir={photographs[0]}",
        "data.limit=7",
    ).data
    chosen = protocol_of(ProtocolRequest(size=24), of_run.data)
    found, own = opened(of_run, chosen, other=other), opened(of_run, chosen)
    assert found.data == "pets" and found.split.images.shape == (7, 24, 24, 3)
    np.testing.assert_array_equal(found.split.images[:], own.split.images[:7])
    np.testing.assert_array_equal(found.split.labels, own.split.labels[:7])
    with pytest.raises(UserError, match="split=validation is not there; pets has"):
        opened(of_run, chosen, "validation", other)
    small = configure("data=fashion_mnist")
    with pytest.raises(UserError, match="pets holds photographs of any size, and this net"):
        opened(small, protocol_of(ProtocolRequest(), small.data), other=other)


@pytest.mark.parametrize(
    ("requested", "message"),
    [
        (ProtocolRequest("twelve"), "choose 1crop, flip, 10crop, dense, multiscale"),
        (
            ProtocolRequest("1crop", scales=[256]),
            "scales=.* has no part in protocol=1crop of photog",
        ),
        (ProtocolRequest("dense", size=32), "size=32 has no part in protocol=dense"),
        (ProtocolRequest("10crop", padding=4), "padding=4 has no part"),
        (ProtocolRequest("10crop", size=48), "48x48 .* shorter side is 40: say shorter_side=48"),
        (ProtocolRequest("dense", scales=[]), "give shorter sides in pixels"),
        (ProtocolRequest("multiscale", scales=[32, 32]), "give each once"),
    ],
)
def test_a_mistake_is_said_in_a_sentence(photographs, requested, message):
    of_run = config_of(photographs[0])
    with pytest.raises(UserError, match=message):
        protocol_of(requested, of_run.data)


def test_images_of_one_size_are_not_seen_whole():
    with pytest.raises(UserError, match="have one size: choose 1crop, flip, 10crop"):
        protocol_of(ProtocolRequest("dense"), configure("data=fashion_mnist").data)


def test_a_protocol_at_other_sizes_has_another_name(photographs):
    of_run = config_of(photographs[0])
    data = of_run.data
    titles = {
        "1crop": ProtocolRequest("1crop", size=32),
        "1crop at 36 of 44": ProtocolRequest("1crop", size=36, shorter_side=44),
        "10crop at 24x28 of 40": ProtocolRequest("10crop", size=[24, 28]),
        "dense": ProtocolRequest("dense"),
        "dense at 40, 44": ProtocolRequest("dense", scales=[40, 44]),
        "multiscale": ProtocolRequest("multiscale", scales=[32, 37, 55, 69, 91]),
    }
    for title, requested in titles.items():
        assert protocol_of(requested, data).title == title
    # A net that was trained at one size is tested at another: "test res 224" of one trained at 160.
    larger = protocol_of(ProtocolRequest(size=36, shorter_side=44), data)
    examined = opened(of_run, larger)
    assert examined.split.images.shape == (N, 36, 36, 3)


def test_a_net_for_one_size_alone_says_so(photographs):
    vgg = configure("model=vgg", "model.depth=11", "data.classes=4").plain()["model"]
    of_run = config_of(photographs[0]).replace(model=vgg)
    chosen = protocol_of(ProtocolRequest(size=64, shorter_side=64), of_run.data)
    examined = opened(of_run, chosen)
    weights = load.Stored(of_run, build.build_model(of_run), 0, {})
    with pytest.raises(
        UserError, match="dense layers of this VGG take the maps of images of 32x32"
    ):
        of_crops(of_run, weights, chosen, examined, "test", ignore)
