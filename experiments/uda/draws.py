"""Write draws.csv: which images of Fashion-MNIST have labels, in the order in which they get them.

A row is a draw; the study with n labels takes its first n numbers. They count the training images
that are left when the validation split is held out, from 0, in the data set's order.
"""

import os
from pathlib import Path

from deeper.data.dataset import open_dataset
from deeper.data.splitting import draw_by_class, hold_out

HERE = Path(__file__).parent
DRAWS, LABELS, VALIDATION = 5, 4000, 5000


def lines() -> list[str]:
    """Return the file's lines."""
    dataset = open_dataset("fashion_mnist", Path(os.environ.get("DEEPER_DATA", "data")))
    train, _ = hold_out(dataset.splits["train"], VALIDATION)
    return [
        ",".join(map(str, [draw, *draw_by_class(train.labels, LABELS, 1 + draw)]))
        for draw in range(DRAWS)
    ]


if __name__ == "__main__":
    (HERE / "draws.csv").write_text("\n".join(lines()) + "\n")
