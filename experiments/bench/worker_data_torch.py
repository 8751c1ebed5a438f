"""Times PyTorch's DataLoader with one process per core on torchvision's transforms.

Arguments: directory of JPEG files in class folders, form: v1 (ImageFolder and Pillow) or v2
(torchvision's own decoder, tensors). Both antialias, as is torchvision's default.
"""

import os
import sys

import torch
import torchvision
from data_serve import BATCH, SIZE, serve
from torchvision import transforms as v1
from torchvision.datasets import ImageFolder
from torchvision.io import ImageReadMode, decode_image, read_file
from torchvision.transforms import v2

CORES = len(os.sched_getaffinity(0))


class Endless(torch.utils.data.Sampler):
    """A sampler of endless epochs, each with a new permutation."""

    def __init__(self, size):
        self.size = size

    def __iter__(self):
        while True:
            yield from torch.randperm(self.size).tolist()


def decoded(path):
    """Return the pixels of a file, decoded by torchvision."""
    return decode_image(read_file(path), mode=ImageReadMode.RGB)


def batches(directory: str, form: str):
    """Open the DataLoader, and yield batches."""
    of = v1 if form == "v1" else v2
    steps = [of.RandomResizedCrop(SIZE, antialias=True), of.RandomHorizontalFlip()]
    if form == "v1":
        data = ImageFolder(directory, v1.Compose([*steps, v1.PILToTensor()]))
    else:
        data = ImageFolder(directory, v2.Compose(steps), loader=decoded)
    loader = torch.utils.data.DataLoader(
        data,
        BATCH,
        sampler=Endless(len(data)),
        num_workers=CORES,
        drop_last=True,
        persistent_workers=True,
    )
    for image, _ in loader:
        yield image


torch.set_num_threads(1)
serve(torchvision.__version__, lambda: batches(*sys.argv[1:3]))
