"""Reads and writes files of weights: safetensors, PyTorch's, and those of the Hugging Face Hub.

What a file is, its content says, not its suffix. No code in a file is run, see `pytorch_files`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors
import yaml
from safetensors import SafetensorError, safe_open
from safetensors import numpy as safetensors_numpy

from deeper.errors import UserError
from deeper.weights import pytorch_files, state_dicts, timm_config

HUB = "hf:"
# Of files, for what is not there yet; what is there is known by its content.
SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".tar")
IN_REPOSITORIES = ("model.safetensors", "pytorch_model.bin")
TYPES: dict[str, Any] = {  # of safetensors -> of NumPy
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.dtype(jnp.bfloat16),
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8,
    "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip
OTHERS = {
    b"\x89HDF": "an HDF5 file, as Keras writes",
    b"GGUF": "a GGUF file",
    b"\x93NUM": "an array",
}


@dataclass(frozen=True)
class WeightFile:
    """What a file of weights holds.

    Attributes:
        arrays: by names, nestings joined with dots.
        origin: ``source`` as it was asked for, ``sha256``, and ``revision`` of the Hub.
        metadata: of a safetensors file.
        config: of timm's ``config.json`` beside it; empty where there is none.
        licence: as the Hub says; None where it does not.
        architecture: the name that a training program or ``config.json`` has for the net.
    """

    arrays: dict[str, np.ndarray]
    origin: dict[str, str]
    metadata: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    licence: str | None = None
    architecture: str | None = None

    @property
    def own(self) -> dict[str, Any]:
        """What a file that deeper wrote says of its net: ``mean``, ``std``, ``classes``, ..."""
        known = {}
        for name, text in self.metadata.items():
            try:
                known[name] = json.loads(text)
            except ValueError:
                known[name] = text
        return known


def is_file(source: str) -> bool:
    """Whether a source names a file of weights, or one of the Hub, and not a run directory."""
    path = Path(source).expanduser()
    return source.startswith(HUB) or path.is_file() or path.suffix in SUFFIXES


def read(source: str, key: str) -> WeightFile:
    """Read a file of weights.

    Args:
        source: a path, or ``hf:OWNER/NAME[@REVISION]``.
        key: the config key that names the file, for messages.

    Raises:
        UserError: the file cannot be read, or a library that it needs is not installed.
    """
    origin, licence = {"source": source}, None
    if source.startswith(HUB):
        path, origin["revision"], licence = _download(source.removeprefix(HUB))
    else:
        path = Path(source).expanduser()
        if path.is_dir():  # of a repository that was copied here
            path = next((path / n for n in IN_REPOSITORIES if (path / n).is_file()), path)
    if not path.is_file():
        raise UserError(f"{key}={source}: there is no such file.")
    with path.open("rb") as file:
        origin["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    config = _config_beside(path)
    licence = licence or timm_config.licence_of(config)
    with path.open("rb") as file:
        head = file.read(16)
    name = config.get("architecture")
    # This first: a safetensors file begins with a number, which may be any byte.
    if head[8:9] == b"{":
        return WeightFile(_safetensors(path), origin, metadata_of(path), config, licence, name)
    if pytorch_files.is_pytorch(head):
        tree = pytorch_files.read(path)
        arrays = state_dicts.flattened(tree)
        if not arrays:
            raise UserError(_nothing_in(path, tree))
        if name is None and isinstance(tree, Mapping):
            name = tree.get("arch")
        return WeightFile(arrays, origin, {}, config, licence, name)
    what = OTHERS.get(head[:4], "neither a safetensors file nor one of PyTorch")
    raise UserError(f"{key}={source} is {what}: save the weights as safetensors where they are.")


def _nothing_in(path: Path, tree: Any) -> str:
    if isinstance(tree, pytorch_files.Unread):
        return (
            f"{path} is a whole pickled model, which needs its own code to be read. Where that is: "
            f"{pytorch_files.SAVE_DICT}"
        )
    return f"{path} holds no mapping of names to tensors. Save one: {pytorch_files.SAVE_DICT}"


def _config_beside(path: Path) -> dict[str, Any]:
    file = path.with_name(timm_config.FILE)
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return dict(values) if timm_config.is_config(values) else {}


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        entries = safetensors.deserialize(path.read_bytes())
        return {
            name: np.frombuffer(entry["data"], TYPES[entry["dtype"]]).reshape(entry["shape"])
            for name, entry in entries
        }
    except (SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{path} cannot be read as safetensors: {error}") from error


def _download(name: str) -> tuple[Path, str, str | None]:
    """Download a repository's weights and config; return the file, its commit and its licence."""
    try:
        import huggingface_hub
        from huggingface_hub.errors import (
            EntryNotFoundError,
            HfHubHTTPError,
            LocalEntryNotFoundError,
        )
    except ImportError as error:
        raise UserError(f"{HUB}{name} needs the extra hub: run scripts/setup hub.") from error
    repository, _, revision = name.partition("@")

    def get(file: str, at: str | None) -> Path:
        return Path(huggingface_hub.hf_hub_download(repository, file, revision=at))

    try:
        try:
            path = get(IN_REPOSITORIES[0], revision or None)
        except LocalEntryNotFoundError:
            raise
        except EntryNotFoundError:
            path = get(IN_REPOSITORIES[1], revision or None)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{HUB}{name} cannot be had: {reason}") from error
    # The cache has one directory per commit: .../snapshots/COMMIT/model.safetensors
    commit = path.parent.name
    licence = None
    for file in (timm_config.FILE, "README.md"):
        try:
            beside = get(file, commit)
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError):
            continue  # there is none
        if file == "README.md":
            licence = _licence_in(beside)
    return path, commit, licence


def _licence_in(card: Path) -> str | None:
    """Return the licence that the head of a model card names."""
    parts = card.read_text(encoding="utf-8", errors="replace").split("---\n")
    try:
        head = yaml.safe_load(parts[1]) if len(parts) > 2 else None
    except yaml.YAMLError:
        return None
    licence = head.get("license") if isinstance(head, Mapping) else None
    return licence if isinstance(licence, str) else None


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
