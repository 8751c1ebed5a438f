"""Which way a metric counts: a study of average precision is not judged upside down."""

from dataclasses import replace

import pytest

from deeper.study.hypothesis_tests import SUPPORTED, examine_all
from deeper.study.metrics import in_words, less_is_better, on_training
from deeper.study.read_runs import collect
from deeper.study.tables import results_csv


@pytest.mark.parametrize(
    "name, less",
    [
        ("error", True), ("error_top5", True), ("loss", True), ("ece", True), ("apart", True),
        ("ap", False), ("ap50", False), ("ap_small", False), ("ar_100", False),
        ("voc07_ap50", False), ("voc_ap50", False), ("auroc", False), ("auprc", False),
    ],
)  # fmt: skip
def test_of_precision_and_areas_more_is_better(name, less):
    assert less_is_better(f"test/{name}", ()) == less
    assert on_training(f"test/{name}") == f"train/{name}"


@pytest.mark.parametrize(
    "metric, words",
    [
        ("test/error", "error"), ("test/error_top5", "top-5 error"), ("train/loss", "loss"),
        ("test/ap50", "AP50"), ("test/voc07_ap", "VOC07 AP"), ("test/macro_f1", "macro F1"),
        ("test/mean_average_precision", "mean average precision"),
    ],
)  # fmt: skip
def test_a_metric_is_called_by_its_name(metric, words):
    assert in_words(metric) == words


def test_the_results_of_a_task_say_which_way_its_metric_counts(study):
    collection = collect(study)
    for run in collection.finished:
        run.result |= {"metric": "r2", "less_is_better": False}
        run.result["metrics"]["test/r2"] = 1 - run.result["metrics"]["test/error"] / 100
    better, trend = collection.study.tests
    tests = [better, {**trend, "trend": "rises"}]
    of_r2 = replace(collection.study, metric="test/r2", metric_label="R2 of the test", tests=tests)
    first, second = examine_all(replace(collection, study=of_r2))
    assert [first.verdict, second.verdict] == [SUPPORTED, SUPPORTED]
    assert "points" not in first.words
    assert less_is_better("test/loss", collection.finished)  # not what the task goes by


def test_the_better_side_of_a_test_has_more_average_precision(study):
    collection = collect(study)
    for run in collection.finished:
        metrics = run.result["metrics"]
        metrics["test/ap"] = 100 - metrics["test/error"]
    better, trend = collection.study.tests
    assert [one.verdict for one in examine_all(collection)] == [SUPPORTED, SUPPORTED]
    tests = [better, {**trend, "trend": "rises"}]
    of_precision = replace(collection.study, metric="test/ap", tests=tests)
    first, second = examine_all(replace(collection, study=of_precision))
    assert [first.verdict, second.verdict] == [SUPPORTED, SUPPORTED]
    csv = results_csv(replace(collection, study=of_precision)).splitlines()
    assert csv[0].endswith(",test/ap,train/ap")
    assert "difference +" in first.words and "AP at depth" in second.words
