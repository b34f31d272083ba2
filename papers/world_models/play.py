"""Steering by hand inside M's dream, beside the real game: `repro play world_models`."""

from pathlib import Path

from papers.world_models import measured
from papers.world_models.game import DreamGame
from papers.world_models.pipeline import models
from repro.errors import UsageError
from repro.pipeline.artefacts import is_finished, kept
from repro.pipeline.evaluate import read_run


def open_run(folder: Path) -> DreamGame:
    """The world model of the first seed of a run, and its controller if that is finished; `UsageError` if V and M are
    not, or C has no M."""
    _, config, _ = read_run(folder)
    if not config.remembers:
        raise UsageError(f"{folder} has no M to dream in, its C sees z alone; take a run with controller.features=zh")
    seed = config.first_seed
    found = models(config, kept(folder, [f"seed{seed}/vae", f"seed{seed}/rnn"]), seed)
    name, weights = f"seed{seed}/controller{measured.labels(config)[0]}", None
    if is_finished(folder, name):
        weights = kept(folder, [name])[name].arrays()["controller"]
    return DreamGame(config, found["vae"], found["rnn"], weights)
