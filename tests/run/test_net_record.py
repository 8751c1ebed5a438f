"""What a net carries: written at an import and at the end of training, and used by every verb."""

import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

import deeper
from deeper.config.compose import configure
from deeper.data import crops
from deeper.data.dataset import open_dataset
from deeper.data.encoded_images import View, show_into
from deeper.data.prepare.image_folder import Photograph, Tree
from deeper.data.prepare.imagenet import wordnet_ids
from deeper.data.prepare.prepare import prepare_photographs
from deeper.errors import UserError
from deeper.models.resnet import resnet
from deeper.run.class_names import imagenet_names
from deeper.run.dataset import view_of
from deeper.run.evaluate import evaluate_run
from deeper.run.export import export_weights
from deeper.run.run import Run
from deeper.run.subject import subject_of
from deeper.run.weights import import_weights
from deeper.weights.torchvision import state_dict_shapes
from deeper.weights.weight_files import metadata_of

NUMBERS = (0, 207, 999)
AS_NAMED = {
    "WordNet ids": [wordnet_ids()[number] for number in NUMBERS],
    "names": [imagenet_names()[number].replace(" ", "_") for number in NUMBERS],
    "numbers": [str(number) for number in NUMBERS],
}


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """A small net of ImageNet's classes, as it is imported from a file."""
    root = tmp_path_factory.mktemp("imported")
    rng = np.random.default_rng(0)
    shapes = state_dict_shapes(resnet(None, 1000, blocks=(1, 1, 1, 1), width=8))
    arrays = {
        name: np.abs(rng.normal(size=shape)).astype(np.float32)
        if name.endswith("running_var")
        else rng.normal(size=shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    save_file(arrays, root / "net.safetensors")
    import_weights(
        str(root / "net.safetensors"), root / "out", "data.image_shape=[64,64,3]",
        "train.batch_size=4", "train.devices=1",
    )  # fmt: skip
    return root / "out"


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Some photographs of three classes."""
    directory, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(1)
    found = []
    for number in range(12):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3)).astype(np.uint8))
        path = directory / f"{number}.jpg"
        coarse.resize((90, 80)).save(path)
        found.append(Photograph(path, path.stat().st_size, path.name, number % 3))
    return found


def other_data(root, name, photographs, class_names):
    order = np.argsort(class_names)  # as folders are
    place = {int(old): new for new, old in enumerate(order)}
    listed = [replace(one, label=place[one.label]) for one in photographs]
    tree = Tree({"train": listed[:3], "test": listed}, tuple(class_names[old] for old in order))
    prepare_photographs(name, root, lambda: tree, 3)
    return configure(
        "data=folder", f"data.name={name}", "data.classes=3", f"data.dir={root}"
    ).data  # fmt: skip


@pytest.mark.parametrize("how", AS_NAMED)
def test_folders_may_be_called_by_id_name_or_number_and_be_some_of_the_classes(
    how, imported, photographs, tmp_path
):
    other = other_data(tmp_path, "some", photographs, AS_NAMED[how])
    run = Run(imported)
    shown = np.stack([run.net().preprocess(one.path)[0] for one in photographs])
    scores = run.predict(shown).scores
    labels = np.array(NUMBERS)[np.arange(12) % 3]
    of_all = evaluate_run(imported, run.config, other=other)
    assert of_all["test/error"] == pytest.approx(100 * (scores.argmax(1) != labels).mean())
    assert (of_all["classes_in_data"], of_all["classes_of_net"]) == (3, 1000)
    only = evaluate_run(imported, run.config, other=other, only="subset")
    among = np.array(NUMBERS)[scores[:, NUMBERS].argmax(1)]
    assert only["test/error"] == pytest.approx(100 * (among != labels).mean())
    assert only["test/n_seen"] == 12 and only["test/error"] < of_all["test/error"]


def test_predict_shows_a_picture_as_evaluate_does(imported, photographs, tmp_path):
    other = other_data(tmp_path, "some", photographs, AS_NAMED["numbers"])
    config = Run(imported).config
    evaluated = open_dataset(other.name, tmp_path, view=view_of(config.data)).splits["test"]
    shown = [Run(imported).net().preprocess(one.path)[0] for one in photographs]
    by_pixels = {image.tobytes() for image in shown}
    assert {image.tobytes() for image in evaluated.images[:]} == by_pixels


def test_see_explains_the_crop_that_predict_answers_on(imported, photographs):
    folder = photographs[0].path.parent
    subject = subject_of(imported, "run", images=folder)
    net = Run(imported).net()
    for name, explained in zip(subject.names, subject.images, strict=True):
        np.testing.assert_array_equal(explained, net.preprocess(folder / name)[0])
    data = Run(imported).config.data
    normalised = (subject.images[:1] / np.float32(255) - data.mean) / np.array(data.std)
    np.testing.assert_allclose(subject.normalise(subject.images[:1]), normalised, atol=1e-5)


def test_what_a_net_carries_goes_with_it_when_it_is_exported_and_imported_again(imported, tmp_path):
    export_weights(imported, tmp_path / "net.safetensors")
    facts = metadata_of(tmp_path / "net.safetensors")
    assert json.loads(facts["wordnet_ids"]) == list(wordnet_ids())
    import_weights(str(tmp_path / "net.safetensors"), tmp_path / "again")
    one, other = (
        json.loads((path / "net.json").read_text()) for path in (imported, tmp_path / "again")
    )
    for key in ("architecture", "preprocessing", "class_names", "wordnet_ids"):
        assert one[key] == other[key]


def test_a_directory_of_an_older_deeper_needs_no_net_json(imported, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(imported, old)
    (old / "net.json").unlink()
    image = np.zeros((1, 64, 64, 3), np.uint8)
    (old / "weights.json").write_text(json.dumps({"source": "a", "sha256": "b", "new_layers": []}))
    expected, found = (Run(path).predict(image) for path in (imported, old))
    assert found.class_names == expected.class_names
    np.testing.assert_array_equal(found.scores, expected.scores)
    (old / "weights.json").write_text(json.dumps({"source": "a", "new_layers": ["fc"]}))
    with pytest.raises(UserError, match="random values"):
        Run(old).predict(image)


def test_a_run_says_what_its_net_is_when_it_ends(data_dir, tmp_path):
    config = deeper.configure(
        "model=lenet5", "data=fashion_mnist", f"data.dir={data_dir}", "data.validation=100",
        "train.steps=2", "train.batch_size=20", "train.train_error_examples=20",
        f"runs={tmp_path}", "tracker.mode=disabled", "train.devices=1",
    )  # fmt: skip
    run = deeper.train(config, progress=False)
    record = json.loads((run.path / "net.json").read_text())
    assert record["class_names"] == list(run.class_names)
    assert record["architecture"] == config.plain()["model"]
    assert record["preprocessing"]["mean"] == list(config.data.mean)
    assert record["source"] is None and record["new_layers"] == []


@pytest.mark.parametrize("name", ["bicubic", "lanczos"])
def test_photographs_are_resized_by_the_filter_that_is_asked_for(name):
    rng = np.random.default_rng(2)
    picture = Image.fromarray(rng.integers(0, 256, (300, 260, 3)).astype(np.uint8))
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    image = np.empty((224, 224, 3), np.uint8)
    show_into(image, stream.getvalue(), "a", View((224, 224, 3), "middle", 236, True, False, name))
    resized = picture.resize((236, int(236 * 300 / 260)), crops.FILTERS[name])
    top = round((resized.height - 224) / 2)
    expected = np.asarray(resized)[top : top + 224, 6:230].astype(int)
    # Both round: the crop is resized in one step, with fractional places.
    assert np.abs(image.astype(int) - expected).max() <= 2
    assert np.abs(image.astype(int) - expected).mean() < 0.1


def test_a_filter_is_for_antialiased_resizing_alone(imported):
    config = Run(imported).config
    wrong = config.replace({"data.antialias": False, "data.interpolation": "bicubic"})
    with pytest.raises(UserError, match=r"data\.interpolation=bicubic"):
        view_of(wrong.data)
