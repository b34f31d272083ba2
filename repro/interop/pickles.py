"""Pickle files that hold nothing but containers, numbers and NumPy arrays, read without running what they say."""

import io
import pickle
from pathlib import Path
from typing import Any

from repro.errors import UsageError

# What NumPy arrays, scalars and dtypes are rebuilt with, in NumPy 1 and 2 and pickle protocols 2 to 5.
ALLOWED = {
    f"{module}.{name}"
    for core in ("numpy.core", "numpy._core")
    for module, name in [
        (f"{core}.multiarray", "_reconstruct"),
        (f"{core}.multiarray", "scalar"),
        (f"{core}.numeric", "_frombuffer"),
    ]
} | {"numpy.ndarray", "numpy.dtype", "ml_dtypes.bfloat16", "_codecs.encode", "collections.OrderedDict"}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in ALLOWED:
            raise UsageError(f"the pickle wants {module}.{name}; only NumPy arrays are read")
        return super().find_class(module, name)


def read(path: Path) -> Any:
    """Contents of a pickle file; `UsageError` if it is damaged or holds anything but arrays and plain containers."""
    try:
        return _Reader(io.BytesIO(path.read_bytes())).load()
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    except Exception as error:  # noqa: BLE001 - damaged pickles fail in every way there is
        raise UsageError(f"{path}: not a readable pickle ({type(error).__name__}: {error})") from None
