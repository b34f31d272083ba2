"""Where things lie. `REPRO_RESULTS` and `REPRO_CACHE` move the two writable folders."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The checkout (the folder that holds `repro/`, `papers/` and `results/`)."""


def results() -> Path:
    """Published tables and run records: `results/` of the checkout unless `REPRO_RESULTS` says otherwise."""
    return Path(os.environ.get("REPRO_RESULTS") or ROOT / "results")


def cache() -> Path:
    """Checkpoints, logs, compiled programs, downloaded data: `.cache/` of the checkout unless `REPRO_CACHE` is set."""
    return Path(os.environ.get("REPRO_CACHE") or ROOT / ".cache")
