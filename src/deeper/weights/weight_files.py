"""Reads and writes files of weights: safetensors, PyTorch's, and those of the Hugging Face Hub.

PyTorch's files are read with ``weights_only=True``, so that no code in a pickle is run.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors import numpy as safetensors_numpy

from deeper.errors import UserError

HUB = "hf:"
SUFFIXES = (".safetensors", ".pth", ".pt")


def read(source: str, key: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read a file of weights.

    Args:
        source: a path (``.safetensors``, ``.pth``, ``.pt``) or ``hf:OWNER/NAME[@REVISION]``.
        key: the config key that names the file, for messages.

    Returns:
        name -> array, and the origin: ``source``, ``sha256``, and ``revision`` of the Hub.

    Raises:
        UserError: the file cannot be read, or a library that it needs is not installed.
    """
    origin = {"source": source}
    if source.startswith(HUB):
        path, origin["revision"] = _download(source.removeprefix(HUB))
    else:
        path = Path(source).expanduser()
    if not path.is_file():
        raise UserError(f"{key}={source}: there is no such file.")
    with path.open("rb") as file:
        origin["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    if path.suffix == ".safetensors":
        return _safetensors(path), origin
    if path.suffix in (".pth", ".pt"):
        return _pytorch(path), origin
    raise UserError(f"{key}={source}: give a .safetensors, .pth or .pt file, or {HUB}OWNER/NAME.")


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        return safetensors_numpy.load_file(path)
    except (SafetensorError, KeyError) as error:
        raise UserError(f"{path} cannot be read as safetensors: {error}") from error


def _pytorch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"{path} is PyTorch's own format, which PyTorch alone can read: install it here, or "
            "save the weights as safetensors where it is: "
            "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
        ) from error
    try:
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zipfile and torch raise types of their own
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{path} cannot be read with weights_only=True: {reason}") from error
    for key in ("state_dict", "model"):  # under which training scripts save the state dict
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not all(torch.is_tensor(v) for v in loaded.values()):
        raise UserError(f"{path} holds no mapping of names to tensors.")
    return {
        name.removeprefix("module."): tensor.float().numpy()
        if tensor.is_floating_point()
        else tensor.numpy()
        for name, tensor in loaded.items()
    }


def _download(name: str) -> tuple[Path, str]:
    """Download the weights of a repository of the Hub; return the file and its commit."""
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise UserError(f"{HUB}{name} needs the extra hub: run scripts/setup hub.") from error
    repository, _, revision = name.partition("@")
    try:
        path = huggingface_hub.hf_hub_download(
            repository, "model.safetensors", revision=revision or None
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{HUB}{name} cannot be had: {reason}") from error
    # The cache has one directory per commit: .../snapshots/COMMIT/model.safetensors
    return Path(path), Path(path).parent.name


def write(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file atomically.

    Raises:
        UserError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        safetensors_numpy.save_file(dict(arrays), part, dict(metadata))
        part.replace(path)
    except (OSError, SafetensorError) as error:
        part.unlink(missing_ok=True)
        raise UserError(f"{path} could not be written: {error}") from error


def metadata_of(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file."""
    with safe_open(path, framework="numpy") as file:
        return file.metadata() or {}
