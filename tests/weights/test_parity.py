"""With the same weights our nets give the recorded results of torchvision's and timm's nets.

`scripts/parity` makes them; experiments/parity/README.md says how and has the table of all nets.
Unless DEEPER_PARITY=all, those are left out that differ from others by rows of a paper's table.
"""

import os
import re
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

HERE = Path(__file__).parents[2] / "experiments" / "parity"
sys.path.insert(0, str(HERE))

from nets import KEPT, NETS  # noqa: E402
from our_side import FLOOR, error, logits, step  # noqa: E402

BY_NAME = {net.name: net for net in NETS}
# A net that was added and not measured yet has no golden file.
ANSWERS = [name for name in BY_NAME if (HERE / "golden" / f"{name}.npz").is_file()]
STEPS = [
    ("googlenet", "float64", 1e-6),
    ("resnet18", "float64", 1e-6),
    ("resnet18", "float32", 1e-3),
]
if os.environ.get("DEEPER_PARITY") == "all":
    STEPS += [(name, "float64", 1e-6) for name in ("resnet50", "seresnet18", "mobilenet_v2")]
else:
    ROWS = re.compile(r"vgg(11|13|16|19|13_bn|16_bn|19_bn)|resnet(34|101|152)|wide_.*|regnet_x.*")
    ANSWERS = [name for name in ANSWERS if not ROWS.fullmatch(name)]


def golden(name):
    with np.load(HERE / "golden" / f"{name}.npz") as file:
        return dict(file)


@pytest.mark.parametrize("name", ANSWERS)
def test_the_nets_answers_are_torchvisions(name):
    found = logits(BY_NAME[name], 0)
    jax.clear_caches()  # the programs hold the weights of large nets
    assert error("logits", {"logits": found}, golden(name)) < 1e-4


@pytest.mark.parametrize(("name", "dtype", "limit"), STEPS)
def test_a_training_step_is_torchvisions(name, dtype, limit):
    expected, found = golden(name), step(BY_NAME[name], 0, dtype)
    jax.clear_caches()
    assert error("loss", found, expected) < limit
    # In float32 rounding decides rectifiers and pooling windows on the edge, in PyTorch as here,
    # and a gradient goes one way or the other: gradients are compared in float64.
    for kind in ("statistics", "gradient") if dtype == "float64" else ("statistics",):
        arrays = {key: found[key].ravel() for key in found if key.startswith(f"{kind}/")}
        least = FLOOR * max(expected[key][1] for key in arrays)
        for key, flat in arrays.items():
            norm, largest, *some = expected[key]
            size = max(largest, least)
            assert abs(np.linalg.norm(flat) - norm) < limit * max(norm, least), key
            np.testing.assert_allclose(
                flat[:: max(1, flat.size // KEPT)][:KEPT], some, rtol=0, atol=limit * size
            )
