"""Sets that TensorFlow Datasets prepared: with configs, of any size or of one, and the rest."""

import contextlib
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from deeper.data.dataset import open_dataset
from deeper.data.encoded_images import Photographs, View
from deeper.data.prepare.tfds_prepared import find_prepared
from deeper.errors import UserError

VIEW = View((32, 32, 3), "inception", 36, antialias=True)


def write(data_dir, name, config, shape, form, splits, dtype=np.uint8):
    """Have TFDS's own writer prepare a set; images are encoded, which needs no TensorFlow."""
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
            return {split: self._generate_examples(n) for split, n in splits.items()}

        def _generate_examples(self, n):
            for number in range(n):
                size = shape[:2] if shape[0] else rng.integers(40, 60, 2)
                pixels = rng.integers(0, np.iinfo(dtype).max + 1, (*size, shape[2])).astype(dtype)
                pixels = pixels[..., 0] if shape[2] == 1 else pixels
                stream = io.BytesIO()
                Image.fromarray(pixels).save(stream, form)
                stream.seek(0)
                yield number, {"image": stream, "label": number % 3}

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
