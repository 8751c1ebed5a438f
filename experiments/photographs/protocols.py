"""Write protocols.json: every protocol on 100 photographs, compared with Pillow and numpy.

    deeper prepare data=photos
    python experiments/photographs/standin.py learned
    python experiments/photographs/protocols.py                 (all)
    python experiments/photographs/protocols.py "vgg11 dense"   (some of them)

The reference works on one photograph at a time: Pillow resizes it, numpy crops and mirrors it, and
a net written in numpy is applied to each view. The nets are the ResNet-18 that `standin.py` has
trained, under each protocol, and VGG-11 with random weights, under dense.
"""

import argparse
import io
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from deeper.config.schema import RunConfig
from deeper.data import array_records
from deeper.data.whole_image_batches import headers_of
from deeper.models.initializers import initialise
from deeper.models.vgg import vgg
from deeper.progress import quiet
from deeper.run import build, load
from deeper.run.evaluate import of_crops, of_whole_photographs
from deeper.run.evaluation_set import open_evaluation_set
from deeper.run.protocols import WHOLE, Protocol, ProtocolRequest, protocol_of
from deeper.train.evaluate import metrics_of

HERE = Path(__file__).parent
N = 100
ASKED = {
    "resnet18": ("1crop", "flip", "10crop", "dense", "multiscale"),
    "vgg11": ("dense",),
}
Array = np.ndarray


# --- views, by Pillow and numpy -----------------------------------------------------------------


def resized(content: bytes, shorter: int) -> Array:
    """Return a photograph, resized to a shorter side in pixels."""
    with Image.open(io.BytesIO(content)) as picture:
        width, height = picture.size
        sides = [int(shorter * side / min(width, height)) for side in (width, height)]
        sides[0 if width <= height else 1] = shorter
        whole = picture.convert("RGB")
        return np.asarray(whole.resize((sides[0], sides[1]), Image.Resampling.BILINEAR))


def middle(pixels: Array, side: int) -> Array:
    """Return the central crop of a photograph."""
    top, left = (round((pixels.shape[axis] - side) / 2.0) for axis in (0, 1))
    return pixels[top : top + side, left : left + side]


def views(protocol: Protocol, content: bytes) -> list[Array]:
    """Return the views of a photograph that a protocol averages."""
    if protocol.name in WHOLE:
        seen = [resized(content, scale) for scale in protocol.scales]
    else:
        assert protocol.shorter_side is not None
        whole, side = resized(content, protocol.shorter_side), protocol.image_shape[0]
        if protocol.name == "10crop":
            square = middle(whole, protocol.shorter_side)
            far = len(square) - side
            places = ((0, 0), (0, far), (far, 0), (far, far), (far // 2, far // 2))
            seen = [square[y : y + side, x : x + side] for y, x in places]
        else:
            seen = [middle(whole, side)]
    return seen if protocol.name == "1crop" else [v for one in seen for v in (one, one[:, ::-1])]


# --- nets, by numpy -----------------------------------------------------------------------------


def conv(x: Array, kernel: Array, stride: int = 1) -> Array:
    """Cross-correlate a map (height, width, channels) with a kernel, with zero padding."""
    k, p = len(kernel), len(kernel) // 2
    seen = sliding_window_view(np.pad(x, ((p, p), (p, p), (0, 0))), (k, k), (0, 1))
    seen = seen[::stride, ::stride].transpose(0, 1, 3, 4, 2)
    flat = seen.reshape(-1, k * k * x.shape[-1]) @ kernel.reshape(-1, kernel.shape[-1])
    return flat.reshape(*seen.shape[:2], -1)


def pool(x: Array, window: int, stride: int, padding: int) -> Array:
    """Apply max pooling."""
    around = ((padding, padding), (padding, padding), (0, 0))
    seen = sliding_window_view(np.pad(x, around, constant_values=-np.inf), (window, window), (0, 1))
    return seen[::stride, ::stride].max((-1, -2))


def norm(x: Array, params: Any, statistics: Any) -> Array:
    """Apply BatchNorm with the running statistics."""
    factor = params["scale"] / np.sqrt(statistics["var"] + 1e-5)
    return (x - statistics["mean"]) * factor + params["bias"]


def resnet18(variables: Any, x: Array) -> Array:
    """Return the logits of one image: He et al. 2015, table 1."""
    params, running = variables["params"], variables["batch_stats"]
    x = np.maximum(norm(conv(x, params["conv1"]["kernel"], 2), params["bn1"], running["bn1"]), 0)
    x = pool(x, 3, 2, 1)
    for s in (1, 2, 3, 4):
        for b in (1, 2):
            p, r = params[f"stage{s}"][f"block{b}"], running[f"stage{s}"][f"block{b}"]
            stride = 2 if s > 1 and b == 1 else 1
            y = norm(conv(x, p["conv1"]["kernel"], stride), p["bn1"], r["bn1"])
            y = norm(conv(np.maximum(y, 0), p["conv2"]["kernel"]), p["bn2"], r["bn2"])
            if "shortcut_conv" in p:
                x = conv(x, p["shortcut_conv"]["kernel"], stride)
                x = norm(x, p["shortcut_bn"], r["shortcut_bn"])
            x = np.maximum(x + y, 0)
    return x.mean((0, 1), dtype=np.float64) @ params["fc"]["kernel"] + params["fc"]["bias"]


def vgg11(variables: Any, x: Array) -> Array:
    """Return the mean of the logits at all windows of the last map: section 3.2."""
    params = variables["params"]
    for s, convolutions in enumerate((1, 1, 2, 2, 2), 1):
        for c in range(1, convolutions + 1):
            layer = params[f"stage{s}_conv{c}"]
            x = np.maximum(conv(x, layer["kernel"]) + layer["bias"], 0)
        x = pool(x, 2, 2, 0)
    side, scores = 4, []  # size of a map of 128 pixels after five poolings
    for top in range(x.shape[0] - side + 1):
        for left in range(x.shape[1] - side + 1):
            y = x[top : top + side, left : left + side].reshape(-1)
            for name in ("fc1", "fc2", "fc3"):
                y = y @ params[name]["kernel"] + params[name]["bias"]
                y = np.maximum(y, 0) if name != "fc3" else y
            scores.append(y)
    return np.mean(scores, axis=0, dtype=np.float64)


def shares_of(net: Any, variables: Any, seen: list[Array], data: Any) -> Array:
    """Return the mean softmax over the views of a photograph."""
    found = []
    for pixels in seen:
        image = (pixels / 255.0 - np.array(data.mean)) / np.array(data.std)
        logits = net(variables, image.astype(np.float32))
        odds = np.exp(logits - logits.max())
        found.append(odds / odds.sum())
    return np.mean(found, axis=0)


# --- comparison ---------------------------------------------------------------------------------


def compared(name: str, asked: str, weights: load.Stored, run: Path) -> dict[str, Any]:
    """Return the differences between `deeper evaluate` and the reference."""
    of_run = weights.config
    protocol = protocol_of(ProtocolRequest(asked), of_run.data)
    examined = open_evaluation_set(run, of_run, protocol, "test")
    photographs: Any = examined.split.images
    labels = np.asarray(examined.split.labels)
    arguments = (of_run, weights, protocol, examined)
    if asked in WHOLE:
        headers = headers_of(photographs, quiet)
        found = of_whole_photographs(*arguments, headers, quiet)
    else:
        found = of_crops(*arguments, "test", quiet)
    opened = array_records.open_records(photographs.directory, photographs.split)
    contents: Any = [
        array_records.fields(record)["image"]
        for record in opened.__getitems__([int(n) for n in photographs.numbers])
    ]
    net = {"resnet18": resnet18, "vgg11": vgg11}[name]
    begun = time.perf_counter()
    shares = np.stack(
        [shares_of(net, weights.variables, views(protocol, one), of_run.data) for one in contents]
    )
    ours, theirs = np.exp(-found["loss"]), shares[np.arange(len(labels)), labels]
    return {
        "in_words": protocol.words,
        "photographs": len(labels),
        "views": len(views(protocol, contents[0])),
        "largest_difference_of_the_label's_probability": float(np.abs(ours - theirs).max()),
        "largest_difference_of_the_highest_probability": float(
            np.abs(found["confidence"] - shares.max(1)).max()
        ),
        "same_answers": int((found["prediction"] == shares.argmax(1)).sum()),
        "error": metrics_of(build.task_of(of_run), "test", found)["test/error"],
        "error_of_the_reference": 100.0 * float((shares.argmax(1) != labels).mean()),
        "reference_seconds": time.perf_counter() - begun,
    }


def random_vgg(config: RunConfig) -> load.Stored:
    """Return VGG-11 for 128 pixels with random weights, with scores scaled to a standard deviation
    of 1.
    """
    model = vgg(11, config.data.classes, hidden=512)
    variables = initialise(model, 0, tuple(config.data.image_shape))
    draw = np.random.default_rng(0)
    images = draw.normal(size=(8, *config.data.image_shape)).astype(np.float32)
    logits = np.asarray(jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, images))
    variables["params"]["fc3"]["kernel"] /= logits.std()
    return load.Stored(config, model, 0, variables)


def main() -> None:
    """Compare all protocols, and write protocols.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    choices = [f"{name} {asked}" for name, protocols in ASKED.items() for asked in protocols]
    parser.add_argument("which", nargs="*", default=choices, choices=choices)
    parser.add_argument("--work", type=Path, default=Path("runs/standin"))
    arguments = parser.parse_args()
    [run] = (arguments.work / "learned").glob("single/*")
    trained = load.open_stored(run, "last", "run")
    trained = replace(trained, config=trained.config.replace({"data.limit": N}))
    nets = {"resnet18": trained, "vgg11": random_vgg(trained.config)}
    out = HERE / "protocols.json"
    for which in arguments.which:
        name, asked = which.split()
        found = compared(name, asked, nets[name], run)
        print(which, json.dumps(found, indent=2), flush=True)
        known = json.loads(out.read_text()) if out.exists() else {}
        out.write_text(json.dumps(known | {which: found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
