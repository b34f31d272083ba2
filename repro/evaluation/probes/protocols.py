"""The probes of the papers, as data."""

from repro.errors import unknown
from repro.evaluation.probes.finetune import FineTune
from repro.evaluation.probes.linear import Head, LinearProbe

_BOTH: tuple[Head, ...] = ("bn", "plain")
_DECAY = 0.0005

LINEAR: dict[str, LinearProbe] = {
    # I-JEPA, table 1 and appendix A.2: LARS, batches of 16,384, the sweep that the paper states.
    "imagenet": LinearProbe("lars", (0.01, 0.05, 0.001), (_DECAY, 0.0), _BOTH, 16_384, 50, (15, 30, 45)),
    # The rates of the released VISSL file, 0.1 for 256 images times 1 and 0.1. Which of the two lists made the
    # published numbers is not known.
    "imagenet_vissl": LinearProbe("lars", (6.4, 0.64), (_DECAY, 0.0), _BOTH, 16_384, 50, (15, 30, 45)),
    # What the released files of ViT-B/16, L/16 and g/16 inherit.
    "imagenet_sgd": LinearProbe("sgd", (0.01,), (_DECAY,), _BOTH, 256, 28, (8, 16, 24)),
    # Tables 3 to 5: one rate, the best of {last, concat4} x {bn, plain}.
    "cifar100": LinearProbe("sgd", (0.01,), (_DECAY,), _BOTH, 256, 28, (8, 16, 24)),
    "places205": LinearProbe("sgd", (0.01,), (_DECAY,), _BOTH, 256, 14, (4, 8, 12)),
    "inaturalist18": LinearProbe("sgd", (0.01,), (_DECAY,), _BOTH, 256, 84, (24, 48, 72)),
    "clevr_count": LinearProbe("sgd", (0.01,), (_DECAY,), _BOTH, 256, 50, cosine_to=0.01),
    "clevr_dist": LinearProbe("sgd", (0.01,), (_DECAY,), _BOTH, 256, 100, cosine_to=0.01),
    # Ours, for sets of ten thousand images, of which 16,384 at a time would leave few updates. Fixed before any result.
    "small": LinearProbe("sgd", (0.3, 0.1, 0.03, 0.01), (_DECAY, 0.0), _BOTH, 1024, 50, (15, 30, 45)),
}
"""Linear probes by name."""


ONE_PERCENT = {"vit_l16": FineTune(3e-5, 0.05), "vit_h14": FineTune(3e-5, 0.4), "vit_h16_448": FineTune(3e-5, 0.4)}
"""Fine-tuning on 1 % of ImageNet's labels by model (I-JEPA, table 2); augmented by `repro.data.augment.RandAugment`."""


def linear_protocol(name: str) -> LinearProbe:
    """The linear probe of that name; `UsageError` names the nearest one."""
    if name not in LINEAR:
        raise unknown("linear probe", name, LINEAR)
    return LINEAR[name]
