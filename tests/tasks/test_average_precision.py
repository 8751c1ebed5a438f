"""Average precision equals pycocotools', and VOC's rules worked out by hand or naively."""

import contextlib
import io
import json

import numpy as np
import pytest

from deeper.tasks.average_precision import Detections, Truth, average_precision
from deeper.tasks.coco_results import coco_results

DIGITS = 1e-6


def truth_of(images, most):
    """Return the truth of (box, label, crowd, difficult, area or None) lists."""
    n = len(images)
    boxes, area = np.zeros((n, most, 4), np.float64), np.zeros((n, most))
    labels = np.full((n, most), -1, np.int32)
    crowd, difficult = np.zeros((n, most), bool), np.zeros((n, most), bool)
    for i, objects in enumerate(images):
        for j, (box, label, is_crowd, is_difficult, own) in enumerate(objects):
            boxes[i, j], labels[i, j] = box, label
            crowd[i, j], difficult[i, j] = is_crowd, is_difficult
            area[i, j] = (box[2] - box[0]) * (box[3] - box[1]) if own is None else own
    return Truth(boxes, labels, crowd, difficult, area)


def found_of(images, most):
    """Return the detections of (box, score, label) lists."""
    n = len(images)
    boxes, scores = np.zeros((n, most, 4), np.float64), np.zeros((n, most))
    labels = np.full((n, most), -1, np.int32)
    for i, detections in enumerate(images):
        for j, (box, score, label) in enumerate(detections):
            boxes[i, j], scores[i, j], labels[i, j] = box, score, label
    return Detections(boxes, scores, labels)


def judged(found, truth, classes):
    """Return pycocotools' evaluation; difficult objects are ignored, as it can be told."""
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    class Eval(COCOeval):
        def _prepare(self):
            super()._prepare()
            for objects in self._gts.values():
                for one in objects:
                    one["ignore"] = one["iscrowd"] or one["difficult"]

    def corner(box):
        x1, y1, x2, y2 = map(float, box)
        return [x1, y1, x2 - x1, y2 - y1]

    n = len(truth.labels)
    annotations = [
        {
            "image_id": i,
            "category_id": int(truth.labels[i, j]),
            "bbox": corner(truth.boxes[i, j]),
            "area": float(truth.area[i, j]),
            "iscrowd": int(truth.crowd[i, j]),
            "difficult": int(truth.difficult[i, j]),
        }
        for i, j in np.argwhere(truth.labels >= 0).tolist()
    ]
    for number, one in enumerate(annotations, 1):
        one["id"] = number
    results = [
        {
            "image_id": i,
            "category_id": int(found.labels[i, j]),
            "bbox": corner(found.boxes[i, j]),
            "score": float(found.scores[i, j]),
        }
        for i, j in np.argwhere(found.labels >= 0).tolist()
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = {
            "info": {},
            "images": [{"id": i} for i in range(n)],
            "categories": [{"id": k} for k in range(classes)],
            "annotations": annotations,
        }
        known.createIndex()
        answers = COCO()
        answers.dataset = {**known.dataset, "annotations": []}
        answers.createIndex()
        if results:
            answers = known.loadRes(results)
        evaluation = Eval(known, answers, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def agree(found, truth, classes):
    """Compare all curves and numbers with pycocotools'; return our numbers."""
    ours, theirs = average_precision(found, truth, classes), judged(found, truth, classes)

    def known(values):
        return np.where(values < 0, np.nan, values)

    np.testing.assert_allclose(
        ours.precision, known(theirs.eval["precision"][..., -1]), rtol=0, atol=DIGITS
    )
    np.testing.assert_allclose(
        ours.recall, known(theirs.eval["recall"][..., -1]), rtol=0, atol=DIGITS
    )
    numbers = ours.numbers()
    for name, place in (
        ("ap", 0), ("ap50", 1), ("ap75", 2), ("ap_small", 3), ("ap_medium", 4), ("ap_large", 5),
        ("ar_100", 8),
    ):  # fmt: skip
        if theirs.stats[place] < 0:
            assert np.isnan(numbers.get(name, np.nan))
        else:
            assert numbers[name] == pytest.approx(100 * theirs.stats[place], abs=100 * DIGITS)
    return numbers


def drawn(seed, photographs=40, classes=4, objects=8, detections=20, scores=None):
    """Draw objects of all sizes, and detections near them and elsewhere."""
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(photographs):
        there, said = [], []
        for _ in range(int(rng.integers(0, objects + 1))):
            side = rng.integers(4, 200, 2)
            corner = rng.integers(0, 300, 2)
            box = np.concatenate([corner, corner + side])
            flags = rng.random(2) < (0.15, 0.15)
            own = None if rng.random() < 0.5 else float(side.prod() * rng.uniform(0.3, 1.0))
            there.append((box, int(rng.integers(classes)), *flags.tolist(), own))
        for _ in range(int(rng.integers(0, detections + 1))):
            if there and rng.random() < 0.8:
                box, label, *_ = there[int(rng.integers(len(there)))]
                box = box + rng.integers(-12, 13, 4)
                label = label if rng.random() < 0.8 else int(rng.integers(classes))
            else:
                corner = rng.integers(0, 300, 2)
                box = np.concatenate([corner, corner + rng.integers(1, 150, 2)])
                label = int(rng.integers(classes))
            box[2:] = np.maximum(box[2:], box[:2] + 1)
            score = rng.random() if scores is None else rng.choice(scores)
            said.append((box, float(score), label))
        truth.append(there)
        found.append(said)
    return found_of(found, detections), truth_of(truth, objects)


@pytest.mark.parametrize("seed", range(6))
def test_made_up_detections_are_judged_as_pycocotools_judges_them(seed):
    numbers = agree(*drawn(seed), 4)
    assert 1 < numbers["ap"] < 90


@pytest.mark.parametrize("seed", range(4))
def test_equal_scores_are_ordered_as_pycocotools_orders_them(seed):
    agree(*drawn(seed, scores=[0.25, 0.5, 0.75]), 4)


def test_a_class_without_truth_or_without_detections_is_judged_as_pycocotools_judges_it():
    found, truth = drawn(7)
    labels = np.where(truth.labels == 2, -1, truth.labels)
    without = Truth(truth.boxes, labels, truth.crowd, truth.difficult, truth.area)
    agree(found, without, 4)
    none = Detections(found.boxes, found.scores, np.where(found.labels == 1, -1, found.labels))
    agree(none, truth, 4)
    agree(none, without, 6)


def test_no_detections_at_all_are_no_precision_and_no_truth_is_no_number():
    found, truth = drawn(8)
    nothing = Detections(found.boxes, found.scores, np.full_like(found.labels, -1))
    numbers = average_precision(nothing, truth, 4).numbers()
    assert numbers["ap"] == numbers["ar_100"] == numbers["voc_ap50"] == 0
    empty = Truth(
        truth.boxes, np.full_like(truth.labels, -1), truth.crowd, truth.difficult, truth.area
    )
    numbers = average_precision(found, empty, 4).numbers()
    assert np.isnan(numbers["ap"])
    assert "ap_small" not in numbers
    assert average_precision(found, empty, 4).by_class("abcd")["ap_by_class"] == {}


BOX = (10, 10, 50, 50)


@pytest.mark.parametrize(
    "objects",
    [
        [(BOX, 0, False, False, None), (BOX, 0, False, False, None)],  # two at one place
        [(BOX, 0, True, False, None), (BOX, 0, False, False, None)],  # a crowd and one
        [(BOX, 0, False, True, None), (BOX, 0, False, False, None)],  # a difficult one and one
        [((0, 0, 100, 100), 0, True, False, None)],  # a crowd alone
        [((0, 0, 100, 100), 0, False, True, None)],  # a difficult one alone
        [(BOX, 0, False, False, 32.0**2), (BOX, 1, False, False, 96.0**2)],  # between two sizes
    ],
)
@pytest.mark.parametrize(
    "boxes",
    [
        [BOX],
        [BOX, BOX, BOX],
        [(10, 10, 50, 30)],  # an overlap of exactly one half
        [(0, 0, 20, 20), (20, 20, 40, 40), BOX],
        [(60, 60, 90, 90)],
    ],
)
def test_adversarial_photographs_are_judged_as_pycocotools_judges_them(objects, boxes):
    said = [(box, 0.9 - 0.1 * (i // 2), 0) for i, box in enumerate(boxes)]
    other = [((5, 5, 30, 30), 0, False, False, None)]
    truth = truth_of([objects, other, []], 2)
    found = found_of([said, [((5, 5, 30, 30), 0.85, 0)], [(BOX, 0.3, 0)]], 3)
    agree(found, truth, 2)


def test_more_than_a_hundred_detections_of_a_class_are_cut_as_pycocotools_cuts_them():
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 400, (130, 2))
    boxes = np.concatenate([corners, corners + 30], axis=1)
    truth = truth_of([[(box, 0, False, False, None) for box in boxes[:120]]], 120)
    scores = rng.permutation(130) / 130
    found = found_of([[(box, s, 0) for box, s in zip(boxes, scores, strict=True)]], 130)
    assert agree(found, truth, 1)["ar_100"] < 90


def test_detections_that_are_no_numbers_are_none():
    found, truth = drawn(9)
    scores, boxes = found.scores.copy(), found.boxes.copy()
    scores[:, 0], boxes[:, 1, 2] = np.nan, np.inf
    labels = found.labels.copy()
    labels[:, :2] = -1
    numbers = average_precision(Detections(boxes, scores, found.labels), truth, 4).numbers()
    assert numbers == average_precision(Detections(boxes, scores, labels), truth, 4).numbers()


def naive_voc(found, truth, label):
    """Return the eleven- and the all-point AP by the loops of VOCevaldet.m."""
    rows = sorted(
        (
            (-found.scores[i, j], i, j)
            for i, j in np.argwhere(found.labels == label).tolist()
        )
    )  # fmt: skip
    taken, tp, fp = set(), [], []
    total = int(((truth.labels == label) & ~truth.difficult).sum())
    for _, i, j in rows:
        best, at = -np.inf, None
        for g in np.flatnonzero(truth.labels[i] == label).tolist():
            a, b = found.boxes[i, j], truth.boxes[i, g]
            wide, tall = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
            if wide > 0 and tall > 0:
                union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
                share = wide * tall / (union - wide * tall)
                if share > best:
                    best, at = share, g
        if best >= 0.5:
            if truth.difficult[i, at]:
                continue
            tp.append((i, at) not in taken)
            taken.add((i, at))
        else:
            tp.append(False)
        fp.append(not tp[-1])
    tp, fp = np.cumsum(tp), np.cumsum(fp)
    recall, precision = tp / total, tp / (tp + fp)
    eleven = 0.0
    for t in range(11):
        reached = precision[recall >= t / 10 - 1e-12]
        eleven += (reached.max() if len(reached) else 0) / 11
    recall = np.concatenate([[0], recall, [1]])
    precision = np.concatenate([[0], precision, [0]])
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    step = np.flatnonzero(recall[1:] != recall[:-1]) + 1
    return eleven, float(((recall[step] - recall[step - 1]) * precision[step]).sum())


@pytest.mark.parametrize("seed", range(4))
def test_voc_numbers_are_those_of_the_devkits_loops(seed):
    found, truth = drawn(seed)
    truth = Truth(
        truth.boxes, truth.labels, np.zeros_like(truth.crowd), truth.difficult, truth.area
    )
    ours = average_precision(found, truth, 4)
    naive = [naive_voc(found, truth, label) for label in range(4)]
    np.testing.assert_allclose(ours.voc07, [a for a, _ in naive], atol=1e-12)
    np.testing.assert_allclose(ours.voc, [b for _, b in naive], atol=1e-12)
    assert ours.numbers()["voc07_ap50"] == pytest.approx(100 * np.mean([a for a, _ in naive]))


def test_voc_counts_one_hit_an_object_and_no_difficult_one():
    objects = [(BOX, 0, False, False, None), ((60, 60, 90, 90), 0, False, True, None)]
    said = [((60, 60, 90, 90), 0.95, 0), (BOX, 0.9, 0), (BOX, 0.8, 0), ((0, 0, 5, 5), 0.7, 0)]
    ours = average_precision(found_of([said], 4), truth_of([objects], 2), 1)
    assert ours.counts.tolist() == [1]
    assert ours.voc.tolist() == [1.0]  # the first counted detection is right
    assert ours.voc07.tolist() == [1.0]
    half = average_precision(found_of([said], 4), truth_of([objects, objects], 2), 1)
    assert half.voc.tolist() == [] or half.voc[0] == 0.5


def test_numbers_by_class_have_the_classes_names():
    found, truth = drawn(3)
    ours = average_precision(found, truth, 4)
    by_class = ours.by_class(["a", "b", "c", "d"])
    assert np.mean(list(by_class["ap_by_class"].values())) == pytest.approx(ours.numbers()["ap"])
    assert list(by_class["n_by_class"]) == ["a", "b", "c", "d"]


def test_results_in_cocos_format_are_read_by_pycocotools_and_judged_alike(tmp_path):
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO

    found, _ = drawn(5)
    images, categories = [1000 + 3 * i for i in range(40)], [2, 7, 8, 90]
    entries = coco_results(found.boxes, found.scores, found.labels, images, categories)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(entries))
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = {
            "info": {},
            "images": [{"id": i} for i in images],
            "categories": [{"id": k} for k in categories],
            "annotations": [],
        }
        known.createIndex()
        read = known.loadRes(str(path))
    assert len(read.anns) == (found.labels >= 0).sum()
    first = np.argwhere(found.labels >= 0)[0]
    x1, y1, x2, y2 = found.boxes[*first]
    assert entries[0]["bbox"] == [x1, y1, x2 - x1, y2 - y1]
    assert entries[0]["category_id"] == categories[found.labels[*first]]
