"""Bacterial genomes in pieces of 250 bases (Ren et al. 2019), as TFDS prepares them.

The classes that TFDS's training split has are the classes; its splits of other bacteria, made to
test whether a net notices them, are not read.
"""

from collections import Counter
from pathlib import Path

from deeper.data.array_records import AGAIN, class_names, fields, open_records, split_lengths
from deeper.data.dataset import prepared_directory
from deeper.data.dna import Examples, encode, is_prepared, store
from deeper.data.prepare.atomic_directory import Progress
from deeper.errors import UserError

TFDS_NAME = "genomics_ood"
SPLITS = ("train", "validation", "test")
AT_ONCE = 1024  # records


def genomics_ood(
    dir: str,
    name: str,
    source: str | None,
    progress: Progress = lambda what, done, total: None,
) -> Path:
    """Read what TFDS has prepared, unless it was read, and return the data set's directory.

    Args:
        dir: where prepared data sets are.
        name: of the data set.
        source: data_dir of TFDS.
        progress: called with the number of records read.

    Raises:
        UserError: TFDS's directory is not there, or damaged.
    """
    directory = Path(dir) / name
    if is_prepared(directory):
        return directory
    tfds = None if source is None else prepared_directory(TFDS_NAME, Path(source))
    if tfds is None:
        raise UserError(
            f"data.prepare.source={source} holds no {TFDS_NAME} of TFDS: prepare it there as "
            "array_record, in an environment with TensorFlow, and give TFDS's data_dir."
        )
    changed: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    splits: dict[str, Examples] = {}
    for split in (one for one in SPLITS if one in split_lengths(tfds)):
        splits[split] = Examples()
        records = open_records(tfds, split)
        for begin in range(0, len(records), AT_ONCE):
            progress(f"read {split}", begin, len(records))
            numbers = range(begin, min(begin + AT_ONCE, len(records)))
            for record in records.__getitems__(numbers):
                try:
                    values = fields(record)
                    text, label = values["seq"], values["label"]
                    assert isinstance(text, bytes) and isinstance(label, int)
                    letters = text.decode("ascii")
                except (ValueError, KeyError, AssertionError) as error:
                    raise UserError(f"A record of {split} in {tfds} is damaged. {AGAIN}") from error
                try:
                    splits[split].add(encode(letters, changed), label)
                except UserError:
                    left_out["without a known base, or with characters that are none"] += 1
    if "train" not in splits:
        raise UserError(f"{tfds} has no split train, but {', '.join(split_lengths(tfds))}.")
    names = class_names(tfds)
    known = sorted(set(splits["train"].labels))
    for split, examples in splits.items():
        kept = [i for i, label in enumerate(examples.labels) if label in known]
        left_out[f"of {split}, of classes that train has not"] += len(examples.labels) - len(kept)
        splits[split] = Examples(
            [examples.bases[i] for i in kept], [known.index(examples.labels[i]) for i in kept]
        )
    told = {words: count for words, count in left_out.items() if count}
    classes = [names[label] for label in known]
    store(directory, splits, classes, progress, changed=changed, left_out=told)
    return directory
