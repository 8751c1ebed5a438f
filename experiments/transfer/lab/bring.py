"""Makes what a user of the page would bring: a file of weights, and a folder of photographs.

    deeper prepare data=photos
    python experiments/transfer/lab/bring.py DIRECTORY

The weights are of a residual net of 18 layers with a quarter of the channels, trained for ten
passes on 24 of the stand-in's 36 classes and written as torchvision names them:
DIRECTORY/source.safetensors. The photographs are those of the other twelve classes,
DIRECTORY/photographs/train/CLASS/*.jpg and val/CLASS/*.jpg. Ten minutes on two cores.
"""

import subprocess
import sys
from pathlib import Path

from deeper.config.compose import configure
from deeper.data.array_records import class_names, fields, label_of, open_records
from deeper.data.dataset import prepared_directory
from deeper.errors import UserError

SOURCE = range(24)  # classes of the stand-in that the weights are of
DEEPER = str(Path(sys.executable).with_name("deeper"))
TRAIN = (
    "data=photos", f"data.keep_classes={list(SOURCE)}", f"data.classes={len(SOURCE)}",
    "model=resnet", "model.depth=18", "model.width=16", "augment=none", "train.batch_size=64",
    "train.epochs=10", "train.log_every=36", "train.train_error_examples=64",
    "tracker.mode=disabled",
)  # fmt: skip


def main(place: Path) -> None:
    """Train, export, and write the photographs."""
    data_dir = configure("data=photos").data.dir
    prepared = prepared_directory("photos", Path(data_dir))
    if prepared is None:
        raise UserError(f"There is no data set photos in {data_dir}: deeper prepare data=photos.")
    write_photographs(prepared, place / "photographs")
    subprocess.run([DEEPER, "train", *TRAIN, f"runs={place / 'source'}"], check=True)
    [run] = (place / "source").glob("single/*")
    out = place / "source.safetensors"
    subprocess.run([DEEPER, "weights", f"run={run}", f"out={out}"], check=True)


def write_photographs(prepared: Path, place: Path) -> None:
    """Write the photographs of the other classes as files, a folder for each class."""
    names = class_names(prepared)
    for split, folder in {"train": "train", "validation": "val"}.items():
        records = open_records(prepared, split)
        for number in range(len(records)):
            record = records[number]
            label = label_of(record, split, prepared)
            if label in SOURCE:
                continue
            file = place / folder / names[label] / f"{number:04d}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            image = fields(record)["image"]
            assert isinstance(image, bytes)
            file.write_bytes(image)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
