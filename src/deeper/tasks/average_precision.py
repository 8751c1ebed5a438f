"""Average precision of detections, by the rules of COCO and of Pascal VOC.

COCO (https://cocodataset.org/#detection-eval; pycocotools.cocoeval): in each photograph and class
the detections, the surest first, take the truth that they overlap most, at ten thresholds of
intersection over union, 0.50 to 0.95. Precision is made monotone and read at 101 recalls; AP is the
mean over thresholds and classes, AR the largest recall. Truth that is not counted, around a crowd,
difficult, or of another size than asked for, can be matched, and neither helps nor harms.

VOC (Everingham et al. 2010, section 4.2; the devkit's VOCevaldet.m): at 0.5, each detection is
compared with the truth that it overlaps most, which only the first one gets; the rest are wrong.
AP is the mean precision at eleven recalls (2007), or the area under the monotone curve (from 2010).

Classes without counted truth have no AP and are left out of means.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Int64

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
SIZES = {  # areas of objects in pixels, both ends counted
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
MOST = 100  # detections of a class in a photograph
VOC_IOU = 0.5
ELEVEN = np.linspace(0.0, 1.0, 11)


@dataclass(frozen=True)
class Detections:
    """What a detector says of n photographs, D detections at most of each.

    Attributes:
        boxes: x1, y1, x2, y2, x2 and y2 exclusive, in pixels of the photograph.
        scores: the higher the surer.
        labels: 0 to C-1; -1 where there is no detection.
    """

    boxes: Float[np.ndarray, "n D 4"]
    scores: Float[np.ndarray, "n D"]
    labels: Int[np.ndarray, "n D"]


@dataclass(frozen=True)
class Truth:
    """The objects of n photographs, M at most of each.

    Attributes:
        boxes: as of `Detections`.
        labels: 0 to C-1; -1 where there is no object.
        crowd: around a group: any part of it may be detected, any number of times.
        difficult: not counted.
        area: of the object, which decides on its size.
    """

    boxes: Float[np.ndarray, "n M 4"]
    labels: Int[np.ndarray, "n M"]
    crowd: Bool[np.ndarray, "n M"]
    difficult: Bool[np.ndarray, "n M"]
    area: Float[np.ndarray, "n M"]


@dataclass(frozen=True)
class AveragePrecision:
    """Precision and recall of all classes; NaN where there is no counted truth.

    Attributes:
        precision: COCO's, at `IOUS`, `RECALLS`, by class and `SIZES`.
        recall: COCO's, the largest, at `IOUS`, by class and `SIZES`.
        voc07: eleven-point AP by class.
        voc: all-point AP by class.
        counts: counted objects by class.
    """

    precision: Float64[np.ndarray, "ious recalls classes sizes"]
    recall: Float64[np.ndarray, "ious classes sizes"]
    voc07: Float64[np.ndarray, " classes"]
    voc: Float64[np.ndarray, " classes"]
    counts: Int64[np.ndarray, " classes"]

    def numbers(self) -> dict[str, float]:
        """Return the means in per cent.

        ``ap`` over all thresholds, ``ap50`` and ``ap75`` at one; ``ap_small``, ``ap_medium``,
        ``ap_large`` by size, where there are objects of it; ``ar_100``; ``voc07_ap50`` and
        ``voc_ap50``. NaN where no object is counted at all.
        """
        found = {
            "ap": _mean(self.precision[..., 0]),
            "ap50": _mean(self.precision[0, ..., 0]),
            "ap75": _mean(self.precision[5, ..., 0]),
        }
        for place, size in enumerate(SIZES):
            one = _mean(self.precision[..., place])
            if place and not np.isnan(one):
                found[f"ap_{size}"] = one
        found["ar_100"] = _mean(self.recall[..., 0])
        found["voc07_ap50"], found["voc_ap50"] = _mean(self.voc07), _mean(self.voc)
        return found

    def by_class(self, class_names: Sequence[str]) -> dict[str, dict[str, float | int]]:
        """Return ``ap_by_class``, ``ap50_by_class``, ``voc07_ap50_by_class``, in per cent, of the
        classes that have counted objects, and ``n_by_class``, their number.
        """
        known = np.flatnonzero(self.counts)

        def named(values: np.ndarray) -> dict[str, float | int]:
            return {class_names[k]: values[k].item() for k in known.tolist()}

        every = [_mean(self.precision[:, :, k, 0]) for k in range(len(self.counts))]
        at_50 = [_mean(self.precision[0, :, k, 0]) for k in range(len(self.counts))]
        return {
            "ap_by_class": named(np.array(every)),
            "ap50_by_class": named(np.array(at_50)),
            "voc07_ap50_by_class": named(100.0 * self.voc07),
            "n_by_class": dict(zip(class_names, self.counts.tolist(), strict=True)),
        }


def _mean(values: np.ndarray) -> float:
    """Return the mean of the numbers among some shares, in per cent; NaN if there is none."""
    known = values[~np.isnan(values)]
    return 100.0 * float(known.mean()) if len(known) else float("nan")


def average_precision(found: Detections, truth: Truth, classes: int) -> AveragePrecision:
    """Return the average precision of detections in n photographs.

    A detection whose score or corners are not finite is none.

    Args:
        found: the detections, in any order; of equal scores the first counts as surer, as in
            pycocotools on photographs in this order.
        truth: the objects.
        classes: their number, C.
    """
    detections, objects = _flat_detections(found), _flat_objects(truth)
    precision = np.full((len(IOUS), len(RECALLS), classes, len(SIZES)), np.nan)
    recall = np.full((len(IOUS), classes, len(SIZES)), np.nan)
    voc07, voc = np.full(classes, np.nan), np.full(classes, np.nan)
    counts = np.zeros(classes, np.int64)
    for k in range(classes):
        mine, there = detections.of(k), objects.of(k)
        matched, ignored, right = _match(mine, there)
        order = np.argsort(-mine.scores, kind="stable")
        for a in range(len(SIZES)):
            total = int((~there.ignored[a]).sum())
            if total:
                precision[:, :, k, a], recall[:, k, a] = _curve(
                    matched[a][:, order], ignored[a][:, order], total
                )
        counts[k] = int((~there.ignored[0]).sum())
        if counts[k]:
            voc07[k], voc[k] = _voc(right[order], int(counts[k]))
    return AveragePrecision(precision, recall, voc07, voc, counts)


# --- one row an object or detection --------------------------------------------------------------


@dataclass(frozen=True)
class _Detections:
    image: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray

    def of(self, label: int) -> "_Detections":
        """Return those of a class: by photograph, in it the surest first, `MOST` of them."""
        own = np.flatnonzero(self.labels == label)
        own = own[np.lexsort((-self.scores[own], self.image[own]))]
        kept = own[_rank(self.image[own]) < MOST]
        return _Detections(self.image[kept], self.boxes[kept], self.scores[kept], self.labels[kept])


def _rank(image: np.ndarray) -> np.ndarray:
    """Return each row's place among those of its photograph; rows are sorted by photograph."""
    first = np.flatnonzero(np.diff(image, prepend=-1))
    lengths = np.diff(np.append(first, len(image)))
    rank: np.ndarray = np.arange(len(image)) - np.repeat(first, lengths)
    return rank


@dataclass(frozen=True)
class _Objects:
    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    difficult: np.ndarray
    ignored: np.ndarray  # (sizes, objects)

    def of(self, label: int) -> "_Objects":
        own = np.flatnonzero(self.labels == label)
        return _Objects(
            self.image[own],
            self.boxes[own],
            self.labels[own],
            self.crowd[own],
            self.difficult[own],
            self.ignored[:, own],
        )


def _flat_detections(found: Detections) -> _Detections:
    boxes, scores = np.asarray(found.boxes, np.float64), np.asarray(found.scores, np.float64)
    labels = np.asarray(found.labels)
    there = (labels >= 0) & np.isfinite(scores) & np.isfinite(boxes).all(axis=-1)
    image, place = np.nonzero(there)
    return _Detections(
        image, boxes[image, place], scores[image, place], labels[image, place].astype(np.int64)
    )


def _flat_objects(truth: Truth) -> _Objects:
    labels = np.asarray(truth.labels)
    image, place = np.nonzero(labels >= 0)
    area = np.asarray(truth.area, np.float64)[image, place]
    crowd = np.asarray(truth.crowd, bool)[image, place]
    difficult = np.asarray(truth.difficult, bool)[image, place]
    other = [(area < least) | (area > most) for least, most in SIZES.values()]
    return _Objects(
        image,
        np.asarray(truth.boxes, np.float64)[image, place],
        labels[image, place],
        crowd,
        difficult,
        np.stack(other) | crowd | difficult,
    )


# --- matching ------------------------------------------------------------------------------------


def _match(
    found: _Detections, truth: _Objects
) -> tuple[
    Bool[np.ndarray, "sizes ious d"], Bool[np.ndarray, "sizes ious d"], Int[np.ndarray, " d"]
]:
    """Match the detections of a class.

    Returns:
        Whether each matches truth, and whether it is not counted, at each size and threshold; and
        for VOC 1 where it is right, 0 where it is wrong, -1 where it is not counted.
    """
    sides = found.boxes[:, 2:] - found.boxes[:, :2]
    areas = sides[:, 0] * sides[:, 1]
    shape = len(SIZES), len(IOUS), len(found.scores)
    matched, ignored = np.zeros(shape, bool), np.zeros(shape, bool)
    right = np.zeros(len(found.scores), np.int64)
    for a, (least, most) in enumerate(SIZES.values()):
        ignored[a] = (areas < least) | (areas > most)  # kept where nothing is matched
    begin = np.searchsorted(found.image, truth.image, "left")
    end = np.searchsorted(found.image, truth.image, "right")
    # One group a photograph that has both; the objects are sorted by photograph, too.
    first = np.flatnonzero(np.diff(truth.image, prepend=-1))
    last = np.append(first, len(truth.image))[1:]
    for a, b in zip(first.tolist(), last.tolist(), strict=True):
        mine = slice(int(begin[a]), int(end[a]))
        if mine.start == mine.stop:
            continue
        objects = slice(a, b)
        shares = _overlap(found.boxes[mine], truth.boxes[objects], truth.crowd[objects])
        _match_coco(
            shares,
            truth.crowd[objects],
            truth.ignored[:, objects],
            matched[:, :, mine],
            ignored[:, :, mine],
        )
        right[mine] = _match_voc(shares, truth.crowd[objects], truth.difficult[objects])
    return matched, ignored, right


def _overlap(
    found: Float64[np.ndarray, "d 4"], truth: Float64[np.ndarray, "g 4"], crowd: np.ndarray
) -> Float64[np.ndarray, "d g"]:
    """Return intersection over union; with a crowd over the detection's own area."""
    low = np.maximum(found[:, None, :2], truth[None, :, :2])
    high = np.minimum(found[:, None, 2:], truth[None, :, 2:])
    sides = np.maximum(high - low, 0.0)
    common = sides[..., 0] * sides[..., 1]
    own = (found[:, 2] - found[:, 0]) * (found[:, 3] - found[:, 1])
    its = (truth[:, 2] - truth[:, 0]) * (truth[:, 3] - truth[:, 1])
    union = np.where(crowd[None], own[:, None], own[:, None] + its[None] - common)
    return np.divide(common, union, out=np.zeros_like(common), where=common > 0)


def _match_coco(
    shares: Float64[np.ndarray, "d g"],
    crowd: Bool[np.ndarray, " g"],
    not_counted: Bool[np.ndarray, "sizes g"],
    matched: Bool[np.ndarray, "sizes ious d"],
    ignored: Bool[np.ndarray, "sizes ious d"],
) -> None:
    """Match the detections of a photograph, the surest first; note it in the last two arrays."""
    least = np.minimum(IOUS, 1 - 1e-10)[None, :, None]
    free = np.ones((len(SIZES), len(IOUS), shares.shape[1]), bool)
    counted = ~not_counted[:, None, :]
    # The others overlap with nothing and take no part in what follows.
    for d in np.flatnonzero((shares >= IOUS[0]).any(axis=1)).tolist():
        share = shares[d][None, None, :]
        possible = free & (share >= least)
        first = possible & counted  # truth that is counted is preferred
        among = np.where(first.any(axis=-1, keepdims=True), first, possible)
        # The last of those that overlap most, as in pycocotools.
        score = np.where(among, share, -1.0)
        chosen = score.shape[-1] - 1 - score[..., ::-1].argmax(axis=-1)
        hit = among.any(axis=-1)
        matched[:, :, d] = hit
        of_none = np.take_along_axis(~counted & np.ones_like(free), chosen[..., None], -1)[..., 0]
        ignored[:, :, d] = np.where(hit, of_none, ignored[:, :, d])
        taken = np.arange(score.shape[-1]) == chosen[..., None]
        free &= ~(taken & hit[..., None] & ~crowd)


def _match_voc(
    shares: Float64[np.ndarray, "d g"],
    crowd: Bool[np.ndarray, " g"],
    difficult: Bool[np.ndarray, " g"],
) -> Int[np.ndarray, " d"]:
    """Return 1 where a detection is right, 0 where it is wrong, -1 where it is not counted.

    VOC has no crowds: what would be wrong but lies in one is not counted.
    """
    alone, within = shares[:, ~crowd], (shares[:, crowd] >= VOC_IOU).any(axis=1)
    right = np.where(within, -1, 0)
    if not alone.shape[1]:
        return right
    best, hard = alone.argmax(axis=1), difficult[~crowd]
    enough = alone.max(axis=1) >= VOC_IOU
    right = np.where(enough & hard[best], -1, right)
    candidates = np.flatnonzero(enough & ~hard[best])
    _, first = np.unique(best[candidates], return_index=True)  # the surest of each object
    right[candidates[first]] = 1
    return right


# --- curves --------------------------------------------------------------------------------------


def _curve(
    matched: Bool[np.ndarray, "ious d"], ignored: Bool[np.ndarray, "ious d"], total: int
) -> tuple[Float64[np.ndarray, "ious recalls"], Float64[np.ndarray, " ious"]]:
    """Return COCO's precision at each recall and the largest recall, at each threshold."""
    precision = np.zeros((len(IOUS), len(RECALLS)))
    if not matched.shape[1]:
        return precision, np.zeros(len(IOUS))
    right = np.cumsum(matched & ~ignored, axis=1, dtype=np.float64)
    wrong = np.cumsum(~matched & ~ignored, axis=1, dtype=np.float64)
    recall = right / total
    exact = right / (right + wrong + np.spacing(1))
    monotone = np.maximum.accumulate(exact[:, ::-1], axis=1)[:, ::-1]
    for t in range(len(IOUS)):
        places = np.searchsorted(recall[t], RECALLS, side="left")
        reached = places < recall.shape[1]
        precision[t, reached] = monotone[t, places[reached]]
    return precision, recall[:, -1]


def _voc(right: Int[np.ndarray, " d"], total: int) -> tuple[float, float]:
    """Return the eleven-point and the all-point AP of detections, the surest first."""
    counted = right[right >= 0]
    if not len(counted):
        return 0.0, 0.0
    hits = np.cumsum(counted)
    recall, precision = hits / total, hits / np.arange(1, len(counted) + 1)
    monotone = np.maximum.accumulate(precision[::-1])[::-1]
    # Hits are whole numbers: compared so, 3 of 10 reach the recall 0.3.
    places = np.searchsorted(hits, np.ceil(ELEVEN * total - 1e-9), side="left")
    eleven = np.append(monotone, 0.0)[places].mean()
    steps = np.diff(recall, prepend=0.0)
    return float(eleven), float((steps * monotone).sum())
