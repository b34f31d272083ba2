"""Official weights (danijar/dreamer) into ours."""

import re
from pathlib import Path

from papers.dreamerv1.names import NAMES
from repro.errors import UsageError
from repro.interop import weights


def import_checkpoint(file: Path, out: Path) -> str:
    """Converts official weights; `file` is an `.npz` archive or a pickled dict of arrays under the official names
    (`dynamics/cell/kernel`, with or without `w/` in front).

    The official `variables.pkl` is a list without names, in the order of creation: write it out by name first.
    """
    arrays = {re.sub(r"^w/|:0$", "", k): v for k, v in weights.read_named(file).items()}
    arrays = {k: v for k, v in arrays.items() if k.split("/")[0] in MODULES}
    if not any(k.startswith("dynamics/") for k in arrays):
        raise UsageError(f"{file}: no DreamerV1 weights in it (expected names such as dynamics/cell/kernel)")
    return weights.write_converted(out, "dreamerv1", file, {"params": NAMES.ours(arrays)})


MODULES = ("encode", "decode", "dynamics", "reward", "pcont", "value", "actor")
