"""Record what the published code of ImageNet-C does to three images, for the tests.

    git clone https://github.com/hendrycks/robustness
    python -m venv corruptions
    corruptions/bin/pip install numpy scipy scikit-image opencv-python-headless==4.10.0.84 \
        pillow wand
    corruptions/bin/python experiments/robustness/golden.py robustness grace_hopper.jpg

Wand needs ImageMagick 6 (Debian's libmagickwand-6.q16-6). The functions are those of the scripts
that made CIFAR-10-C, Tiny-ImageNet-C and ImageNet-C (Apache-2.0), taken from their text as it is;
names that newer libraries have changed are given back to them. The images are parts of a
photograph that Matplotlib ships (Grace Hopper by James S. Davis, US Navy, public domain). In the
place of the frost pictures, whose licence is not known, made-up ones are read: `ice`.

Each corruption draws from ``numpy.random`` after ``seed``; the tests draw the same numbers. The
whole result is kept of 32 pixels, and nine windows of the larger ones (corruption_cases.py).
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import types
from pathlib import Path

import numpy as np
import scipy.ndimage
import skimage.filters
from PIL import Image

TESTS = Path(__file__).parents[2] / "tests" / "augment"
sys.path.insert(0, str(TESTS))

from corruption_cases import NAMES, ice, seed, windows

OUT = TESTS / "corruptions.npz"
SCRIPTS = {32: "make_cifar_c.py", 64: "make_tinyimagenet_c.py", 224: "make_imagenet_c.py"}
BEGIN, END = "import skimage as sk", "# /////////////// End Distortions"


def gaussian(image: np.ndarray, sigma: object, multichannel: bool = False, **more: object):
    """Return scikit-image's Gaussian filter, called as before version 0.19."""
    return skimage.filters.gaussian(image, sigma, channel_axis=-1 if multichannel else None, **more)


def published(script: Path) -> types.SimpleNamespace:
    """Return the functions of one of the published scripts."""
    text = script.read_text(encoding="utf-8")
    text = text[text.index(BEGIN) : text.index(END)]
    text = text.replace("from skimage.filters import gaussian", "")
    text = text.replace("from scipy.ndimage.interpolation import", "from scipy.ndimage import")
    text = text.replace("np.float_", "np.float64").replace("np.fromstring", "np.frombuffer")
    names: dict = {"np": np, "gaussian": gaussian, "Image": Image, "os": os}
    exec(compile(text, str(script), "exec"), names)
    return types.SimpleNamespace(**names)


def main() -> None:
    """Write the images and the results to tests/augment/corruptions.npz."""
    repository = Path(sys.argv[1]).resolve() / "ImageNet-C" / "create_c"
    asked = ["git", "-C", repository, "rev-parse", "HEAD"]
    here = subprocess.run(asked, capture_output=True, text=True, check=True)
    photo = Image.open(sys.argv[2]).convert("RGB").crop((60, 20, 460, 420))
    kept: dict[str, object] = {"commit": here.stdout.strip()}
    # Salt and pepper are drawn by a generator of scikit-image's own: from the seeded one instead.
    np.random.default_rng = lambda *_: np.random.mtrand._rand
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        for number in range(6):
            name = f"frost{number + 1}.{'png' if number < 3 else 'jpg'}"
            Image.fromarray(ice(number)).save(name, "PNG")
        for side, script in SCRIPTS.items():
            image = photo.resize((side, side), Image.Resampling.LANCZOS)
            kept[f"image_{side}"] = np.asarray(image)
            functions = published(repository / script)
            for name in NAMES:
                for severity in range(1, 6):
                    np.random.seed(seed(name, severity))
                    result = np.uint8(getattr(functions, name)(image, severity))
                    kept[f"{name}_{severity}_{side}"] = windows(result)
    np.savez_compressed(OUT, **kept)
    print(f"{OUT}: {OUT.stat().st_size:,} bytes; scipy {scipy.__version__}")


if __name__ == "__main__":
    main()
