"""Files of PyTorch are read without PyTorch, and nothing in them is run."""

import argparse
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from deeper.errors import UserError
from deeper.weights import pytorch_files
from tests.weights import torch_format

RNG = np.random.default_rng(0)
ARRAYS = OrderedDict(
    {
        "fc.weight": RNG.normal(size=(2, 3)).astype(np.float32),
        "fc.bias": RNG.normal(size=2).astype(np.float64),
        "half": RNG.normal(size=4).astype(np.float16),
        "brain": RNG.normal(size=4).astype(np.float32).astype(jnp.bfloat16),
        "count": np.array(7),
        "none": np.zeros((0, 3), np.float32),
    }
)


@pytest.mark.parametrize("legacy", [False, True], ids=["archive", "stream"])
def test_a_state_dict_is_read_to_the_bit(tmp_path, legacy):
    torch_format.save(ARRAYS, tmp_path / "net.pth", legacy)
    found = pytorch_files.read(tmp_path / "net.pth")
    assert found.keys() == ARRAYS.keys()
    for name, values in ARRAYS.items():
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(found[name], values)


def test_parameters_and_what_training_programs_keep_beside_them_are_read(tmp_path):
    tree = {
        "epoch": 3,
        "args": argparse.Namespace(lr=0.1),
        "state_dict": {"fc.weight": torch_format.Tensor(ARRAYS["fc.weight"], parameter=True)},
        "callback": torch_format.foreign("Callback"),
    }
    torch_format.save(tree, tmp_path / "checkpoint.pth.tar")
    found = pytorch_files.read(tmp_path / "checkpoint.pth.tar")
    np.testing.assert_array_equal(found["state_dict"]["fc.weight"], ARRAYS["fc.weight"])
    assert found["args"].lr == 0.1 and found["epoch"] == 3
    assert isinstance(found["callback"], pytorch_files.Unread)


class Harmful:
    """Runs a command where a pickle is read carelessly."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return os.system, (f"touch {self.place}",)


def test_no_code_in_a_file_is_run(tmp_path):
    ran = tmp_path / "ran"
    with zipfile.ZipFile(tmp_path / "net.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"state_dict": Harmful(ran)}))
    assert isinstance(pytorch_files.read(tmp_path / "net.pth")["state_dict"], pytorch_files.Unread)
    assert not ran.exists()


def test_a_tensor_that_reaches_out_of_its_storage_is_refused(tmp_path, monkeypatch):
    class Far(torch_format.Tensor):
        pass

    def reduce(self, thing):
        if not isinstance(thing, Far):
            return NotImplemented
        make = torch_format._global("torch._utils", "_rebuild_tensor_v2")
        return make, (torch_format.Storage(thing.values), 0, (4,), (1,), False, None)

    monkeypatch.setattr(torch_format.Pickler, "reducer_override", reduce)
    torch_format.save({"a": Far(np.zeros(3, np.float32))}, tmp_path / "net.pth")
    with pytest.raises(UserError, match="reaches out of its storage"):
        pytorch_files.read(tmp_path / "net.pth")


def _archive(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, pickle.dumps({}))
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda p: _archive(p, "net/data.pkl", "net/constants.pkl", "net/code/x.py"),
            "TorchScript",
        ),
        (lambda p: _archive(p, "arr_0.npy"), "torch.save did not write"),
        (lambda p: p.write_bytes(pickle.dumps({"a": 1})), "torch.save did not write"),
        (lambda p: p.write_bytes(b"\x80\x02broken"), "damaged"),
        (lambda p: p.write_bytes(b"PK\x03\x04 cut off"), "damaged"),
    ],
    ids=["TorchScript", "npz", "pickle", "broken", "cut off"],
)
def test_what_cannot_be_read_is_said_in_a_sentence(tmp_path, make, message):
    make(tmp_path / "net.pth")
    with pytest.raises(UserError, match=message):
        pytorch_files.read(tmp_path / "net.pth")


def test_a_stream_that_was_cut_off_is_damaged(tmp_path):
    torch_format.save(ARRAYS, tmp_path / "net.pth", legacy=True)
    whole = (tmp_path / "net.pth").read_bytes()
    (tmp_path / "net.pth").write_bytes(whole[:-5])
    with pytest.raises(UserError, match="damaged"):
        pytorch_files.read(tmp_path / "net.pth")
