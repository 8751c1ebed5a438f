"""Weights in, predictions, weights out: as a user does it, from the command line."""

import csv
import json
import subprocess
import sys

import jax.export
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from deeper.augment.pipeline import Normalise
from deeper.data.encoded_images import View
from deeper.data.image_files import read_picture
from deeper.data.prepare.imagenet import wordnet_ids
from deeper.models.resnet import resnet
from deeper.run import load
from deeper.run.class_names import class_names, imagenet_names
from deeper.weights.torchvision import convert, state_dict_shapes
from deeper.weights.weight_files import metadata_of

NET = ("model=resnet", "model.depth=18")
SMALL = resnet(None, 2, blocks=(1, 1, 1, 1), width=8)


def deeper(*arguments, cwd):
    done = subprocess.run(
        [sys.executable, "-m", "deeper", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A directory with a file as torchvision's state_dict() makes it, and its import."""
    folder = tmp_path_factory.mktemp("weights")
    rng = np.random.default_rng(0)
    weights = {}
    for name, shape in state_dict_shapes(resnet(18, 1000)).items():
        weights[name] = np.abs(rng.normal(size=shape)).astype(np.float32) * 0.05
        if name.endswith("running_mean"):
            weights[name.replace("running_mean", "num_batches_tracked")] = np.array(3)
        elif len(shape) > 1:
            weights[name] -= 0.035
    save_file(weights, folder / "resnet18.safetensors")
    out = deeper("weights", "import=resnet18.safetensors", *NET, "out=imported", cwd=folder)
    assert "122 arrays" in out
    return folder


def test_import_says_where_the_weights_are_from(folder):
    origin = json.loads((folder / "imported/net.json").read_text())
    assert origin["source"] == "resnet18.safetensors" and len(origin["sha256"]) == 64
    assert origin["new_layers"] == []


def test_export_is_the_import_to_the_bit(folder):
    deeper("weights", "run=imported", "out=back.safetensors", cwd=folder)
    there, back = (load_file(folder / f"{name}.safetensors") for name in ("resnet18", "back"))
    there = {name: array for name, array in there.items() if "num_batches" not in name}
    assert there.keys() == back.keys()
    for name in there:
        np.testing.assert_array_equal(there[name], back[name])
    facts = metadata_of(folder / "back.safetensors")
    assert json.loads(facts["mean"]) == [0.485, 0.456, 0.406]
    assert len(json.loads(facts["classes"])) == 1000


@pytest.mark.long
def test_predictions_and_stablehlo_are_the_nets_own(folder, mistake):
    pictures = folder / "pictures"
    pictures.mkdir()
    rng = np.random.default_rng(1)
    for name in ("a.png", "b.jpg", "c.png"):
        coarse = rng.integers(0, 255, (6, 7, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize((300, 260)).save(pictures / name)
    (pictures / "d.png").write_bytes(b"no picture")
    out = mistake("predict", "images=pictures", "weights=imported", directory=folder)
    assert "1 of 4 files left out" in out and "d.png is no picture" in out and "3 pictures" in out
    with (folder / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 15

    model = resnet(18, 1000)
    variables = convert(load_file(folder / "resnet18.safetensors"), model)
    view = View((224, 224, 3), "inception", 256, antialias=True)
    images = np.stack([read_picture(p, view) for p in sorted(pictures.iterdir())[:3]])
    normalise = Normalise((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    logits = np.asarray(
        jax.jit(lambda v, x: model.apply(v, normalise(x), train=False))(variables, images)
    )
    names = imagenet_names()
    for i in range(3):
        five = [names.index(row["class"]) for row in rows[5 * i : 5 * i + 5]]
        assert five == np.argsort(-logits[i])[:5].tolist()

    deeper("weights", "run=imported", "out=net.stablehlo", cwd=folder)
    exported = jax.export.deserialize(bytearray((folder / "net.stablehlo").read_bytes()))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    for count in (1, 3):
        theirs = np.asarray(exported.call(images[:count]))
        scale = np.abs(logits).max()
        np.testing.assert_allclose(theirs, logits[:count], rtol=0, atol=1e-4 * scale)
    facts = json.loads((folder / "net.stablehlo.json").read_text())
    assert facts["image_shape"] == [224, 224, 3]


def test_a_net_that_answers_nan_is_said_and_its_pictures_are_left_out(folder, mistake):
    weights = load_file(folder / "resnet18.safetensors")
    weights["fc.weight"][:] = 3e38  # finite, and the scores are not
    save_file(weights, folder / "large.safetensors")
    deeper("weights", "import=large.safetensors", *NET, "out=large", cwd=folder)
    Image.fromarray(np.full((230, 230, 3), 90, np.uint8)).save(folder / "one.png")
    out = mistake("predict", "images=one.png", "weights=large", "out=large.csv", directory=folder)
    assert "one.png: the net answers NaN" in out and "nan %" not in out
    assert (folder / "large.csv").read_text().splitlines() == ["file,rank,class,probability"]


def test_a_head_for_other_classes_is_new(folder):
    out = deeper(
        "weights", "import=resnet18.safetensors", *NET, "data.classes=10", "out=ten", cwd=folder
    )
    assert "New, for 10 classes: fc" in out
    # ImageNet's names are not those of ten other classes.
    config = load.config_of(folder / "ten", "run")
    assert class_names(folder / "ten", config) == [str(number) for number in range(10)]


def test_mistakes_are_told_and_nothing_is_written(folder, mistake):
    out = mistake(
        "weights", "import=resnet18.safetensors", "model=resnet", "model.depth=34", "out=no",
        directory=folder,
    )  # fmt: skip
    assert "layer1.2.conv1.weight" in out and "nothing was written" in out
    assert not (folder / "no").exists()
    (folder / "x.pth").write_bytes(b"")
    out = mistake("weights", "import=x.pth", "out=no", directory=folder)
    assert "neither a safetensors file nor one of PyTorch" in out
    out = mistake("weights", "import=x.pth", directory=folder)
    assert "out=DIRECTORY" in out
    out = mistake("weights", "run=imported", "names=mine", "out=x.safetensors", directory=folder)
    assert "torchvision, timm, deeper" in out
    out = mistake("weights", "run=imported", "out=x.txt", directory=folder)
    assert ".stablehlo" in out
    out = mistake("predict", "images=x.pth", "weights=nowhere", directory=folder)
    assert "no run directory" in out


def test_imagenets_classes_have_names_where_the_images_are_absent():
    names = imagenet_names()
    assert len(set(names)) == 1000
    # Places in the order of WordNet ids that everybody uses; two cranes are told apart.
    assert (names[0], names[207], names[999]) == ("tench", "golden retriever", "toilet tissue")
    assert (names[134], names[517]) == ("crane bird", "crane")


def test_an_import_records_names_and_preprocessing(folder, mistake):
    record = json.loads((folder / "imported/data.json").read_text())
    assert record["class_names"] == list(wordnet_ids())
    assert record["preprocessing"]["mean"] == [0.485, 0.456, 0.406]
    assert "fingerprint" not in record
    # A file that deeper wrote tells its own.
    arrays = load_file(folder / "resnet18.safetensors")
    facts = {"mean": "[0.1, 0.2, 0.3]", "std": "[0.3, 0.2, 0.1]"}
    facts["classes"] = json.dumps([f"hue {number}" for number in range(1000)])
    save_file(arrays, folder / "own.safetensors", facts)
    given = (*NET, "data=folder", "data.name=hues", "data.classes=1000")
    out = deeper("weights", "import=own.safetensors", *given, "out=own", cwd=folder)
    assert "as these weights expect: mean [0.1, 0.2, 0.3]" in out
    record = json.loads((folder / "own/data.json").read_text())
    assert record["class_names"][7] == "hue 7"
    assert record["preprocessing"]["std"] == [0.3, 0.2, 0.1]
    config = load.config_of(folder / "own", "run")
    assert list(config.data.mean) == [0.1, 0.2, 0.3]
    assert class_names(folder / "own", config)[7] == "hue 7"


def test_the_command_takes_a_file_as_a_program_saved_it(said, mistake, tmp_path):
    arrays = {
        f"module.{name}": np.ones(shape, np.float32)
        for name, shape in state_dict_shapes(SMALL).items()
    }
    averages = {f"model_ema.{name}": 2 * values for name, values in arrays.items()}
    tree = {f"state_dict.{name}": values for name, values in arrays.items()} | averages
    save_file(tree, tmp_path / "pets.safetensors")
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    words = ("weights", "import=pets.safetensors", "names=names.txt")
    out = said(*words, "ema=true", "out=ema")
    assert "averages over training" in out and "model_ema.module." in out
    assert "Architecture resnet10 of width 8" in out
    out = said(*words, "prefix=state_dict.module", "channels=1", "out=grey")
    assert "grey" in out
    config = load.config_of(tmp_path / "grey", "run")
    assert config.data.image_shape == (224, 224, 1)
    assert class_names(tmp_path / "grey", config) == ["cat", "dog"]
    assert "names=names.txt has 2 names, and the net has 5" in mistake(
        *words, "data.classes=5", "out=no"
    )
    assert "choose" in mistake("weights", "run=ema", "names=x", "out=a.safetensors").lower()


def test_a_subset_of_the_classes_is_said_to_be_one(said, mistake, tmp_path):
    rng = np.random.default_rng(0)
    shapes = state_dict_shapes(resnet(None, 1000, blocks=(1, 1, 1, 1), width=8))
    arrays = {name: rng.random(shape, np.float32) for name, shape in shapes.items()}
    save_file(arrays, tmp_path / "net.safetensors")
    said("weights", "import=net.safetensors", "data.image_shape=[64,64,3]", "out=net")
    for name in ("n02099601", "n01440764"):
        for number in range(3):
            path = tmp_path / "photos" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (80, 90, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(path)
    data = ("data=folder", "data.name=two", f"data.dir={tmp_path}")
    said("prepare", *data, "data.classes=2", "data.source=photos", "data.fraction=0.5")
    evaluate = ("evaluate", "run=net", *data, "batch_size=4")
    out = said(*evaluate)
    assert "two has 2 of the net's 1,000 classes" in out
    assert '"chosen_among": "the classes in the data"' in said(*evaluate, "only=subset")
    assert "only" in mistake(*evaluate, "only=some")
