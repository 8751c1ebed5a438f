"""Writes files as ``torch.save`` does, without PyTorch, for tests of reading them."""

import pickle
import sys
import types
import zipfile
from collections import OrderedDict

import numpy as np

STORAGES = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
}


class Tensor:
    """A tensor of some values; a parameter if it requires a gradient."""

    def __init__(self, values, parameter=False):
        self.values, self.parameter = np.ascontiguousarray(values), parameter


class Storage:
    def __init__(self, values):
        self.values = values


def _global(module, name):
    """Something that is pickled as a name of a module that is not here."""
    maker = type(name, (), {}) if name[0].isupper() else lambda *arguments: None
    maker.__module__, maker.__qualname__, maker.__name__ = module, name, name
    setattr(sys.modules[module], name, maker)
    return maker


class Pickler(pickle.Pickler):
    def __init__(self, file, legacy):
        super().__init__(file, protocol=2)
        self.storages, self.legacy = [], legacy

    def reducer_override(self, thing):
        if isinstance(thing, np.ndarray):
            thing = Tensor(thing)
        if not isinstance(thing, Tensor):
            return NotImplemented
        values = thing.values
        steps = tuple(step // values.itemsize for step in values.strides)
        arguments = (Storage(values), 0, values.shape, steps, False, OrderedDict())
        if thing.parameter:
            inner = (Tensor(values), True, OrderedDict())
            return _global("torch._utils", "_rebuild_parameter"), inner
        return _global("torch._utils", "_rebuild_tensor_v2"), arguments

    def persistent_id(self, thing):
        if not isinstance(thing, Storage):
            return None
        self.storages.append(thing.values)
        kind = _global("torch", STORAGES[thing.values.dtype.name])
        key = str(len(self.storages) - 1)
        view = (None,) if self.legacy else ()
        return ("storage", kind, key, "cpu", thing.values.size, *view)


def save(tree, path, legacy=False):
    """Write nested mappings of arrays as ``torch.save`` does, as a zip archive or one stream."""
    before = {name: sys.modules.get(name) for name in ("torch", "torch._utils", "foreign")}
    sys.modules.update({name: types.ModuleType(name) for name in before})
    try:
        if legacy:
            _stream(tree, path)
        else:
            _archive(tree, path)
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def foreign(name):
    """An object of a class that is not there when the file is read."""
    return lambda: _global("foreign", name)()


def _archive(tree, path):
    import io

    content = io.BytesIO()
    pickler = Pickler(content, legacy=False)
    pickler.dump(_made(tree))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content.getvalue())
        archive.writestr("archive/byteorder", "little")
        for key, values in enumerate(pickler.storages):
            archive.writestr(f"archive/data/{key}", values.tobytes())


def _stream(tree, path):
    with path.open("wb") as file:
        pickle.dump(0x1950A86A20F9469CFC6C, file, protocol=2)
        pickle.dump(1001, file, protocol=2)
        pickle.dump({"protocol_version": 1001, "little_endian": True}, file, protocol=2)
        pickler = Pickler(file, legacy=True)
        pickler.dump(_made(tree))
        pickle.dump([str(key) for key in range(len(pickler.storages))], file, protocol=2)
        for values in pickler.storages:
            file.write(values.size.to_bytes(8, "little") + values.tobytes())


def _made(tree):
    """Replace what is to be made while the modules are there."""
    if isinstance(tree, dict):
        return type(tree)((key, _made(value)) for key, value in tree.items())
    return tree() if callable(tree) else tree
