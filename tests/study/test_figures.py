"""Figures: content, separated labels, stable bytes."""

import itertools
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from deeper.plotting import COLOURS, STYLE
from deeper.study.curves import curves_figure, mean_curve
from deeper.study.figures import (
    cost_figure,
    error_figure,
    lines_of,
    macs_figure,
    make_figures,
    short_names,
)
from deeper.study.label_placement import place_beside, spread
from deeper.study.read_runs import collect
from deeper.study.tables import summary_rows
from tests.study.conftest import DEFINITION, DEPTHS, write_net, write_run


def test_the_same_runs_give_the_same_bytes(report, tmp_path):
    make_figures(report.collection, tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted(f"{n}.{e}" for n in ("error", "curves", "macs") for e in ("svg", "png"))
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (report.page.parent / "figures" / path.name).read_bytes()


def test_the_error_figure_shows_means_and_single_runs_of_both_lines(report):
    figure = error_figure(report.collection)
    test, train = figure.axes
    lines = [line for line in test.lines if len(line.get_xdata()) == len(DEPTHS)]
    assert len(lines) == 2
    plain = np.array(lines[1].get_ydata())
    assert plain == pytest.approx([13.8, 14.0, 14.5, 19.0, 25.2], abs=0.2)
    assert [text.get_text() for text in test.texts] == ["residual", "plain"]
    training = next(line for line in train.lines if len(line.get_xdata()) == len(DEPTHS))
    assert np.array(training.get_ydata()) == pytest.approx(np.array(lines[0].get_ydata()) - 1.5)


def runs_and_strokes(axes):
    """Return the points of single runs, and the lines that are no curve: intervals."""
    points = [line for line in axes.lines if line.get_marker() == "o" and line.get_ls() == "None"]
    strokes = [line for line in axes.lines if line.get_marker() == "None"]
    return sum(len(line.get_xdata()) for line in points), len(strokes)


@pytest.mark.parametrize("seeds", [2, 4, 5])
def test_fewer_than_five_seeds_are_drawn_as_points_without_intervals(tmp_path, seeds):
    for seed in range(seeds):
        for depth in DEPTHS:
            write_net(tmp_path, True, depth, seed, 10.0 + 0.1 * seed)
    axes = error_figure(collect(tmp_path)).axes[0]
    points, strokes = runs_and_strokes(axes)
    assert strokes == 1 + (len(DEPTHS) if seeds >= 5 else 0)  # the line, and the intervals
    assert points >= seeds * len(DEPTHS)


def test_the_curves_of_few_seeds_show_each_run(tmp_path):
    counts = []
    for seed in range(5):
        write_net(tmp_path, True, 8, seed, 10.0 + 0.1 * seed)
        collection = collect(tmp_path)
        counts.append(len(curves_figure(collection, lines_of(collection), COLOURS).axes[0].lines))
    assert counts == [2, 4, 5, 6, 2]  # the means of training and validation, and each run's


def test_long_titles_of_the_panels_of_curves_do_not_touch(tmp_path):
    write_net(tmp_path, True, 8, 0, 10.0)
    collection = collect(tmp_path)
    names = ("shortcuts, last scale 0", "shortcuts", "plain, orthonormal", "plain")
    with mpl.rc_context({**mpl.rcParamsDefault, **STYLE, "backend": "agg"}):
        figure = curves_figure(collection, dict.fromkeys(names, collection.finished), COLOURS)
        figure.canvas.draw()
    texts = {" ".join(t.get_text().split()): t for axes in figure.axes for t in axes.findobj(Text)}
    boxes = [texts[name].get_window_extent() for name in names]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))
    assert boxes[-1].x1 < figure.legends[-1].get_window_extent().x0


def test_a_validation_error_measured_only_at_the_end_is_a_point_in_the_curves(tmp_path):
    for seed in range(5):
        write_net(tmp_path, True, 8, seed, 10.0 + 0.1 * seed)
    collection = collect(tmp_path)
    last = [
        replace(
            run,
            rows=[
                {key: value for key, value in row.items() if not key.startswith("validation/")}
                for row in run.rows[:-1]
            ]
            + [run.rows[-1] | {"validation/error": 10.0}],
        )
        for run in collection.finished
    ]
    axes = curves_figure(collection, {"residual": last}, COLOURS).axes[0]
    assert [line.get_marker() for line in axes.lines if len(line.get_xdata()) == 1] == ["o"]


def test_the_curves_of_a_metric_that_is_measured_at_evaluations_show_it_alone(tmp_path):
    write_net(tmp_path, True, 8, 0, 10.0)
    collection = collect(tmp_path)
    of_ap = replace(collection.study, metric="test/ap", metric_label="test AP (%)")
    run = replace(collection.finished[0], result=collection.finished[0].result | {"metric": "ap"})
    rises = [{"epoch": epoch, "validation/ap": 10.0 * epoch} for epoch in (1, 2, 3)]

    def curves(rows):
        runs = [replace(run, rows=rows)]
        return curves_figure(replace(collection, study=of_ap, runs=runs), {"": runs}, COLOURS)

    axes = curves(rises).axes[0]
    assert [list(line.get_ydata()) for line in axes.lines] == [[10.0, 20.0, 30.0]]
    low, high = axes.get_ylim()
    assert 0.0 < low <= 20.0 and high > 30.0  # the start, not the end, may lie outside
    assert axes.get_ylabel() == "AP (%)"
    assert curves(rises[-1:]) is None


def test_no_label_of_the_macs_figure_lies_on_another(report):
    figure = macs_figure(report.collection)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 12
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)


def test_nets_without_an_order_are_rows_with_the_best_on_top(tmp_path):
    definition = {**DEFINITION, "x": "label", "line": None, "arms": {}, "tests": []}
    errors = {"lenet5": 11.0, "alexnet": 8.0, "vgg16": 6.0, "googlenet": 6.1, "resnet20": 6.5}
    for number, (label, error) in enumerate(errors.items()):
        for seed in (0, 1, 2):
            macs = (3 + number) * 1_000_000
            write_run(tmp_path, label, seed, error + 0.1 * seed, study=definition, macs=macs)
    collection = collect(tmp_path)
    ticks = [text.get_text() for text in error_figure(collection).axes[0].get_yticklabels()]
    assert ticks == ["lenet5", "alexnet", "resnet20", "googlenet", "vgg16"]
    assert [row[0] for row in summary_rows(collection)] == list(errors)  # by their cost
    made = make_figures(collection, tmp_path / "figures")
    assert set(made) == {"error", "curves", "macs"}  # all have as many parameters


def test_a_single_x_gives_each_line_a_row_for_test_and_training_error(tmp_path):
    for seed in range(5):
        write_net(tmp_path, True, 20, seed, 10.0 + seed)
        write_net(tmp_path, False, 20, seed, 12.0 + 0.1 * seed)
    test, train = error_figure(collect(tmp_path)).axes
    assert [label.get_text() for label in test.get_yticklabels()] == ["plain", "residual"]
    # No text but the means stands among the points: rows are named at the axis.
    assert [text.get_text() for text in test.texts] == ["12.20", "12.00"]
    assert [text.get_text() for text in train.texts] == ["10.70", "10.50"]


def test_with_a_single_x_the_macs_figure_names_each_point_by_its_line(tmp_path):
    for seed in range(2):
        write_net(tmp_path, True, 20, seed, 10.0 + seed)
        write_net(tmp_path, False, 20, seed, 12.0 + seed)
    figure = macs_figure(collect(tmp_path))
    assert sorted(text.get_text() for text in figure.axes[0].texts) == ["plain", "residual"]


def test_curves_are_means_over_seeds_at_common_epochs(tmp_path):
    for seed in (0, 1):
        write_net(tmp_path, True, 8, seed, 10.0 + seed)
    runs = collect(tmp_path).finished
    runs[0].rows = [row for row in runs[0].rows if row["step"] != 50]
    epochs, means = mean_curve(runs, "validation/error")
    assert list(epochs) == [0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert means[-1] == pytest.approx(10.5 + 3.0)
    assert len(mean_curve(runs, "nothing")[0]) == 0


def test_labels_are_spread_no_further_than_needed():
    assert spread([1.0, 5.0], 1.0, 0.0) == [1.0, 5.0]
    assert spread([2.0, 2.0], 1.0, 0.0) == pytest.approx([1.5, 2.5])
    # Not below the axis, where they would not be drawn.
    assert spread([0.0, 0.1, 3.0], 1.0, 0.0) == pytest.approx([0.0, 1.0, 3.0])
    low, middle, high = sorted(spread([2.0, 2.1, 2.2], 1.0, 0.0))
    assert middle - low == pytest.approx(1.0, abs=0.01)
    assert high - middle == pytest.approx(1.0, abs=0.01)


def test_a_single_line_without_a_name_is_drawn(tmp_path):
    study = {**DEFINITION, "line": None, "line_names": {}, "published": None}
    for depth, seed in itertools.product(DEPTHS, (0, 1)):
        write_run(tmp_path, f"resnet{depth}", seed, 10.0, study=study, depth=depth)
    assert "error" in make_figures(collect(tmp_path), tmp_path / "figures")


def test_short_names_are_at_the_lines_and_long_ones_in_a_legend(tmp_path):
    words = {"false": "plain", "true": "residual"}
    for names, in_legend in ((words, False), ({**words, "true": "residual, with a cure"}, True)):
        place = tmp_path / str(in_legend)
        for seed in range(5):
            for depth in DEPTHS:
                study = {**DEFINITION, "line_names": names}
                write_net(place, True, depth, seed, 10.0 - 0.05 * depth, study=study)
                write_net(place, False, depth, seed, 12.0 + 0.1 * depth, study=study)
        figure = error_figure(collect(place))
        assert bool(figure.legends) is in_legend
        assert bool(figure.axes[0].texts) is not in_legend
        right = figure.axes[0].get_xlim()[1]
        width = right - figure.axes[0].get_xlim()[0]
        assert (right - max(DEPTHS)) / width < (0.1 if in_legend else 0.25)


def test_points_at_zero_are_seen_whole(tmp_path):
    for seed in range(5):
        for depth in DEPTHS:
            write_net(tmp_path, True, depth, seed, 0.0)
            write_net(tmp_path, False, depth, seed, 20.0 + seed)
    low, high = error_figure(collect(tmp_path)).axes[0].get_ylim()
    assert -0.05 * (high - low) < low < -0.01 * (high - low)


def test_arms_that_cost_the_same_have_a_point_each_with_their_own_error(tmp_path):
    definition = {
        **DEFINITION, "x": "label", "line": None, "arms": {"train.loss": ["a", "b"]}, "tests": [],
    }  # fmt: skip
    errors = {"lenet5": 11.0, "alexnet": 8.0, "vgg16": 5.0}
    for label, error in errors.items():
        for seed in (0, 1):
            macs = 2_000_000 if label == "vgg16" else 1_000_000
            write_run(tmp_path, label, seed, error, study=definition, macs=macs)
    figure = cost_figure(collect(tmp_path), "macs", "million multiply-accumulates")
    [line] = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    points = sorted(zip(line.get_xdata(), line.get_ydata(), strict=True))
    assert points == [(1.0, 8.0), (1.0, 11.0), (2.0, 5.0)]
    assert {text.get_text() for text in figure.axes[0].texts} == set(errors)
    inside = [tick for tick in figure.axes[0].get_xticks() if 1.0 <= tick <= 2.0]
    assert len(inside) > 1


@pytest.mark.parametrize("macs", [1_000_000, 1_090_000])
def test_nets_that_all_cost_nearly_the_same_are_not_drawn_against_the_cost(tmp_path, macs):
    definition = {**DEFINITION, "x": "label", "line": None, "arms": {}, "tests": []}
    for label, cost in {"lenet5": 1_000_000, "alexnet": macs}.items():
        write_run(tmp_path, label, 0, 5.0, study=definition, macs=cost)
    assert macs_figure(collect(tmp_path)) is None


CROWDED = {  # training and test error
    "none": (0.0, 25.3), "crop + flip": (0.4, 20.6), "Cutout": (6.7, 20.8), "Mixup": (10.6, 20.8),
    "random erasing": (3.6, 19.0), "TrivialAugment": (6.5, 19.3), "RandAugment": (4.5, 18.5),
    "AutoAugment": (3.5, 17.9), "CutMix": (10.8, 19.6), "all at once": (12.7, 19.7),
}  # fmt: skip


def test_crowded_labels_lie_on_no_other_and_in_the_axes():
    figure = Figure(figsize=(3.6, 4.0), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for x, y in CROWDED.values():
        axes.plot(x, y, "o", ms=6)
    axes.set_xlim(-4, 18)
    axes.set_ylim(16.8, 26.4)
    place_beside(axes, [(x, y, name, "black") for name, (x, y) in CROWDED.items()], [])
    figure.draw_without_rendering()
    texts = [text for text in axes.texts if text.get_text()]
    assert {text.get_text() for text in texts} == set(CROWDED)
    # Of a text with a line to its point, the text alone.
    boxes = [super(type(text), text).get_window_extent() for text in texts]
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    for box in boxes:
        assert axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1
        assert axes.bbox.y0 <= box.y0 and box.y1 <= axes.bbox.y1


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["textcnn arm=a", "textcnn arm=b"], ["a", "b"]),
        (["vgg11", "vgg13"], ["vgg11", "vgg13"]),
        (["net a=1 b=2", "net a=1 b=3"], ["2", "3"]),
        (["net", "net b=3"], ["net", "net b=3"]),
        (["one net"], ["one net"]),
    ],
)
def test_names_lose_what_all_of_them_share(names, short):
    assert [*short_names(names).values()] == short
