"""Steering by hand inside M's dream, beside the real game: `repro play world_models`."""

from pathlib import Path

from papers.world_models import measured
from papers.world_models.game import DreamGame
from papers.world_models.pipeline import models
from repro.errors import UsageError
from repro.pipeline.evaluate import read_run
from repro.pipeline.stages import kept


def open_run(folder: Path) -> DreamGame:
    """The world model of the first seed of a run, and its controller if that is finished; `UsageError` if V and M are
    not, or C has no M."""
    _, config, _ = read_run(folder)
    if not config.remembers:
        raise UsageError(f"{folder} has no M to dream in, its C sees z alone; take a run with controller.features=zh")
    seed, trained = config.first_seed, f"controller{measured.labels(config)[0]}"
    names = [f"seed{seed}/vae", f"seed{seed}/rnn"]
    if (folder / "stages" / f"seed{seed}" / trained / "artefact").is_dir():
        names.append(f"seed{seed}/{trained}")
    inputs = kept(folder, names)
    found = models(config, inputs, seed)
    weights = inputs[names[2]].arrays()["controller"] if names[2:] else None
    return DreamGame(config, found["vae"], found["rnn"], weights)
