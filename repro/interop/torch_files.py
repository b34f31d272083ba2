"""Checkpoints of PyTorch read and written without PyTorch: named tensors in nested dicts, nothing else.

A `.pt` / `.pth.tar` file is a zip archive with one pickle, which refers to the tensors' bytes in files beside it.
"""

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from repro.errors import UsageError

STORAGES: dict[str, Any] = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": jnp.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


class Tensor(NamedTuple):
    """A tensor whose bytes are still in the file."""

    file: Path
    entry: str
    dtype: Any
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def read(self) -> np.ndarray:
        """The values."""
        with zipfile.ZipFile(self.file) as archive:
            flat = np.frombuffer(archive.read(self.entry), self.dtype)[self.offset :]
        size = np.dtype(self.dtype).itemsize
        strided = np.lib.stride_tricks.as_strided(flat, self.shape, [size * s for s in self.strides], writeable=False)
        return np.ascontiguousarray(strided)


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes, file: Path, folder: str) -> None:
        super().__init__(io.BytesIO(content))
        self.file, self.folder = file, folder

    def persistent_load(self, saved: Any) -> Any:
        kind, storage, key, _, _ = saved
        if kind != "storage":
            raise UsageError(f"unknown kind of entry {kind!r}")
        return storage, f"{self.folder}/data/{key}"

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda data, *_: data
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        raise UsageError(f"it wants {module}.{name}; only tensors, numbers and dicts are read")

    def _tensor(self, storage: Any, offset: int, shape: Any, strides: Any, *_: Any) -> Tensor:
        dtype, entry = storage
        return Tensor(self.file, entry, dtype, offset, tuple(shape), tuple(strides))


def read(file: Path) -> Any:
    """What was saved; tensors come as `Tensor`, read when asked for. `UsageError` for another kind of file."""
    try:
        with zipfile.ZipFile(file) as archive:
            pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise UsageError("no data.pkl in it")
            content = archive.read(pickles[0])
        return _Unpickler(content, file, pickles[0].rpartition("/")[0]).load()
    except zipfile.BadZipFile:
        raise UsageError(
            f"{file}: not a zip archive as PyTorch has written since version 1.6; load and save it again with PyTorch"
        ) from None
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from None
    except Exception as error:  # noqa: BLE001 - damaged files fail in every way there is
        raise UsageError(f"{file}: cannot be read ({type(error).__name__}: {error})") from None


def write(file: Path, groups: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Saves float32 tensors as `{group: {name: tensor}}`, readable with `torch.load(file, weights_only=True)`."""
    out = bytearray(b"\x80\x02}(")  # protocol 2, a dict, mark
    blobs: list[bytes] = []
    for group, tensors in groups.items():
        out += _text(group) + b"}("
        for name, value in tensors.items():
            array = np.ascontiguousarray(value, np.float32)
            out += _text(name) + _rebuild(array, str(len(blobs)))
            blobs.append(array.tobytes())
        out += b"u"
    out += b"u."
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        archive.writestr("archive/data.pkl", bytes(out))
        archive.writestr("archive/byteorder", "little")
        for number, blob in enumerate(blobs):
            archive.writestr(f"archive/data/{number}", blob)
        archive.writestr("archive/version", "3\n")


def _rebuild(array: np.ndarray, key: str) -> bytes:
    """`torch._utils._rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict())` in opcodes."""
    strides = [s // array.itemsize for s in array.strides]
    storage = b"(" + _text("storage") + b"ctorch\nFloatStorage\n" + _text(key) + _text("cpu") + _number(array.size)
    return b"".join(
        [
            b"ctorch._utils\n_rebuild_tensor_v2\n((",
            storage[1:] + b"tQ",
            _number(0) + _numbers(array.shape) + _numbers(strides) + b"\x89",
            b"ccollections\nOrderedDict\n)R",
            b"tR",
        ]
    )


def _text(text: str) -> bytes:
    data = text.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _number(value: int) -> bytes:
    return pickle.dumps(int(value), 2)[2:-1]


def _numbers(values: Any) -> bytes:
    return b"(" + b"".join(map(_number, values)) + b"t"
