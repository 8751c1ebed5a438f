"""PyTorch's side of files.py: writes files of weights as programs do, and answers of their nets.

Run by files.py in a virtual environment with torch, torchvision and timm:

    files_torch.py write DIRECTORY     the files, each with NAME.npz: images and answers of its net
    files_torch.py serve DIRECTORY     makes nets of timm, and loads what deeper exported of them
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import timm
import torch
import torchvision
from safetensors.torch import save_file
from timm.models import adapt_input_conv
from timm.utils import CheckpointSaver, ModelEmaV3
from torch import nn

IMAGES, SIZE = 4, 64


def filled(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give a net weights and statistics of which none is trivial, and outputs of moderate size."""
    generator = torch.Generator().manual_seed(seed)

    def draw(like: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(like.shape, generator=generator)

    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("running_mean"):
                value.copy_(draw(value, -0.1, 0.1))
            elif name.endswith("running_var") or (name.endswith("weight") and value.ndim == 1):
                value.copy_(draw(value, 0.5, 1.5))
            elif name.endswith("bias"):
                value.copy_(draw(value, -0.1, 0.1))
            elif name.endswith("weight"):
                bound = (6.0 / max(1, value[0].numel())) ** 0.5
                if ".se." in name:
                    # Large gates multiply rounding: with them PyTorch's own float32 is 0.3 off at
                    # 152 layers.
                    bound /= 100
                value.copy_(draw(value, -bound, bound))
    return model.eval()


def tv(name: str, classes: int = 1000, seed: int = 0, **options) -> nn.Module:
    """Return a net of torchvision."""
    make = getattr(torchvision.models, name)
    return filled(make(weights=None, num_classes=classes, **options), seed)


def tm(name: str, classes: int = 1000, seed: int = 0, **options) -> nn.Module:
    """Return a net of timm."""
    return filled(timm.create_model(name, num_classes=classes, **options), seed)


class Callback:
    """Something of a training program's own, as Lightning keeps it in a checkpoint."""

    def __init__(self) -> None:
        self.best = 1.0


def images(channels: int = 3, size: int = SIZE) -> torch.Tensor:
    """Return the images that nets answer."""
    generator = torch.Generator().manual_seed(7)
    return torch.randn((IMAGES, channels, size, size), generator=generator)


def answers(model: nn.Module, channels: int = 3, size: int = SIZE) -> np.ndarray:
    """Return a net's outputs of the images."""
    with torch.no_grad():
        return model(images(channels, size)).numpy()


def keep(path: Path, given: np.ndarray, channels: int = 3, size: int = SIZE) -> None:
    """Write a net's answers beside its file."""
    shown = images(channels, size).numpy().transpose(0, 2, 3, 1)
    np.savez(f"{path}.npz", images=shown, answers=given)


def prefixed(prefix: str, state: dict) -> dict:
    return {prefix + name: value for name, value in state.items()}


def tell_versions(out: Path) -> None:
    """Write which libraries answered."""
    versions = {each.__name__: each.__version__ for each in (torch, torchvision, timm)}
    (out / "versions.json").write_text(json.dumps(versions), encoding="utf-8")


def write(out: Path) -> None:
    """Write all files."""
    small, other = tv("resnet18"), tv("resnet18", seed=1)
    state = small.state_dict()
    optimizer = torch.optim.SGD(small.parameters(), 0.1, momentum=0.9)
    loss = small(images()).sum()
    loss.backward()
    optimizer.step()  # gives it a state; the weights change, so they are filled again
    filled(small)
    told = answers(small)

    def torch_file(name: str, tree: object, given: np.ndarray | None = told, **options) -> None:
        torch.save(tree, out / name, **options)
        if given is not None:
            keep(out / name, given)

    torch_file("01-state_dict.pth", state)
    torch_file("02-stream.pth", state, _use_new_zipfile_serialization=False)
    save_file(state, out / "03.safetensors")
    keep(out / "03.safetensors", told)
    torch_file("04-data_parallel.pth", nn.DataParallel(small).state_dict())
    torch_file("05-compiled.pth", torch.compile(small).state_dict())
    torch_file("06-parallel_compiled.pth", prefixed("module._orig_mod.", state))
    averages = torch.optim.swa_utils.AveragedModel(other)
    torchvisions = {
        "model": state,
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": {"last_epoch": 3},
        "epoch": 3,
        "args": argparse.Namespace(lr=0.1, device="cuda"),
        "model_ema": averages.state_dict(),
    }
    torch_file("07-torchvision_train.pth", torchvisions)
    torch_file("08-torchvision_train_ema.pth", torchvisions, answers(other))
    ema = ModelEmaV3(other)
    saver = CheckpointSaver(
        small, optimizer, args=argparse.Namespace(model="resnet18"), model_ema=ema,
        checkpoint_dir=str(out), recovery_dir=str(out),
    )  # fmt: skip
    saver.save_checkpoint(0, metric=1.0)
    for name, given in (
        ("09-timm_train.pth.tar", told),
        ("10-timm_train_ema.pth.tar", answers(other)),
    ):
        (out / name).write_bytes((out / "last.pth.tar").read_bytes())
        keep(out / name, given)
    lightning = {
        "epoch": 1,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": prefixed("model.", state),
        "callbacks": {"early": Callback()},
        "hyper_parameters": {"lr": 0.1},
    }
    torch_file("11-lightning.ckpt", lightning)
    torch_file("12-net.pt", {"net": state, "acc": 93.1, "epoch": 10})
    body = {name: value for name, value in state.items() if not name.startswith("fc.")}
    torch_file("13-backbone.pth", {"model_state_dict": prefixed("backbone.", body)}, None)
    moco = prefixed("module.encoder_q.", state) | prefixed("module.encoder_k.", other.state_dict())
    torch_file("14-moco.pth.tar", {"arch": "resnet18", "state_dict": moco})
    parameters = dict(small.named_parameters()) | dict(small.named_buffers())
    torch_file("15-parameters.pth", parameters)
    half = tv("resnet18").half()
    torch_file("16-half.bin", half.state_dict(), answers(half.float()))
    brain = tv("resnet18").bfloat16()
    save_file(brain.state_dict(), out / "17-bfloat16.safetensors")
    keep(out / "17-bfloat16.safetensors", answers(brain.float()))
    headless = tm("resnet26", 0)
    torch_file("18-num_classes_0.pth", headless.state_dict(), None)
    features = filled(timm.create_model("resnet18", features_only=True))
    torch_file("19-features_only.pth", features.state_dict(), None)
    pets = tv("resnet34", 37)
    torch_file("20-37_classes.pth", {"state_dict": pets.state_dict()}, answers(pets))
    (out / "names.txt").write_text("\n".join(f"breed {i}" for i in range(37)), encoding="utf-8")
    dropped = tv("resnet18")
    dropped.fc = nn.Sequential(nn.Dropout(), nn.Linear(512, 5))
    filled(dropped)
    torch_file("21-dropout_head.pth", dropped.state_dict(), answers(dropped))
    folder = out / "22-resnet50d"
    timm.models.save_for_hf(tm("resnet50d", 10), folder, safe_serialization=True)
    keep(folder, answers(tm("resnet50d", 10)))
    for number, model in (
        ("23-resnet26t", tm("resnet26t", 10)),
        ("24-timm_vgg11_bn", tm("vgg11_bn", 10)),
        ("25-vgg11_at_64", tv("vgg11", 10)),
        ("26-alexnet_at_64", tv("alexnet", 10)),
        ("27-googlenet", tv("googlenet", 10, init_weights=False)),
        ("28-resnext50_32x4d", tv("resnext50_32x4d", 10)),
        ("29-wide_resnet50_2", tv("wide_resnet50_2", 10)),
    ):
        torch_file(f"{number}.pth", model.state_dict(), answers(model))
    grey = timm.create_model("resnet18", in_chans=1)
    grey.load_state_dict(
        {**state, "conv1.weight": adapt_input_conv(1, state["conv1.weight"])}, strict=True
    )
    torch_file("30-grey.pth", state, None)
    keep(out / "30-grey.pth", answers(grey.eval(), 1), 1)
    # Refused, each in a sentence.
    torch.jit.save(torch.jit.trace(small, images()), out / "31-torchscript.pt")
    torch_file("32-pickled_model.pth", small, None)
    torch_file("33-legacy_seresnet18.pth", tm("legacy_seresnet18", 10).state_dict(), None)
    torch_file("34-vit_tiny.pth", tm("vit_tiny_patch16_224", 10).state_dict(), None)
    broken = {name: value.clone() for name, value in state.items()}
    broken["layer1.0.conv1.weight"][0] = float("nan")
    torch_file("35-nan.pth", broken, None)
    looks = {"arch": "resnetaa50", "state_dict": tm("resnetaa50", 10).state_dict()}
    torch_file("36-resnetaa50.pth", looks, None)
    tell_versions(out)


def load(folder: Path, size: int) -> None:
    """Answer with a net that deeper exported, as timm loads it."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    model = timm.create_model(
        config["architecture"],
        num_classes=config["num_classes"],
        checkpoint_path=str(folder / "model.safetensors"),
    )
    keep(folder, answers(model.eval(), size=size), size=size)


def serve(out: Path) -> None:
    """Make nets and load them, a line each: ``make SIZE FILE NAME`` or ``load SIZE FOLDER``."""
    tell_versions(out)
    for line in sys.stdin:
        what, size, path, *name = line.split()
        if what == "make":
            model = tm(name[0], 10)
            save_file(model.state_dict(), path)
            keep(Path(path), answers(model, size=int(size)), size=int(size))
        else:
            load(Path(path), int(size))
        print("done", flush=True)


if __name__ == "__main__":
    {"write": write, "serve": serve}[sys.argv[1]](Path(sys.argv[2]))
