"""Imports thirty-six files as programs save them, and gives our exports to timm.

Run by ``scripts/parity-files``. PyTorch, torchvision and timm write the files and answer four
images (files_torch.py, in an environment of their own); `import_weights` reads each, and the
imported net answers the same images. Then each net that timm has too goes from timm to deeper and
back.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deeper.xla_flags import set_flags

set_flags()

import jax
import numpy as np

from deeper.errors import UserError
from deeper.kernels import cpu_dispatch
from deeper.record.environment import environment
from deeper.run import load
from deeper.run.model_card import write_card
from deeper.run.weights import import_weights
from deeper.study.tables import insert_between_markers, markdown
from deeper.weights import timm_config

HERE = Path(__file__).parent
RESULTS = HERE / "files.json"
PARTS = ("imports", "exports")
LIMIT = 1e-4  # of the largest logit
SIZE = 64  # pixels of the images
SIZES = {"inception_v3": 96}  # of nets that need larger ones
# File -> how it is wrapped, and what import is told besides.
FILES: dict[str, tuple[str, dict[str, Any]]] = {
    "01-state_dict.pth": ("`torch.save(model.state_dict())`, ResNet-18", {}),
    "02-stream.pth": ("the same, in the format before PyTorch 1.6", {}),
    "03.safetensors": ("the same, as safetensors", {}),
    "04-data_parallel.pth": ("`nn.DataParallel`", {}),
    "05-compiled.pth": ("`torch.compile`", {}),
    "06-parallel_compiled.pth": ("compiled, then parallel", {}),
    "07-torchvision_train.pth": ("torchvision's train.py", {}),
    "08-torchvision_train_ema.pth": ("torchvision's train.py, averages", {"ema": True}),
    "09-timm_train.pth.tar": ("timm's train.py", {}),
    "10-timm_train_ema.pth.tar": ("timm's train.py, averages", {"ema": True}),
    "11-lightning.ckpt": ("Lightning, with an object of another program", {}),
    "12-net.pt": ('`{"net": ..., "acc": ...}`', {}),
    "13-backbone.pth": ("`backbone.`, without a head", {}),
    "14-moco.pth.tar": ("MoCo: two encoders", {"prefix": "state_dict.module.encoder_q"}),
    "15-parameters.pth": ("parameters that require gradients", {}),
    "16-half.bin": ("float16", {}),
    "17-bfloat16.safetensors": ("bfloat16", {}),
    "18-num_classes_0.pth": ("timm's resnet26, `num_classes=0`", {}),
    "19-features_only.pth": ("timm's resnet18, `features_only=True`", {}),
    "20-37_classes.pth": ("ResNet-34 of 37 classes, with names", {"names": "names.txt"}),
    "21-dropout_head.pth": ("head of `nn.Sequential(nn.Dropout(), nn.Linear())`", {}),
    "22-resnet50d": ("timm's `save_for_hf`: safetensors and config.json, resnet50d", {}),
    "23-resnet26t.pth": ("timm's resnet26t", {}),
    "24-timm_vgg11_bn.pth": ("timm's vgg11_bn, at 64 pixels", {}),
    "25-vgg11_at_64.pth": ("torchvision's vgg11, at 64 pixels", {}),
    "26-alexnet_at_64.pth": ("torchvision's alexnet, at 64 pixels", {}),
    "27-googlenet.pth": ("torchvision's googlenet, auxiliary heads too", {}),
    "28-resnext50_32x4d.pth": ("torchvision's resnext50_32x4d", {}),
    "29-wide_resnet50_2.pth": ("torchvision's wide_resnet50_2", {}),
    "30-grey.pth": ("three channels adapted to one, beside timm's", {"channels": 1}),
    "31-torchscript.pt": ("TorchScript", {}),
    "32-pickled_model.pth": ("`torch.save(model)`", {}),
    "33-legacy_seresnet18.pth": ("timm's legacy_seresnet18", {}),
    "34-vit_tiny.pth": ("timm's vit_tiny_patch16_224", {}),
    "35-nan.pth": ("a NaN in a kernel", {}),
    "36-resnetaa50.pth": ("timm's resnetaa50, which has resnet50's names", {}),
}


def main() -> None:
    """Compare, print, and with --write keep the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=PARTS, nargs="*", default=list(PARTS))
    parser.add_argument("--nets", nargs="*", default=list(timm_config.NETS), help="of exports")
    parser.add_argument("--write", action="store_true", help="write files.json and the README")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, cpu_dispatch.turned_off():
        if "imports" in arguments.part:
            _keep("imports", imports(Path(folder)), arguments.write)
        if "exports" in arguments.part:
            for row, versions in exports(Path(folder), arguments.nets):
                _keep("exports", ([row], versions), arguments.write)


def _keep(part: str, found: tuple[list[dict[str, Any]], dict[str, str]], write: bool) -> None:
    """Check results, and write them in the place of earlier ones of the same files or nets."""
    rows, versions = found
    _check(rows)
    if not write:
        return
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    key = "file" if part == "imports" else "net"
    new = {row[key]: row | {"versions": versions} for row in rows}
    before = {row[key]: row for row in results.get(part, [])}
    order = list(FILES if part == "imports" else timm_config.NETS)
    merged = sorted((before | new).values(), key=lambda row: order.index(row[key]))
    results[part] = merged
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    insert_between_markers(HERE / "README.md", "files", _table(results))


def _check(rows: list[dict[str, Any]]) -> None:
    """End with a message if answers differ, or a net was taken for another one."""
    off = [row for row in rows if any(row.get(key, 0) > LIMIT for key in ("error", "export"))]
    # Found under torchvision's name, some of them; the card has timm's.
    wrong = [row for row in rows if "net" in row and row["net"] != row["card"]]
    if off or wrong:
        sys.exit(f"more than {LIMIT} off: {off}; taken for another net: {wrong}")


def _torch(*words: object) -> None:
    side = [os.environ["PARITY_PYTHON"], HERE / "files_torch.py", *words]
    subprocess.run(list(map(str, side)), check=True)


def imported(root: Path, name: str) -> dict[str, Any]:
    """Import a file; return what was said, and how far the net's answers are from PyTorch's."""
    words, options = FILES[name]
    path, out = root / "files" / name, root / "imported" / name
    if "names" in options:
        options = {**options, "names": root / "files" / options["names"]}
    size = [] if "channels" in options else [_shape(SIZE)]
    row: dict[str, Any] = {"file": name, "wrapping": words}
    try:
        done = import_weights(str(path), out, *size, **options)
    except UserError as error:
        return row | {
            "result": "refused",
            "said": str(error).splitlines()[0].replace(str(path), name),
        }
    said = [line for line in done.said if not line.startswith(("Architecture", "Images"))]
    row |= {
        "result": done.config.label,
        "classes": done.config.data.classes,
        "said": " ".join(said),
    }
    beside = path.with_name(f"{name}.npz")
    if beside.is_file():
        [row["error"]] = _off(out, beside)
    return row


def imports(root: Path) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Import all files."""
    (root / "files").mkdir()
    _torch("write", root / "files")
    rows = []
    for name in FILES:
        rows.append(imported(root, name))
        print(rows[-1], flush=True)
    return rows, _versions(root / "files")


def _versions(folder: Path) -> dict[str, str]:
    told = json.loads((folder / "versions.json").read_text(encoding="utf-8"))
    return told | {"deeper": environment()["git_commit"]}


def _shape(size: int) -> str:
    return f"data.image_shape=[{size},{size},3]"


def _off(directory: Path, *beside: Path) -> list[float]:
    """Return the largest difference of logits over the largest logit, for each of some answers."""
    stored = load.open_stored(directory, "last", "run")
    apply = jax.jit(lambda variables, x: stored.model.apply(variables, x, train=False))
    found = []
    ours = None
    for path in beside:
        with np.load(path) as file:
            images, theirs = file["images"], file["answers"]
        ours = np.asarray(apply(stored.variables, images)) if ours is None else ours
        found.append(float(np.abs(ours - theirs).max() / np.abs(theirs).max()))
    return found


def exports(root: Path, nets: list[str]) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """Import each of some nets of timm, export it, and let timm load and run it."""
    pipe = subprocess.PIPE
    side = [os.environ["PARITY_PYTHON"], str(HERE / "files_torch.py"), "serve", str(root)]
    with subprocess.Popen(side, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None and process.stdout is not None

        def ask(*words: object) -> None:
            print(*words, file=process.stdin, flush=True)
            if process.stdout.readline() != "done\n":
                sys.exit("PyTorch's side ended early; its own message stands above.")

        for name in nets:
            with tempfile.TemporaryDirectory(dir=root) as folder:
                place, size = Path(folder), SIZES.get(name, SIZE)
                ask("make", size, place / "net.safetensors", name)
                done = import_weights(str(place / "net.safetensors"), place / "net", _shape(size))
                card = write_card(place / "net", place / "card")
                ask("load", size, place / "card")
                row = {"net": name, "found": done.config.label, "card": card.architecture}
                answers = (place / "net.safetensors.npz", place / "card.npz")
                row["error"], row["export"] = _off(place / "net", *answers)
                print(row, flush=True)
                yield row, _versions(root)
        process.stdin.close()


def _table(results: dict[str, Any]) -> str:
    """Return the tables of the parts that there are."""
    parts = []
    if "imports" in results:
        rows = [
            (
                row["wrapping"],
                row["result"],
                str(row.get("classes", "")),
                f"{row['error']:.1e}" if "error" in row else "",
                row["said"],
            )
            for row in results["imports"]
        ]
        heads = ("file", "result", "classes", "logits off by", "said")
        parts += [markdown(heads, rows), _told(results["imports"])]
    if "exports" in results:
        heads = ("timm's net", "imported: logits off by", "exported and loaded by timm: off by")
        rows = [
            (row["net"], f"{row['error']:.1e}", f"{row['export']:.1e}")
            for row in results["exports"]
        ]
        parts += [markdown(heads, rows), _told(results["exports"])]
    return "\n\n".join(parts)


def _told(rows: list[dict[str, Any]]) -> str:
    """Return the versions that rows were measured with, of each program all there were."""
    known: dict[str, dict[str, None]] = {}
    for row in rows:
        for name, version in row["versions"].items():
            known.setdefault(name, {})[version] = None
    return ", ".join(f"{name} {' and '.join(all_of)}" for name, all_of in known.items()) + "."


if __name__ == "__main__":
    main()
