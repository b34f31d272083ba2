"""The restricted pickle reader."""

import pickle

import ml_dtypes
import numpy as np
import pytest

from repro.errors import UsageError
from repro.interop import pickles


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_and_containers_come_back_equal(tmp_path, protocol):
    data = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": [np.float32(1.5), 2, None, "x", (True, b"y")],
        "c": np.ones(3, ml_dtypes.bfloat16),
        "d": np.asfortranarray(np.eye(3)),
    }
    (tmp_path / "f.pkl").write_bytes(pickle.dumps(data, protocol))
    found = pickles.read(tmp_path / "f.pkl")
    for key in "acd":
        np.testing.assert_array_equal(found[key], data[key])
        assert found[key].dtype == data[key].dtype
    assert found["b"] == data["b"]


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def test_code_in_a_pickle_is_refused_and_not_run(tmp_path):
    (tmp_path / "f.pkl").write_bytes(pickle.dumps({"x": Evil(tmp_path / "ran")}))
    with pytest.raises(UsageError, match="only NumPy arrays"):
        pickles.read(tmp_path / "f.pkl")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps(np.ones(100))[:60]])
def test_damaged_files_are_one_clear_line(tmp_path, content):
    (tmp_path / "f.pkl").write_bytes(content)
    with pytest.raises(UsageError, match=r"f\.pkl: not a readable pickle"):
        pickles.read(tmp_path / "f.pkl")
