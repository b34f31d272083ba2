"""PyTorch's checkpoints without PyTorch: what is written is read again; a file by PyTorch itself; refusals."""

import pickle
import zipfile

import numpy as np
import pytest

from repro.errors import UsageError
from repro.interop import torch_files

GROUPS = {
    "encoder": {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.float32(7).reshape(())},
    "empty": {},
}


def test_what_is_written_is_read_again(tmp_path):
    torch_files.write(tmp_path / "x.pth.tar", GROUPS)
    found = torch_files.read(tmp_path / "x.pth.tar")
    assert list(found) == ["encoder", "empty"] and not found["empty"]
    for name, array in GROUPS["encoder"].items():
        np.testing.assert_array_equal(found["encoder"][name].read(), array)


def test_strided_and_shared_storages_are_read(tmp_path):
    """A transposed view and an offset into a storage, as PyTorch saves them."""
    torch_files.write(tmp_path / "x.pt", {"g": {"w": np.arange(6, dtype=np.float32)}})
    base = torch_files.read(tmp_path / "x.pt")["g"]["w"]
    turned = base._replace(shape=(3, 2), strides=(1, 3))
    np.testing.assert_array_equal(turned.read(), np.arange(6).reshape(2, 3).T)
    np.testing.assert_array_equal(base._replace(offset=4, shape=(2,)).read(), [4, 5])


def test_pytorch_reads_what_is_written(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    torch_files.write(tmp_path / "x.pth.tar", GROUPS)
    found = torch.load(tmp_path / "x.pth.tar", weights_only=True)
    np.testing.assert_array_equal(found["encoder"]["a.weight"].numpy(), GROUPS["encoder"]["a.weight"])
    torch.save({"w": torch.arange(6.0).reshape(2, 3).T, "epoch": 3}, tmp_path / "y.pt")
    mine = torch_files.read(tmp_path / "y.pt")
    assert mine["epoch"] == 3
    np.testing.assert_array_equal(mine["w"].read(), np.arange(6.0).reshape(2, 3).T)


def test_nothing_but_tensors_is_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "bad.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(print))
    with pytest.raises(UsageError, match="only tensors, numbers and dicts are read"):
        torch_files.read(tmp_path / "bad.pt")
    (tmp_path / "old.pt").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(UsageError, match="not a zip archive"):
        torch_files.read(tmp_path / "old.pt")
