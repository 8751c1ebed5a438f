"""`deeper evaluate suite=` and `calibration=true` on a small run, and what they are made of."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import deeper
from deeper.augment.corruption_tables import ALEXNET, NAMES
from deeper.augment.corruptions import corrupt
from deeper.data.prepare.image_folder import Photograph, Tree
from deeper.data.prepare.prepare import prepare_photographs
from deeper.errors import UserError
from deeper.record.schema import read_run
from deeper.run import objectnet, robustness
from deeper.run.calibration import calibrate_run
from deeper.run.evaluate import evaluate_run
from deeper.run.frost import FILES, frost_pictures
from deeper.run.suite_reports import require_fitting_keys
from deeper.tasks.calibration import brier_score, fit_temperature, mean_loss, measures
from tests.augment.corruption_cases import ice


@pytest.fixture(scope="module")
def trained(data_dir, tmp_path_factory):
    return deeper.train(
        deeper.configure(
            "model=lenet5", "data=fashion_mnist", f"data.dir={data_dir}", "train.steps=3",
            "train.epochs=null", "train.batch_size=64", "data.validation=100", "train.devices=1",
            "tracker.mode=disabled", f"runs={tmp_path_factory.mktemp('runs')}",
        )
    )  # fmt: skip


@pytest.mark.compiles
def test_the_corrupted_errors_are_those_of_the_net_on_corrupted_images(trained, monkeypatch):
    monkeypatch.setattr(robustness, "NAMES", ("contrast", "gaussian_noise"))
    monkeypatch.setattr(robustness, "SEVERITIES", (5,))
    result = robustness.corrupt_run(trained.path, trained.config)
    other = robustness.corrupt_run(trained.path, trained.config, batch_size=40)
    data = trained.data("test")
    net = trained.net()
    for name in ("contrast", "gaussian_noise"):
        images = corrupt(name, "CIFAR-10-C", 5, data["image"], np.arange(len(data["label"])))
        wrong = np.asarray(net(np.asarray(images))).argmax(axis=1) != data["label"]
        assert result["error_by_corruption"][name] == pytest.approx([100 * float(wrong.mean())])
    assert other["error_by_corruption"] == result["error_by_corruption"]
    assert result["clean_error"] == pytest.approx(trained.metrics["test/error"])
    assert "test/mce" not in result
    written = json.loads((trained.path / robustness.file_of("corrupt")).read_text())
    assert written["n_seen"] == 203
    mean = np.mean([*result["mean_by_corruption"].values()])
    assert read_run(trained.path).number("test/corrupted_error") == pytest.approx(mean)
    assert (trained.path / robustness.picture_of("corrupt")).stat().st_size > 1000
    headings, rows = robustness.table_of(result)
    assert {len(row) for row in rows} == {len(headings)}
    assert trained.status == "finished", "the run is read as before"


@pytest.mark.compiles
def test_corrupted_images_that_are_kept_are_made_once_and_give_the_same_errors(
    trained, monkeypatch, tmp_path
):
    monkeypatch.setattr(robustness, "NAMES", ("contrast", "gaussian_noise"))
    monkeypatch.setattr(robustness, "SEVERITIES", (5,))
    anew = robustness.corrupt_run(trained.path, trained.config)
    first = robustness.corrupt_run(trained.path, trained.config, kept=tmp_path / "kept")
    files = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "kept").iterdir()}
    assert len(files) == 2

    def no_program(*asked):
        raise AssertionError(f"{asked} is there")

    monkeypatch.setattr(robustness, "corrupt", no_program)
    robustness.compiled.cache_clear()
    again = robustness.corrupt_run(trained.path, trained.config, kept=tmp_path / "kept")
    assert first == again == anew
    assert files == {file.name: file.stat().st_mtime_ns for file in (tmp_path / "kept").iterdir()}
    with pytest.raises(AssertionError, match="contrast"):  # of other batches
        robustness.corrupt_run(trained.path, trained.config, batch_size=32, kept=tmp_path / "kept")


@pytest.mark.compiles
def test_the_temperature_is_fitted_on_validation_and_changes_no_answer(trained):
    result = calibrate_run(trained.path, trained.config)
    assert result["fitted_on"] == 100
    assert result["n_seen"] == 203 == sum(result["before"]["bins"]["n"])
    measured = trained.evaluate()
    assert result["before"]["loss"] == pytest.approx(measured["test/loss"], rel=1e-4)
    ece = measured["test/calibration_error"]
    assert result["before"]["calibration_error"] == pytest.approx(ece, abs=0.01)
    assert (trained.path / "calibration.png").stat().st_size > 1000


def prepared(directory, name, classes, splits):
    """Prepare small photographs as a data set, as `deeper prepare data=folder` does."""
    random, found = np.random.default_rng(len(name)), {}
    for split, count in splits.items():
        found[split] = []
        for i in range(count):
            pixels = random.integers(0, 256, (18, 20, 3)).astype(np.uint8)
            file = directory / f"{name}-{split}-{i}.png"
            Image.fromarray(pixels).save(file)
            label = i % len(classes)
            found[split].append(Photograph(file, file.stat().st_size, file.name, label))
    tree = Tree(found, tuple(classes))
    prepare_photographs(name, directory / "data", lambda: tree, 1)


@pytest.mark.compiles
def test_the_robust_suite_weighs_all_images_of_the_sets_that_are_there(tmp_path, monkeypatch):
    four = [f"n{c}" for c in range(4)]
    prepared(tmp_path, "pets", four, {"train": 40, "test": 20})
    prepared(tmp_path, "pets_a", four[1:3], {"train": 14, "test": 6})
    run = deeper.train(
        deeper.configure(
            "model=lenet5", "data=folder", "data.name=pets", "data.classes=4",
            f"data.dir={tmp_path / 'data'}", "data.image_shape=[16,16,3]", "data.shorter_side=18",
            "data.validation=0", "data.workers=1", "data.processes=false", "train.steps=2",
            "train.epochs=null", "train.batch_size=8", "train.devices=1", f"runs={tmp_path}",
        )
    )  # fmt: skip
    monkeypatch.setattr(
        robustness,
        "SHIFTS",
        (
            robustness.Shift("Pets-A", ("pets_a",), 20, "a paper", "subset"),
            robustness.Shift("Pets-B", ("pets_b",), 20, "https://pets.example"),
        ),
    )
    root = tmp_path / "data"
    result = robustness.shifted_run(run.path, run.config, root=root)
    own, shifted = result["sets"]
    assert own["error"] == pytest.approx(run.metrics["test/error"])
    other = replace(run.config.data, name="pets_a")
    errors = {
        split: evaluate_run(run.path, run.config, split=split, other=other, only="subset")
        for split in ("train", "test")
    }
    weighed = 14 * errors["train"]["train/error"] + 6 * errors["test"]["test/error"]
    assert shifted["n_seen"] == shifted["size"] == 20
    assert shifted["error"] == pytest.approx(weighed / 20)
    assert shifted["chosen_among"] == "the classes in the data"
    assert any("https://pets.example" in line for line in result["missing"])
    assert (run.path / robustness.file_of("robust")).exists()
    assert (run.path / robustness.picture_of("robust")).exists()


def test_a_temperature_that_logits_were_multiplied_by_is_found_again():
    random = np.random.default_rng(0)
    true = random.normal(size=(20_000, 5)) * 2
    labels = (true + random.gumbel(size=true.shape)).argmax(axis=1)
    assert fit_temperature(3 * true, labels) == pytest.approx(3, rel=0.05)
    calibrated, sharp = measures(true, labels), measures(3 * true, labels)
    assert calibrated["calibration_error"] < 1.5 < sharp["calibration_error"]
    assert calibrated["brier"] < sharp["brier"]
    assert mean_loss(true, labels) < mean_loss(3 * true, labels)


def test_the_brier_score_is_the_sum_over_classes():
    scores = np.log([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]])
    assert brier_score(scores, np.array([0, 0])) == pytest.approx(
        (0.5**2 + 0.3**2 + 0.2**2 + 0.9**2 + 0.8**2 + 0.1**2) / 2
    )
    assert brier_score(scores, np.array([1, 2])) == pytest.approx(
        (0.25 + 0.49 + 0.04 + 0.01 + 0.64 + 0.81) / 2
    )


def test_alexnets_own_errors_are_an_mce_of_one_hundred():
    assert len(ALEXNET) == 15
    means = {name: 100 * error for name, error in ALEXNET.items()}
    assert robustness.mean_corruption_error(means) == pytest.approx(100)
    assert tuple(means) == NAMES


def test_frost_pictures_are_read_in_the_size_of_the_data_set(tmp_path):
    for number, name in enumerate(FILES):
        Image.fromarray(ice(number)).save(tmp_path / name, "PNG")
    pictures = frost_pictures(tmp_path, "CIFAR-10-C", (28, 28, 1))
    np.testing.assert_array_equal(pictures.sizes[0], [60, 84])
    whole = frost_pictures(tmp_path, "ImageNet-C", (224, 224, 3))
    np.testing.assert_array_equal(whole.pixels[4, :400, :360], ice(4))
    with pytest.raises(UserError, match="frost2"):
        (tmp_path / "frost2.png").unlink()
        frost_pictures(tmp_path, "ImageNet-C", (224, 224, 3))


def test_objects_have_the_imagenet_classes_of_their_mappings(tmp_path):
    files = {
        objectnet.FOLDERS: {"chair": "Chair", "spoon": "Spoon"},
        objectnet.OBJECTS: {"Chair": "folding chair; rocking chair, rocker"},
        objectnet.NUMBERS: {"559": 0, "765": 2},
    }
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    lines = "folding chair\nspoon\nrocking chair, rocker\n"
    with pytest.raises(UserError):
        objectnet.classes_by_folder(tmp_path)
    (tmp_path / objectnet.NAMES).write_text(lines)
    with pytest.raises(UserError):
        objectnet.classes_by_folder(tmp_path)  # the spoon's line has no number
    files[objectnet.NUMBERS]["910"] = 1
    (tmp_path / objectnet.NUMBERS).write_text(json.dumps(files[objectnet.NUMBERS]))
    assert objectnet.classes_by_folder(tmp_path) == {"chair": (559, 765)}


def test_the_robust_suite_is_for_photographs_and_keys_without_a_part_are_refused(trained, tmp_path):
    with pytest.raises(UserError):
        robustness.shifted_run(trained.path, trained.config, root=tmp_path)
    keys = {
        "suite": "corrupt", "calibration": False, "protocol": "1crop", "size": None, "frost": None,
        "shorter_side": None, "scales": None, "padding": None, "split": "test", "labels": None,
        "only": None,
    }  # fmt: skip
    require_fitting_keys(keys)
    for wrong in (
        {"protocol": "flip"},
        {"split": "train"},
        {"suite": "weather"},
        {"calibration": True},
        {"suite": None, "frost": "pictures"},
    ):
        with pytest.raises(UserError):
            require_fitting_keys(keys | wrong)
