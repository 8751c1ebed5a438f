"""Compares measured numbers with published ones of the same protocol, and draws published ones.

The error of a net depends on the evaluation protocol (one crop, ten crops, the whole image, several
sizes). Numbers are therefore compared only if data set, metric and protocol are the same, and
single nets never share a row or a figure with ensembles.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from deeper.plotting import COLOURS, INK, SOFT
from deeper.record.schema import RunRecord, nested
from deeper.study.means import mean_of
from deeper.study.read_runs import Collection
from deeper.study.tables import ABSENT, METRIC_NAMES, by_arm, published

# Protocol in published.csv -> the same protocol of `deeper evaluate protocol=`, for single nets.
SAME = {
    "test": "1crop",
    "val 1-crop single": "1crop",
    **{
        f"val 1-crop at {sizes} single": f"1crop at {sizes}"
        for sizes in ("224 of 230", "224 of 232", "224 of 236", "299 of 342")
    },
    "val 10-crop single": "10crop",
    "val single scale dense": "dense",
    "val dense at 384 single": "dense at 384",
    "val multi-scale single": "multiscale",
}
# Default size of a crop and of the photograph's shorter side, in pixels.
SIZES = (224, 256)
MEASURED = {"top1_error": "test/error", "top5_error": "test/error_top5"}
HEADINGS = ("net", "protocol", "metric", "measured", "published", "source")

# Display names; the entry of 2013 has none.
NAMES = {
    "alexnet": "AlexNet",
    "clarifai": "Clarifai",
    "vgg": "VGG",
    "googlenet": "GoogLeNet",
    "resnet": "ResNet",
}


def comparison_rows(collection: Collection) -> list[tuple[str, ...]]:
    """Return a row for each published number of the study's nets, with the measured number.

    Protocols with only a measured or only a published number have a row too. The measured number is
    the mean over seeds, with its interval or range, over the runs that were evaluated with that
    protocol; every run is evaluated with `1crop`. The same protocol at other sizes, such as `1crop
    at 224 of 236`, counts as another protocol. The protocol of the recipe's paper is marked.
    """
    numbers = published(collection.study.published)
    rows: list[tuple[str, ...]] = []
    for arm, runs in by_arm(collection).items():
        dataset = nested(runs[0].config, "data.name")
        of_recipe = nested(runs[0].config, "recipe.protocol")
        of_net = [r for r in numbers if (r["dataset"], r["model"]) == (dataset, runs[0].label)]
        of_net = [row for row in of_net if row["protocol"] in SAME and row["metric"] in MEASURED]
        if not of_net:
            continue
        for metric, key in MEASURED.items():
            others = sorted({p for run in runs for p in run.evaluations} - set(SAME.values()))
            for protocol in [*dict.fromkeys(SAME.values()), *others]:
                same = [
                    r for r in of_net if (SAME[r["protocol"]], r["metric"]) == (protocol, metric)
                ]
                measured = _measured(runs, protocol, key)
                marked = f"{protocol} (recipe)" if protocol == of_recipe else protocol
                for row in same or ([{}] if measured != ABSENT else []):
                    rows.append(
                        (arm, marked, METRIC_NAMES[metric], measured, *_value_and_source(row))
                    )
    return rows


def _measured(runs: Sequence[RunRecord], protocol: str, key: str) -> str:
    """Return the mean over the runs that were evaluated with a protocol, and their number."""
    same = [run for run in runs if " at " in protocol or _sizes(run) == SIZES]
    values = [v for run in same if (v := run.evaluations.get(protocol, {}).get(key)) is not None]
    if not values:
        return ABSENT
    return f"{mean_of(values)}, n = {len(values)}"


def _sizes(run: RunRecord) -> tuple[int, int]:
    """Return the size of a run's images and of its photographs' shorter side, in pixels."""
    shorter = nested(run.config, "data.shorter_side")
    return SIZES if shorter is None else (nested(run.config, "data.image_shape")[0], shorter)


def _value_and_source(row: Mapping[str, str]) -> tuple[str, str]:
    """Return a published value and its source, with the note on its net."""
    if not row:
        return ABSENT, "none of this protocol"
    value = f"{row['value']} ± {row['std']} (std)" if row["std"] else row["value"]
    return value, f"{row['source']}; {row['note']}" if row["note"] else row["source"]


def bars_figure(filters: Mapping[str, Any] | None) -> Figure | None:
    """Draw published numbers as bars, in their order (He 2016, "Revolution of depth").

    Args:
        filters: see `tables.published`; None draws nothing.
    """
    rows = published(filters)
    if not rows:
        return None
    figure = Figure(figsize=(8.4, 3.9), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    values = [float(row["value"]) for row in rows]
    deep = [_layers(row["model"]) for row in rows]
    colours = [COLOURS[0] if layers else "#b8c0c8" for layers in deep]
    axes.bar(range(len(rows)), values, width=0.62, color=colours)
    for x, value in enumerate(values):
        axes.annotate(
            f"{value:g}", (x, value), (0, 4), textcoords="offset points", ha="center",
            fontweight="bold", color=INK,
        )  # fmt: skip
    axes.set_xticks(range(len(rows)), [_tick(row) for row in rows])
    axes.tick_params(axis="x", length=0, labelcolor=INK)
    axes.set_xlim(-0.6, len(rows) - 0.4)
    axes.set_ylim(0, 1.12 * max(values))
    protocols = " and ".join(dict.fromkeys(row["protocol"] for row in rows))
    metrics = " and ".join(dict.fromkeys(METRIC_NAMES[row["metric"]] for row in rows))
    axes.set_ylabel(metrics.replace(" %", " (%)"))
    axes.set_title("Published ensembles: winners and runners-up of ILSVRC, by layers")
    sources = "; ".join(dict.fromkeys(row["source"] for row in rows))
    axes.set_xlabel(f"{protocols}; {sources}", color=SOFT, fontsize=9, labelpad=8)
    return figure


def _layers(model: str) -> int | None:
    """Return the number of layers of a net such as vgg-19; None if its name has no number."""
    name, _, last = model.rpartition("-")
    return int(last) if name in NAMES else None


def _tick(row: Mapping[str, str]) -> str:
    name = row["model"].rpartition("-")[0]
    layers = _layers(row["model"])
    entry = row["note"].split(" ")[0]
    return f"{entry}\n{NAMES.get(name, name)}\n{f'{layers} layers' if layers else ''}"
