"""Detections in COCO's format of results, which its server and pycocotools' ``loadRes`` read."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int


def coco_results(
    boxes: Float[np.ndarray, "n D 4"],
    scores: Float[np.ndarray, "n D"],
    labels: Int[np.ndarray, "n D"],
    images: Sequence[int],
    categories: Sequence[int],
) -> list[dict[str, Any]]:
    """Return an entry for each detection: image_id, category_id, bbox and score.

    Args:
        boxes: x1, y1, x2, y2 in pixels of the photograph; an entry has left, top, width, height.
        scores: 0 to 1.
        labels: -1 where there is no detection.
        images: the data set's numbers of the n photographs.
        categories: its numbers of the classes, in the order of the labels.
    """
    there = (labels >= 0) & np.isfinite(scores) & np.isfinite(boxes).all(axis=-1)
    corners = np.asarray(boxes, np.float64)
    return [
        {
            "image_id": int(images[i]),
            "category_id": int(categories[int(labels[i, j])]),
            "bbox": [
                *corners[i, j, :2].tolist(),
                *(corners[i, j, 2:] - corners[i, j, :2]).tolist(),
            ],
            "score": float(scores[i, j]),
        }
        for i, j in np.argwhere(there).tolist()
    ]
