"""Sheets of a net of sequences: its first filters, and what its answers depend on."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from deeper.data.reader import Given
from deeper.data.text import FIRST
from deeper.errors import UserError
from deeper.interpret import figures, sequence_filters
from deeper.interpret.attribution import METHODS, class_numbers, save_all
from deeper.interpret.sheets import SHOWN, Sheet
from deeper.models.layers import EMBEDDING_TABLE
from deeper.profile.layer_table import layers_of
from deeper.progress import Progress, quiet
from deeper.run import build, data_record, load
from deeper.run.attribute import attribute_columns
from deeper.run.class_names import class_names
from deeper.run.dataset import Splits
from deeper.run.run import Net

SHEETS = ("filters", "attribution")
LABEL = "label"
DPI = 120
FILTERS = "What the filters of the first convolution answer to. "
CAPTIONS = {
    "signals": FILTERS + "Left: some of them. Right: how strongly each one passes a frequency, as "
    "a share of its largest response.",
    "motifs": FILTERS + "The motif is made of the places that activate a filter most (Alipanahi et "
    "al. 2015); a letter is as high as its share of the position's bits.",
    "tokens": FILTERS + "Of each filter, position by position, what activates it most.",
    "pictures": "The first convolution's weights; grey is zero.",
}


def draw_sheets(
    path: Path,
    out: Path,
    sheets: Sequence[str],
    *,
    checkpoint: str | int = "last",
    data_dir: str | None = None,
    split: str = "validation",
    examples: int = 10_000,
    given: Sequence[Given] | None = None,
    methods: Sequence[str] = (*METHODS,),
    layer: str | None = None,
    classes: Sequence[int | str] | None = None,
    n: int | None = None,
    progress: Progress = quiet,
) -> tuple[str, list[Sheet]]:
    """Draw sheets of a run's net.

    Args:
        path: the run directory.
        out: a directory for the sheets.
        sheets: of `SHEETS`.
        checkpoint: last, best or a step.
        data_dir: where the run's own data lie now; by default where they lay.
        split: validation, test or train.
        examples: of the split, at most, that filters are shown.
        given: texts or files in the place of the split, as the run's reader takes them.
        methods: of attribution; each is a sheet.
        layer: of Grad-CAM's maps.
        classes: all of them are asked of every example; by default its own one, or where several
            or none is known the net's answer.
        n: examples that attribution shows, by default 6.
        progress: told how far it is.

    Returns:
        What the net is called, and the sheets.

    Raises:
        UserError: there is no such checkpoint, split, class or layer, or nothing can be read.
    """
    stored = load.open_stored(path, checkpoint, "run", data_dir)
    config = stored.config
    reader = data_record.reader_of(path)
    net = Net(stored, tuple(class_names(path, config)), reader)
    if given is None:
        found = data_record.open_own_splits(path, config)
        columns = _columns(found, split, examples)
        names: Sequence[str] = [f"{split} {row}" for row in range(_count(columns))]
    elif reader is None:
        raise UserError(
            f"inputs= needs a data set that can read texts or files; {config.data.name} has no "
            "reader. Leave it away to see a split."
        )
    else:
        read = reader(given)
        if read.left_out:
            raise UserError("\n".join(read.left_out))
        columns, names = dict(read.columns), read.names
    if n is not None and not 1 <= n <= _count(columns):
        raise UserError(f"n={n}: give 1 to {_count(columns)} examples.")
    title = f"{config.label} on {config.data.name}"
    out.mkdir(parents=True, exist_ok=True)
    drawn = []
    if "filters" in sheets:
        drawn.append(_filters(title, net, columns, out / "filters.png"))
    if "attribution" in sheets:
        shown = {name: values[: n or SHOWN] for name, values in columns.items()}
        drawn += _attributions(
            title, net, shown, names, out, methods=methods, layer=layer,
            classes=None if classes is None else class_numbers(classes, net.class_names),
            progress=progress,
        )  # fmt: skip
    return title, drawn


def _columns(splits: Splits, name: str, examples: int) -> dict[str, np.ndarray]:
    """Return a split's columns, that of the sequences first."""
    columns = {
        key: np.asarray(values[:examples]) for key, values in splits.named(name).columns.items()
    }
    return {key: columns[key] for key in sorted(columns, key=lambda key: key == LABEL)}


def _count(columns: Mapping[str, np.ndarray]) -> int:
    return len(next(iter(columns.values())))


def _filters(title: str, net: Net, columns: Mapping[str, np.ndarray], out: Path) -> Sheet:
    """Draw the first convolution's filters in the way that suits the data."""
    layers = layers_of(net.model, build.example_of(net.config))
    first = next((layer for layer in layers if layer.kind == "conv"), None)
    if first is None:
        raise UserError("This net has no convolution whose filters could be drawn.")
    node = net.variables["params"]
    for part in first.name.split("/"):
        node = node[part]
    kernel = np.asarray(node["kernel"], np.float32)
    heading = f"{title}: filters of {first.name}"
    stored = next(iter(columns.values()))
    reader: Any = net.reader
    vocabulary = getattr(reader, "vocabulary", None)
    if kernel.ndim == 4:
        figures.draw_filters(heading, kernel, out)
        return Sheet("filters", CAPTIONS["pictures"], out)
    if vocabulary is not None and getattr(net.model, "tokens", None) is not None:
        vectors = _vectors(net, kernel.shape[1])
        # The net may have room for more tokens than there are.
        there = min(len(vectors), FIRST + len(vocabulary))
        symbols = reader.symbols(np.arange(FIRST, there))
        notes = sequence_filters.draw_tokens(heading, kernel, vectors[FIRST:there], symbols, out)
        return Sheet("filters", CAPTIONS["tokens"], out, notes)
    if kernel.shape[1] == 4 and hasattr(reader, "symbols") and stored.ndim == 2:
        notes = sequence_filters.draw_motifs(heading, kernel, stored, out)
        return Sheet("filters", CAPTIONS["motifs"], out, notes)
    sequence_filters.draw_responses(heading, kernel, out, getattr(reader, "rate", None))
    return Sheet("filters", CAPTIONS["signals"], out)


def _vectors(net: Net, channels: int) -> np.ndarray:
    """Return the vector of each token, added up where a net has several tables of them.

    A net without a table sees one-hot rows of the tokens from `FIRST` on.
    """
    tables = [
        np.asarray(node[EMBEDDING_TABLE], np.float32)
        for kind in ("params", "batch_stats")
        for node in net.variables.get(kind, {}).values()
        if isinstance(node, Mapping) and EMBEDDING_TABLE in node
    ]
    return sum(tables[1:], start=tables[0]) if tables else np.eye(channels + FIRST)[:, FIRST:]


def _attributions(
    title: str,
    net: Net,
    columns: Mapping[str, np.ndarray],
    names: Sequence[str],
    out: Path,
    *,
    methods: Sequence[str],
    layer: str | None,
    classes: Sequence[int] | None,
    progress: Progress,
) -> list[Sheet]:
    """Draw a sheet for each method, and write the maps to ``attribution.npz``."""
    count, labels = _count(columns), columns.get(LABEL)
    rows = np.array([row for row in range(count) for _ in (classes or [0])])
    asked: Sequence[int] | None = None
    if classes is not None:
        asked = [*classes] * count
    elif labels is not None and labels.ndim == 1:
        asked = labels.tolist()
    found = {}
    for method in methods:
        found[method] = attribute_columns(
            net,
            {name: values[rows] for name, values in columns.items()},
            [names[row] for row in rows],
            method,
            layer=layer if method.startswith("grad_cam") else None,
            classes=asked,
            progress=partial(progress, method.replace("_", " ")),
        )
    drawn = []
    for method, one in found.items():
        sheet = out / f"attribution_{method}.png"
        one.figure().savefig(sheet, dpi=DPI, metadata={"Software": None})
        caption = f"{title}: which positions a class's score comes from, by {METHODS[method]}."
        drawn.append(Sheet(f"attribution_{method}", caption, sheet))
    save_all(out / "attribution.npz", found)
    return drawn
