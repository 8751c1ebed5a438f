"""On the same weights our nets compute what torchvision's do: against recorded answers of float64.

`scripts/parity` makes them; experiments/parity/README.md says how and has the whole table.
"""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest

HERE = Path(__file__).parents[2] / "experiments" / "parity"
sys.path.insert(0, str(HERE))

from nets import IMAGES, KEPT, NETS  # noqa: E402
from our_side import FLOOR, answers, errors  # noqa: E402

# A training step of these is run here, those of all nets for the table. GoogLeNet's loss and
# statistics tell of its heads; its gradients hang on rectifiers and pooling windows on the edge,
# where PyTorch's own float32 is 7e-3 from its float64, so that no narrow bound can hold.
STEPS = ("resnet18", "googlenet")
GRADIENTS = ("resnet18",)


@pytest.mark.parametrize("net", NETS, ids=lambda net: net.name)
def test_the_nets_answers_are_torchvisions(net):
    with np.load(HERE / "golden" / f"{net.name}.npz") as file:
        golden = dict(file)
    found = answers(net, 0, IMAGES, net.name in STEPS)
    jax.clear_caches()  # the programs hold the weights of large nets
    assert errors({"logits": found.pop("logits")}, golden)["logits"] < 1e-4
    if not found:
        return
    assert errors({"loss": found.pop("loss")}, golden)["loss"] < 1e-3
    for kind in ("gradient", "statistics") if net.name in GRADIENTS else ("statistics",):
        norms = {n: golden[n][0] for n in found if n.startswith(kind)}
        largest = max(norms[n] / np.sqrt(found[n].size) for n in norms)
        for name in norms:
            flat = np.float64(found[name].ravel())
            least = FLOOR * largest * np.sqrt(flat.size)
            size = max(norms[name], least)
            assert abs(np.linalg.norm(flat) - norms[name]) < 1e-3 * size, name
            some = flat[:: max(1, flat.size // KEPT)][:KEPT]
            scale = max(golden[name][1], least / np.sqrt(flat.size))
            np.testing.assert_allclose(some, golden[name][2:], rtol=0, atol=0.03 * scale)
