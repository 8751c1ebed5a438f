"""On the same weights our nets compute what torchvision's do: against its recorded answers.

`scripts/parity` makes them; experiments/parity/README.md says how and has the table of all nets.
Here is one of every way through the code; the others differ from them by rows of a paper's table,
which tests/models/test_counts.py counts.
"""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest

HERE = Path(__file__).parents[2] / "experiments" / "parity"
sys.path.insert(0, str(HERE))

from nets import KEPT, NETS  # noqa: E402
from our_side import FLOOR, error, logits, step  # noqa: E402

_STEPS = ("googlenet", "resnet18", "resnet50")
ANSWERS = [
    n for n in NETS if n.name in (*_STEPS, "alexnet", "vgg16", "vgg11_bn", "resnext50_32x4d")
]
STEPS = [net for net in NETS if net.name in _STEPS]
CASES = [(net, "float64", 1e-6) for net in STEPS] + [
    (net, "float32", 1e-3) for net in STEPS if net.name == "resnet18"
]


def golden(net):
    with np.load(HERE / "golden" / f"{net.name}.npz") as file:
        return dict(file)


@pytest.mark.parametrize("net", ANSWERS, ids=lambda net: net.name)
def test_the_nets_answers_are_torchvisions(net):
    found = logits(net, 0)
    jax.clear_caches()  # the programs hold the weights of large nets
    assert error("logits", {"logits": found}, golden(net)) < 1e-4


@pytest.mark.parametrize(("net", "dtype", "limit"), CASES, ids=lambda v: getattr(v, "name", str(v)))
def test_a_training_step_is_torchvisions(net, dtype, limit):
    expected, found = golden(net), step(net, 0, dtype)
    jax.clear_caches()
    assert error("loss", found, expected) < limit
    # In float32 rounding decides rectifiers and pooling windows on the edge, in PyTorch as here,
    # and a gradient goes one way or the other: gradients are compared in float64.
    for kind in ("statistics", "gradient") if dtype == "float64" else ("statistics",):
        arrays = {n: found[n].ravel() for n in found if n.startswith(f"{kind}/")}
        least = FLOOR * max(expected[n][1] for n in arrays)
        for name, flat in arrays.items():
            norm, largest, *some = expected[name]
            size = max(largest, least)
            assert abs(np.linalg.norm(flat) - norm) < limit * max(norm, least), name
            np.testing.assert_allclose(
                flat[:: max(1, flat.size // KEPT)][:KEPT], some, rtol=0, atol=limit * size
            )
