"""Writes the photographs of a data set in the formats of other pipelines; JPEG bytes are unchanged.

Arguments: the prepared directory, the directory to write to: TFRecord files of the same records,
and a tree of JPEG files in class folders.
"""

import os
import shutil
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf

from deeper.data import array_records

FILES = 16


def main() -> None:
    """Write the TFRecord files and the tree of JPEG files."""
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    stored = array_records.open_records(source, "train")
    part = target.with_name(f"part-{target.name}")  # until it is complete
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    writers = [
        tf.io.TFRecordWriter(str(part / f"train-{i:05d}-of-{FILES:05d}.tfrecord"))
        for i in range(FILES)
    ]
    for number in range(len(stored)):
        record = stored[number]
        writers[number % FILES].write(record)
        found = array_records.fields(record)
        folder = part / "tree" / f"{found['label']:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:06d}.jpg").write_bytes(found["image"])
    for writer in writers:
        writer.close()
    part.rename(target)


main()
