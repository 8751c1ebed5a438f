"""Data sets that TensorFlow Datasets has prepared: which can be used, and how to get others."""

import json
from pathlib import Path

from deeper.data.array_records import read_about
from deeper.data.dataset import prepared_directory
from deeper.errors import UserError


def find_prepared(name: str, data_dir: Path) -> Path:
    """Return the directory of an image classification data set that TFDS has prepared.

    Args:
        name: name in TFDS, followed by a slash and the config if it has any.
        data_dir: TFDS's data_dir.

    Raises:
        UserError: it is missing, has another file format, or is not an image classification data
            set; the message says how to get or convert it.
    """
    directory = find_array_records(name, data_dir)
    top = json.loads((directory / "features.json").read_text(encoding="utf-8")).get(
        "featuresDict", {}
    )
    features = top.get("features", {})
    if "image" not in features.get("image", {}) or "classLabel" not in features.get("label", {}):
        raise UserError(
            f"{name} is no image classification: its features are {', '.join(features) or 'none'}; "
            "an image and a label are needed."
        )
    return directory


def find_array_records(name: str, data_dir: Path) -> Path:
    """Return the directory of a data set that TFDS has prepared as array_record.

    Args:
        name: name in TFDS, followed by a slash and the config if it has any.
        data_dir: TFDS's data_dir.

    Raises:
        UserError: it is missing, or has another file format; the message says how to get or convert
            it.
    """
    directory = prepared_directory(name, data_dir)
    if directory is None:
        configs = sorted(
            str(info.parents[1].relative_to(data_dir))
            for info in (data_dir / name).glob("*/*/dataset_info.json")
        )
        if configs:
            raise UserError(f"Say which config of {name}: data.name={' or '.join(configs)}.")
        raise UserError(
            f"{name} is not in {data_dir.absolute()}. TensorFlow Datasets prepares it, in an "
            "environment of its own, since most of its data sets need TensorFlow for that: "
            'pip install tensorflow tensorflow-datasets array_record; python -c "import '
            f"tensorflow_datasets as tfds; tfds.builder('{name}', data_dir='{data_dir.absolute()}'"
            ", file_format='array_record').download_and_prepare()\""
        )
    info = read_about(directory)
    form = info.get("fileFormat", "tfrecord")
    if form != "array_record":
        raise UserError(
            f"The files in {directory} are {form}. In an environment with TensorFlow: tfds "
            f"convert_format --dataset_version_dir={directory.absolute()} "
            f"--out_file_format=array_record --out_dir=DIRECTORY/{directory.relative_to(data_dir)}"
            "; and say data.dir=DIRECTORY."
        )
    return directory
