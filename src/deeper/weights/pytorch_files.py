"""Reads what ``torch.save`` wrote, without PyTorch and without running what is in the file.

A file is a pickle beside the bytes of the tensors: a zip archive, or since before PyTorch 1.6 one
stream. Unpickling calls whatever the pickle names, so names are looked up in a list here: those
that make up tensors and plain containers. All others, such as a Lightning callback or a class of
the user's, become `Unread`, which holds nothing and does nothing. Tensors become NumPy arrays.

The formats are those of ``torch/serialization.py``, and the functions in the pickle those of
``torch/_utils.py``.
"""

import argparse
import collections
import io
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

import jax.numpy as jnp
import numpy as np

from deeper.errors import UserError

BFLOAT16 = np.dtype(jnp.bfloat16).type
# Type of a storage -> type of its values.
STORAGES: dict[str, Any] = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": BFLOAT16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
    "UntypedStorage": np.uint8,
}
ZIP, PICKLE = b"PK\x03\x04", b"\x80"
MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a stream
SAVE_DICT = "torch.save(model.state_dict(), 'weights.pth')"
COUNT = 8  # bytes of a number of values in a stream


class Unread:
    """What stands for everything in a pickle that is not read."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "Unread":
        """Take any arguments."""
        return super().__new__(cls)

    def __call__(self, *args: Any, **kwargs: Any) -> "Unread":
        """Return itself, where a pickle calls what it has made."""
        return self

    def _ignore(self, *args: Any) -> None:
        """Take in what a pickle puts into an object."""

    __init__ = __setstate__ = __setitem__ = append = extend = add = _ignore


def read(path: Path) -> Any:
    """Return what a file of PyTorch holds: containers, numbers, texts and NumPy arrays.

    Args:
        path: of the file.

    Raises:
        UserError: it is no such file, is damaged, or holds what cannot be read without its code.
    """
    with path.open("rb") as file:
        head = file.read(4)
    try:
        if head == ZIP:
            return _of_archive(path)
        if head[:1] == PICKLE:
            with path.open("rb") as file:
                return _of_stream(file, path)
    except UserError:
        raise
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to ask for
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path} is damaged, or no file of PyTorch: {reason}") from error
    raise UserError(f"{path} is no file of PyTorch.")


def is_pytorch(head: bytes) -> bool:
    """Whether a file begins as those do that ``torch.save`` writes."""
    return head[:4] == ZIP or head[:1] == PICKLE


# --- the two formats -----------------------------------------------------------------------------


def _of_archive(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        root = next((name[: -len("data.pkl")] for name in names if name.endswith("data.pkl")), None)
        inside = {name.removeprefix(root or "").split("/")[0] for name in names}
        if root is not None and {"constants.pkl", "code"} & inside:
            raise UserError(
                f"{path} is a TorchScript program, not weights alone. Where PyTorch is: "
                "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth'), and import that."
            )
        if root is None:
            raise UserError(
                f"{path} is a zip archive that torch.save did not write. Save the weights alone: "
                f"{SAVE_DICT}"
            )
        order: Literal["<", ">"] = "<"
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder") == b"big":
            order = ">"
        storages: dict[str, np.ndarray] = {}

        def storage_of(identity: Any) -> np.ndarray:
            kind, dtype, key, _, count = identity[:5]
            if kind != "storage":
                raise pickle.UnpicklingError(f"a {kind} in the place of a storage")
            if key not in storages:
                content = archive.read(f"{root}data/{key}")
                stored = np.frombuffer(content, np.dtype(dtype).newbyteorder(order), int(count))
                storages[key] = stored.astype(dtype, copy=False)
            return storages[key]

        return _Unpickler(io.BytesIO(archive.read(f"{root}data.pkl")), storage_of).load()


def _of_stream(file: BinaryIO, path: Path) -> Any:
    if _plain(file) != MAGIC:
        raise UserError(
            f"{path} is a pickle that torch.save did not write. Save the weights alone: {SAVE_DICT}"
        )
    _plain(file)  # version of the format
    order: Literal["<", ">"] = "<" if _plain(file).get("little_endian", True) else ">"
    storages: dict[str, np.ndarray] = {}

    def storage_of(identity: Any) -> Any:
        if identity[0] == "module":  # a module with its source, from before PyTorch 1.6
            return identity[1]
        _, dtype, key, _, count, view = identity
        if key not in storages:  # the values come behind the pickle
            storages[key] = np.zeros(int(count), dtype)
        if view is None:
            return storages[key]
        _, offset, size = view
        return storages[key][offset : offset + size]

    tree = _Unpickler(file, storage_of).load()
    for key in _plain(file):
        stored = storages[key]
        if int.from_bytes(_exactly(file, COUNT), "little") != stored.size:
            raise EOFError("a tensor has another number of values than is said of it")
        content = _exactly(file, stored.nbytes)
        stored[:] = np.frombuffer(content, stored.dtype.newbyteorder(order), stored.size)
    return tree


def _exactly(file: BinaryIO, count: int) -> bytes:
    content = file.read(count)
    if len(content) != count:
        raise EOFError("it ends within a tensor")
    return content


def _plain(file: BinaryIO) -> Any:
    """Return the next pickle of a stream, which holds nothing but numbers, texts and lists."""
    return _Unpickler(file, lambda identity: None).load()


# --- the pickle ----------------------------------------------------------------------------------


class _Unpickler(pickle.Unpickler):
    """Makes what `ALLOWED` lists, and `Unread` in the place of all else."""

    def __init__(self, file: Any, storage_of: Callable[[Any], Any]):
        super().__init__(file, encoding="utf-8")
        self._storage_of = storage_of

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name stands for."""
        if module in ("torch", "torch.storage") and name in STORAGES:
            return STORAGES[name]
        return ALLOWED.get((module, name), Unread)

    def persistent_load(self, identity: Any) -> Any:
        """Return the values of a storage."""
        return self._storage_of(identity)


def _tensor(
    storage: np.ndarray, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> np.ndarray:
    """Return a tensor's values: a view of its storage.

    Raises:
        pickle.UnpicklingError: it would reach out of its storage.
    """
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 in size:
        return np.zeros(size, storage.dtype)
    if offset < 0 or min(stride, default=0) < 0 or last >= storage.size:
        raise pickle.UnpicklingError("a tensor reaches out of its storage")
    steps = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps, writeable=False)


def _typed_tensor(
    storage: np.ndarray,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    grad: Any,
    hooks: Any,
    dtype: Any,
    *_: Any,
) -> Any:
    """Return the values of a tensor that says its type, of a storage that is bytes."""
    if dtype is Unread or isinstance(dtype, Unread):
        return Unread()  # float8 and others of which no net is made
    return _tensor(storage.view(dtype), offset, size, stride)


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _of_subclass(make: Callable[..., Any], kind: Any, arguments: Any, state: Any) -> Any:
    return make(*arguments)


def _numpy_scalar(dtype: Any, content: Any = None) -> Any:
    if not isinstance(dtype, np.dtype) or dtype.hasobject or not isinstance(content, bytes):
        return Unread()
    return np.frombuffer(content, dtype, 1)[0]


def _numpy_dtype(name: str, *_: Any) -> Any:
    dtype = np.dtype(name)
    return Unread() if dtype.hasobject else dtype


def _encoded(text: str, encoding: str = "latin1") -> Any:
    return text.encode(encoding) if encoding in ("latin1", "latin-1", "utf-8") else Unread()


ALLOWED: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("argparse", "Namespace"): argparse.Namespace,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _typed_tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _of_subclass,
    ("numpy.core.multiarray", "scalar"): _numpy_scalar,
    ("numpy._core.multiarray", "scalar"): _numpy_scalar,
    ("numpy", "dtype"): _numpy_dtype,
    ("_codecs", "encode"): _encoded,
    **{("builtins", name): kind for name, kind in (("set", set), ("complex", complex))},
    **{("__builtin__", name): kind for name, kind in (("set", set), ("complex", complex))},
    **{("torch", name): getattr(np, name) for name in ("float32", "float64", "float16")},
    **{("torch", name): getattr(np, name) for name in ("int64", "int32", "int16", "int8", "uint8")},
    ("torch", "bfloat16"): BFLOAT16,
    ("torch", "bool"): np.bool_,
}
