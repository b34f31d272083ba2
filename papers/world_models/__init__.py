"""World Models (Ha and Schmidhuber 2018): VAE, MDN-RNN and a small controller, trained one after the other."""

from dataclasses import replace

from papers.world_models import config
from repro.registry import Paper, Preset


def _reference(used: config.Config) -> config.Config:
    """The paper's settings for the same variant of the controller."""
    return replace(config.paper(used.suite, used.task), controller=used.controller)


PAPER = Paper(
    name="world_models",
    title="World Models",
    bibtex="""@inproceedings{ha2018recurrent,
  author    = {Ha, David and Schmidhuber, J{\\"u}rgen},
  title     = {Recurrent World Models Facilitate Policy Evolution},
  booktitle = {Advances in Neural Information Processing Systems},
  volume    = {31},
  year      = {2018},
  eprint    = {1809.01999},
  note      = {Also as World Models, arXiv:1803.10122}
}""",
    suites={config.DOOM: ("take_cover",), config.CAR: ("carracing_v0",)},
    default=(config.DOOM, "take_cover"),
    presets={
        "paper": Preset(config.paper, "64 cores and one P100: 62 h (Take Cover), 47 days (CarRacing)"),
        "fast": Preset(config.fast, "one GPU and 16 cores: estimated at under an hour"),
        "cpu": Preset(config.cpu, "2 CPU cores, about an hour and a half a seed"),
    },
    reference=_reference,
    neutral=("stages",),
    method="world_models_tau1.15",
    reproduce="papers.world_models.pipeline:reproduce",
    evaluate="papers.world_models.pipeline:evaluate",
    play="papers.world_models.play:open_run",
    bench="papers.world_models.bench:measure",
    parity="papers.world_models.parity:CASES",
    importer="papers.world_models.official:import_weights",
)
