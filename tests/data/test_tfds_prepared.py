"""Data sets prepared by TensorFlow Datasets: with configs, of any size or of one, and unsupported
ones.
"""

import contextlib
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from deeper.data import array_records
from deeper.data.dataset import open_dataset
from deeper.data.encoded_images import Photographs, View
from deeper.data.prepare.tfds_prepared import find_prepared
from deeper.errors import UserError

VIEW = View((32, 32, 3), "inception", 36, antialias=True)


def write(
    data_dir, name, config, shape, form, splits, dtype=np.uint8, bare=(), labels=lambda i: i % 3,
    change=lambda picture: picture,
):  # fmt: skip
    """Have TFDS's own writer prepare a set; images are encoded, which needs no TensorFlow.

    Labels of the splits in `bare` are -1, as TFDS writes those that are not public.
    """
    import tensorflow_datasets as tfds

    rng = np.random.default_rng(0)

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config)] if config else []
        pkg_dir_path = data_dir

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=shape, dtype=dtype, encoding_format=form),
                "label": tfds.features.ClassLabel(num_classes=3),
            }
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {
                split: self._generate_examples(n, (lambda i: -1) if split in bare else labels)
                for split, n in splits.items()
            }

        def _generate_examples(self, n, label):
            for number in range(n):
                size = shape[:2] if shape[0] else rng.integers(40, 60, 2)
                pixels = rng.integers(0, np.iinfo(dtype).max + 1, (*size, shape[2])).astype(dtype)
                pixels = pixels[..., 0] if shape[2] == 1 else pixels
                stream = io.BytesIO()
                change(Image.fromarray(pixels)).save(stream, form)
                stream.seek(0)
                yield number, {"image": stream, "label": label(number)}

    Builder.name = name
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):
        Builder(data_dir=data_dir, file_format="array_record").download_and_prepare(
            download_config=tfds.download.DownloadConfig(try_download_gcs=False)
        )


def test_a_config_of_photographs_is_opened(tmp_path):
    write(tmp_path, "nettes", "160px-v2", (None, None, 3), "jpeg", {"train": 12, "validation": 6})
    directory = find_prepared("nettes/160px-v2", tmp_path)
    assert directory == tmp_path / "nettes" / "160px-v2" / "1.0.0"
    dataset = open_dataset("nettes/160px-v2", tmp_path, view=VIEW)
    assert {split: len(part) for split, part in dataset.splits.items()} == {"train": 12, "test": 6}
    assert dataset.class_names == ("0", "1", "2")
    assert sorted(dataset.splits["train"].labels) == [0] * 4 + [1] * 4 + [2] * 4
    train = dataset.splits["train"].images
    assert isinstance(train, Photographs)
    assert train[np.arange(12)].shape == (12, 32, 32, 3)
    with pytest.raises(UserError, match=r"which config of nettes: data\.name=nettes/160px-v2\."):
        find_prepared("nettes", tmp_path)


def test_images_of_one_size_are_arrays(tmp_path):
    write(tmp_path, "tiny", None, (16, 16, 3), "png", {"train": 9, "validation": 3})
    assert find_prepared("tiny", tmp_path) == tmp_path / "tiny" / "1.0.0"
    dataset = open_dataset("tiny", tmp_path)
    assert dataset.splits["test"].images.shape == (3, 16, 16, 3)
    assert dataset.class_names == ("0", "1", "2")


@pytest.mark.parametrize("channels", [1, 4])
def test_photographs_of_one_or_four_channels_are_shown_in_those_of_the_view(tmp_path, channels):
    write(tmp_path, "other", None, (None, None, channels), "png", {"train": 6, "test": 3})
    for shown in (3, 1):
        view = replace(VIEW, image_shape=(32, 32, shown))
        dataset = open_dataset("other", tmp_path, view=view)
        assert dataset.image_shape == (32, 32, shown)
        assert dataset.splits["train"].images[0].shape == (32, 32, shown)


def test_images_of_sixteen_bits_are_refused(tmp_path):
    write(tmp_path, "deep", None, (16, 16, 1), "png", {"train": 3, "test": 3}, np.uint16)
    with pytest.raises(UserError, match="are uint16: only images of 8 bits"):
        open_dataset("deep", tmp_path)


def test_a_set_to_test_on_alone_is_opened(tmp_path):
    write(tmp_path, "v2", None, (None, None, 3), "jpeg", {"test": 6})
    dataset = open_dataset("v2", tmp_path, view=VIEW)
    assert list(dataset.splits) == ["test"]
    assert dataset.splits["test"].images[0].shape == (32, 32, 3)


def test_what_cannot_be_used_is_said_with_what_helps(tmp_path):
    with pytest.raises(UserError, match=r"tfds\.builder\('imagenette/160px', data_dir="):
        find_prepared("imagenette/160px", tmp_path)
    write(tmp_path, "tiny", None, (16, 16, 3), "png", {"train": 3})
    about = tmp_path / "tiny" / "1.0.0" / "dataset_info.json"
    told = json.loads(about.read_text())
    about.write_text(json.dumps(told | {"fileFormat": "tfrecord"}))
    with pytest.raises(UserError, match=r"are tfrecord.*convert_format --dataset_version_dir=.*"):
        find_prepared("tiny", tmp_path)
    about.write_text(json.dumps(told))
    features = about.with_name("features.json")
    named = json.loads(features.read_text())
    del named["featuresDict"]["features"]["label"]
    features.write_text(json.dumps(named))
    with pytest.raises(UserError, match="no image classification: its features are image"):
        find_prepared("tiny", tmp_path)


@pytest.mark.parametrize("shape", [(None, None, 3), (16, 16, 3)], ids=["photographs", "one size"])
def test_splits_without_labels_or_use_are_told_apart_and_not_read(tmp_path, shape):
    splits = {"train": 9, "validation": 6, "test": 40, "extra": 5}
    write(tmp_path, "half", None, shape, "png", splits, bare=("test",))
    for file in (tmp_path / "half" / "1.0.0").glob("half-extra.array_record*"):
        file.unlink()  # whoever looks at it fails
    dataset = open_dataset("half", tmp_path, view=VIEW if shape[0] is None else None)
    assert {name: len(part) for name, part in dataset.splits.items()} == {"train": 9, "test": 6}
    assert dataset.unused == {
        "test": "40 images without labels",
        "extra": "5 images that no run uses",
    }
    known = open_dataset("half", tmp_path, view=VIEW if shape[0] is None else None)
    assert known.unused == dataset.unused and known.fingerprint == dataset.fingerprint
    (tmp_path / "less").mkdir()
    write(tmp_path / "less", "half", None, shape, "png", {"train": 9, "validation": 6})
    less = open_dataset("half", tmp_path / "less", view=VIEW if shape[0] is None else None)
    assert less.splits["train"].labels.tolist() == known.splits["train"].labels.tolist()


@pytest.mark.parametrize("shape", [(None, None, 3), (16, 16, 3)], ids=["photographs", "one size"])
def test_a_label_that_is_of_no_class_is_refused(tmp_path, shape):
    names = {"train": 9, "test": 6}
    write(tmp_path, "odd", None, shape, "png", names, labels=lambda i: -1 if i == 4 else i % 3)
    with pytest.raises(UserError, match=r"1 of the 9 labels of train in .*the first is -1"):
        open_dataset("odd", tmp_path, view=VIEW if shape[0] is None else None)


def test_a_known_test_split_of_an_older_cache_is_told_apart(tmp_path, monkeypatch):
    splits = {"train": 9, "validation": 6, "test": 4}
    write(tmp_path, "half", None, (16, 16, 3), "png", splits, bare=("test",))
    with monkeypatch.context() as patch:  # as deeper did before
        patch.setattr(array_records, "splits_read", lambda place: (tuple(splits), {}))
        patch.setattr(array_records, "require_labels", lambda *given: None)
        with contextlib.suppress(UserError):
            open_dataset("half", tmp_path)
    assert len(open_dataset("half", tmp_path).splits["test"]) == 6


def clear(picture):
    """Make a picture transparent, in colours that nobody shall see."""
    picture.putalpha(0)
    return picture


@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_one_size_are_read_as_photographs_are(tmp_path, channels):
    shape, sizes = (16, 16, channels), {"train": 3, "test": 3}
    write(tmp_path, "clear", None, shape, "png", sizes, change=clear)
    assert (open_dataset("clear", tmp_path).splits["train"].images[:] == 255).all()
    write(
        tmp_path, "palette", None, shape, "png", sizes,
        change=lambda picture: picture.point(lambda value: 200).convert("P"),
    )  # fmt: skip
    found = open_dataset("palette", tmp_path).splits["train"].images
    assert found.shape == (3, *shape) and abs(int(found.mean()) - 200) < 3
