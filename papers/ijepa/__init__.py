"""I-JEPA (Assran et al. 2023): images without labels, predicted in feature space, probed with labels."""

from papers.ijepa import config
from repro.registry import Paper, Preset

PAPER = Paper(
    name="ijepa",
    title="I-JEPA: Self-Supervised Learning from Images with a Joint-Embedding Predictive Architecture",
    bibtex="""@inproceedings{assran2023self,
  author    = {Assran, Mahmoud and Duval, Quentin and Misra, Ishan and Bojanowski, Piotr and Vincent, Pascal and
               Rabbat, Michael and LeCun, Yann and Ballas, Nicolas},
  title     = {Self-Supervised Learning from Images with a Joint-Embedding Predictive Architecture},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year      = {2023},
  eprint    = {2301.08243}
}""",
    suites=config.SUITES,
    default=(config.CIFAR10, "cifar10"),
    presets={
        "paper": Preset(config.paper, "16 A100: under 72 h (ViT-H/14); CIFAR-10: one GPU, hours"),
        "fast": Preset(config.fast, "one GPU, under an hour"),
        "cpu": Preset(config.cpu, "2 CPU cores, about 15 min for three seeds (estimate)"),
    },
    neutral=("run", "data.location", "data.workers", "model.fused_attention", "model.remat", "model.unroll"),
    method="ijepa",
    reproduce="papers.ijepa.pipeline:reproduce",
    evaluate="papers.ijepa.pipeline:evaluate",
    bench="papers.ijepa.bench:measure",
    compiled="papers.ijepa.bench:compiled",
    parity="papers.ijepa.parity:CASES",
    importer="papers.ijepa.official:import_weights",
)
