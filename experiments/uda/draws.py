"""Write draws.csv: the images of Fashion-MNIST that are labelled, in the order of the draw.

Each row is one draw; a study with n labels uses its first n numbers. They number the training
images without the validation split, from 0, in the order of the data set.
"""

import os
from pathlib import Path

from deeper.data.dataset import open_dataset
from deeper.data.splitting import draw_by_class, hold_out

HERE = Path(__file__).parent
DRAWS, LABELS, VALIDATION = 5, 4000, 5000


def lines() -> list[str]:
    """Return the lines of the file."""
    dataset = open_dataset("fashion_mnist", Path(os.environ.get("DEEPER_DATA", "data")))
    train, _ = hold_out(dataset.splits["train"], VALIDATION)
    return [
        ",".join(map(str, [draw, *draw_by_class(train.labels, LABELS, 1 + draw)]))
        for draw in range(DRAWS)
    ]


if __name__ == "__main__":
    (HERE / "draws.csv").write_text("\n".join(lines()) + "\n")
