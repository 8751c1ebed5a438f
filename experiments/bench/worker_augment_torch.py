"""Times torchvision's RandAugment(2, 9), an image at a time on one thread, as in a data loader.

Forms: pil (Pillow images in, an 8-bit batch out), v2 (the same by transforms.v2), tensor
(8-bit tensors).
"""

import sys
import time

import numpy as np
import torch
import torchvision
from augment_images import BATCH, photographs
from PIL import Image
from torchvision.transforms import RandAugment, v2


def main() -> None:
    """Prepare the images, then time batches on request."""
    size, form = int(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images = photographs(size)
    policy = (v2.RandAugment if form == "v2" else RandAugment)(2, 9)
    if form == "tensor":
        stored = [torch.from_numpy(image).permute(2, 0, 1).contiguous() for image in images]
        batch = torch.empty((BATCH, 3, size, size), dtype=torch.uint8)
    else:
        stored = [Image.fromarray(image) for image in images]
        batch = np.empty((BATCH, size, size, 3), np.uint8)

    def one_batch():
        for number, image in enumerate(stored):
            batch[number] = policy(image) if form == "tensor" else np.asarray(policy(image))

    one_batch()
    print("ready", torchvision.__version__, flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            one_batch()
        print(time.perf_counter() - start, flush=True)


main()
