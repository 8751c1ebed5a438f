"""Applies Pillow and torchvision: reads images from one npz file, writes results to another.

Run by `golden.py` with a Python that has torch and torchvision.
"""

import sys

import numpy as np
import torch
from cases import BINS, BLURS, CROPS, FILL, HEIGHT, WIDTH, names
from PIL import Image
from torchvision.transforms import InterpolationMode, autoaugment
from torchvision.transforms import functional as F

MODES = {"nearest": InterpolationMode.NEAREST, "bilinear": InterpolationMode.BILINEAR}
POLICY_NAMES = {
    "shear_x": "ShearX",
    "shear_y": "ShearY",
    "translate_x": "TranslateX",
    "translate_y": "TranslateY",
    "rotate": "Rotate",
    "brightness": "Brightness",
    "contrast": "Contrast",
    "saturation": "Color",
    "sharpness": "Sharpness",
    "posterize": "Posterize",
    "solarize": "Solarize",
    "autocontrast": "AutoContrast",
    "equalize": "Equalize",
    "invert": "Invert",
    "identity": "Identity",
}
ENHANCING = ("brightness", "contrast", "saturation", "sharpness")


def applied(image: Image.Image, kind: str, strength: float, how: str) -> Image.Image:
    """Return the image after an operation, applied by the code of torchvision's policies where
    possible.
    """
    fill = [*FILL[: len(image.getbands())]]
    if kind == "hue":
        return F.adjust_hue(image, strength)
    if kind == "greyscale":
        return F.rgb_to_grayscale(image, num_output_channels=len(image.getbands()))
    if kind == "solarize_add":  # as in timm, by a look-up table of Pillow
        table = [min(255, value + int(strength)) if value < 128 else value for value in range(256)]
        return image.point(table * len(image.getbands()))
    if kind == "scale":
        return F.affine(image, 0.0, [0, 0], strength, [0.0], MODES[how], fill)
    magnitude = strength - 1.0 if kind in ENHANCING else strength
    return autoaugment._apply_op(image, POLICY_NAMES[kind], magnitude, MODES[how], fill)


def stored(image: Image.Image) -> np.ndarray:
    """Return an image as an array (height, width, channels)."""
    array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array


def spaces() -> dict[str, np.ndarray]:
    """Return the strengths of each policy by operation, bin and sign."""
    size = (HEIGHT, WIDTH)
    found = {
        "randaugment": autoaugment.RandAugment()._augmentation_space(BINS, size),
        "trivialaugment": autoaugment.TrivialAugmentWide()._augmentation_space(BINS),
        "autoaugment": autoaugment.AutoAugment()._augmentation_space(10, size),
        "augmix": autoaugment.AugMix()._augmentation_space(10, size),
    }
    ours = {theirs: mine for mine, theirs in POLICY_NAMES.items()}
    out = {}
    for policy, operations in found.items():
        for theirs, (magnitudes, signed) in operations.items():
            name = ours[theirs]
            values = magnitudes.numpy().astype(np.float64)
            values = np.atleast_1d(values)
            base = 1.0 if name in ENHANCING else 0.0
            both = [base - values, base + values] if signed else [values, values]
            out[f"space/{policy}/{name}"] = np.stack(both, axis=-1)
    return out


def pairs() -> dict[str, np.ndarray]:
    """Return AutoAugment's policies as text."""
    ours = {theirs: mine for mine, theirs in POLICY_NAMES.items()}
    out = {}
    for policy in autoaugment.AutoAugmentPolicy:
        lines = [
            ", ".join(f"{ours[name]} {share:g} {bin_ or 0}" for name, share, bin_ in pair)
            for pair in autoaugment.AutoAugment(policy).policies
        ]
        out[f"pairs/{policy.value}"] = np.array(lines)
    return out


def main() -> None:
    """Read the images of an npz file and write the results to another."""
    images = np.load(sys.argv[1])
    answers: dict[str, np.ndarray] = {}
    for which in ("photo", "grey"):
        pictures = [Image.fromarray(np.squeeze(image)) for image in images[which]]
        for kind, strength, how in names():
            results = [stored(applied(picture, kind, strength, how)) for picture in pictures]
            answers[f"{which}/{kind}/{strength:g}/{how}"] = np.stack(results)
    pictures = [Image.fromarray(image) for image in images["photo"]]
    for number, (box, size) in enumerate(CROPS):
        results = [F.resized_crop(p, *box, [*size], InterpolationMode.BILINEAR) for p in pictures]
        answers[f"crop/{number}"] = np.stack([stored(result) for result in results])
    for number, (taps, sigma) in enumerate(BLURS):
        results = [stored(F.gaussian_blur(p, [taps, taps], [sigma, sigma])) for p in pictures]
        answers[f"blur/{number}"] = np.stack(results)
    answers |= spaces() | pairs()
    np.savez_compressed(sys.argv[2], **answers, versions=np.array(versions()))


def versions() -> list[str]:
    """Return the versions of the libraries."""
    import PIL
    import torchvision

    modules = {"Pillow": PIL, "torchvision": torchvision, "PyTorch": torch}
    return [f"{name} {module.__version__}" for name, module in modules.items()]


main()
