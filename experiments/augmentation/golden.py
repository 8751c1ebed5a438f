"""Record the results of Pillow and torchvision in golden.npz; run by scripts/golden.

The images are a crop of a photograph that Matplotlib ships (Grace Hopper by James S. Davis, US
Navy, public domain) and two of Fashion-MNIST's test split (MIT licence).
"""

import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from matplotlib import cbook
from PIL import Image

from deeper.data.dataset import open_dataset

HERE = Path(__file__).parent


def images() -> dict[str, np.ndarray]:
    """Return the test images: a crop of a photograph, and two images of Fashion-MNIST."""
    path = cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    photo = np.asarray(Image.open(path).convert("RGB").resize((171, 200)))
    garments = open_dataset("fashion_mnist", Path(os.environ.get("DEEPER_DATA", "data")))
    return {
        "photo": photo[None, 40:88, 50:114],
        "grey": np.asarray(garments.splits["test"].images[[0, 3]]),
    }


def main() -> None:
    """Run `torchvision_side.py` on the images, and write the images with its results to
    golden.npz.
    """
    with tempfile.TemporaryDirectory() as scratch:
        asked, answered = Path(scratch) / "images.npz", Path(scratch) / "answers.npz"
        pictures = images()
        np.savez(asked, **pictures)
        subprocess.run(
            [os.environ["PARITY_PYTHON"], HERE / "torchvision_side.py", asked, answered], check=True
        )
        with np.load(answered) as answers:
            np.savez_compressed(HERE / "golden.npz", **pictures, **answers)
            print(", ".join(answers["versions"]))


main()
