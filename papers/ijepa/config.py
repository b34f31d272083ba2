"""Every number of the paper and the presets.

"C" is a released configuration file (facebookresearch/ijepa `configs/`), "P" the paper (arXiv 2301.08243v3). Where they
differ the files made the released models; the table of differences is in this folder's README.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from repro.config import positive
from repro.errors import unknown

IMAGENET, ONE_PERCENT, TRANSFER = "imagenet1k_linear", "imagenet1k_1pct", "linear_transfer"
IMAGENETTE, CIFAR10, SCALING = "imagenette_linear", "cifar10_linear", "ijepa_data_model_scaling"
Pair = tuple[float, ...]


@dataclass(frozen=True)
class ModelConfig:
    """Encoder and predictor (P appendix A.1, C `meta`)."""

    patch: int = 14
    width: int = 1280
    depth: int = 32
    heads: int = 16
    """Of the encoder and of the predictor."""
    hidden: int = 5120
    """Width inside the MLPs: 4 x width, 48/11 x width for the giant model."""
    predictor_width: int = 384
    predictor_depth: int = 12
    compute_dtype: Literal["float32", "bfloat16", "bfloat16_factors"] = "float32"
    """bfloat16: as on accelerators, products are handed on in 16 bits. bfloat16_factors: only the factors of products
    are, for CPUs. Parameters, norms, softmax, losses and the stream between blocks are float32."""
    fused_attention: bool = False
    remat: bool = False
    unroll: int = 1
    """Blocks written out in one body of the loop over depth; 0 for all."""

    def __post_init__(self) -> None:
        positive(self, "patch", "width", "depth", "heads", "hidden", "predictor_width", "predictor_depth")
        for name in ("width", "predictor_width"):
            if getattr(self, name) % 4 or getattr(self, name) % self.heads:
                raise ValueError(f"{name}={getattr(self, name)} must be a multiple of 4 and of heads={self.heads}")


def _model(patch: int, width: int, depth: int, heads: int, predictor_depth: int, hidden: int = 0) -> ModelConfig:
    return ModelConfig(patch, width, depth, heads, hidden or 4 * width, 384, predictor_depth)


MODELS = {
    "vit_tiny16": _model(16, 192, 12, 3, 6),
    "vit_small16": _model(16, 384, 12, 6, 6),
    "vit_base16": _model(16, 768, 12, 12, 6),
    "vit_large16": _model(16, 1024, 24, 16, 12),
    "vit_huge14": _model(14, 1280, 32, 16, 12),
    "vit_huge16": _model(16, 1280, 32, 16, 12),
    "vit_giant16": _model(16, 1408, 40, 16, 16, hidden=6144),
    "vit_tiny4": _model(4, 192, 12, 3, 6),
    "vit_small4": _model(4, 384, 12, 6, 6),
}
"""By size and patch; predictor width 384, depth 6 (B), 12 (L, H), 16 (g) (P appendix A.1)."""


@dataclass(frozen=True)
class MaskConfig:
    """Contexts and targets (P section 3 and table 6; C `mask`)."""

    strategy: Literal["multiblock", "block", "random", "raster"] = "multiblock"
    """multiblock: the paper's. The others are those of table 6: one block and the rest, random patches and the rest,
    three quadrants and the fourth."""
    targets: int = 4
    contexts: int = 1
    target_scale: Pair = (0.15, 0.2)
    """Share of the grid's patches in a target block (all targets of a random strategy)."""
    target_aspect: Pair = (0.75, 1.5)
    context_scale: Pair = (0.85, 1.0)
    min_keep: int = 10
    """A block must hold more patches than this."""
    allow_overlap: bool = False
    group: int = 128
    """Images whose contexts are cut to the smallest count among them: the batch of one GPU in the official code."""
    widths: tuple[int, ...] = ()
    """Lengths that padded contexts can have, ascending. Each is one branch of the compiled step; the smallest that
    holds the batch's longest context is taken, and what exceeds the last one is cut to it. Empty: lengths that suit
    what batches mostly need, and the longest possible."""

    def __post_init__(self) -> None:
        positive(self, "targets", "contexts", "group")
        for name in ("target_scale", "target_aspect", "context_scale"):
            pair = getattr(self, name)
            if len(pair) != 2 or not 0 < pair[0] <= pair[1]:
                raise ValueError(f"{name} must be two numbers above 0, the smaller one first, not {pair}")
        if max(self.target_scale[1], self.context_scale[1]) > 1:
            raise ValueError("target_scale and context_scale are shares of the grid, at most 1")
        if any(a >= b for a, b in zip((0, *self.widths), self.widths, strict=False)):
            raise ValueError(f"widths must be ascending numbers above 0, not {self.widths}")


STRATEGIES = {
    "multiblock": MaskConfig(),
    "block": MaskConfig("block", targets=1, target_scale=(0.6, 0.6)),
    "random": MaskConfig("random", targets=1, target_scale=(0.6, 0.6)),
    "raster": MaskConfig("raster", targets=3),
}
"""The rows of table 6."""


@dataclass(frozen=True)
class OptimConfig:
    """AdamW and its schedules (C `optimization`)."""

    batch: int = 2048
    epochs: int = 300
    warmup_epochs: float = 40.0
    """P: 15."""
    lr_start: float = 2e-4
    """P: 1e-4."""
    lr: float = 1e-3
    lr_end: float = 1e-6
    weight_decay: float = 0.04
    weight_decay_end: float = 0.4
    """Reached on a cosine (P: linearly)."""
    ema: Pair = (0.996, 1.0)
    """Momentum of the target encoder, on a line from the first update to the last."""
    schedule_stretch: float = 1.0
    """Length of the schedules over that of the training (C `ipe_scale`)."""
    clip: float = 0.0
    """Limit of the norm of the gradient; 0 for none."""
    beta1: float = 0.9
    beta2: float = 0.999
    accumulate: int = 1
    """Parts that a batch is worked off in, one after the other."""

    def __post_init__(self) -> None:
        positive(self, "batch", "epochs", "lr", "schedule_stretch", "accumulate")
        if self.batch % self.accumulate:
            raise ValueError(f"batch={self.batch} does not split into accumulate={self.accumulate} parts")
        if len(self.ema) != 2 or not 0 <= self.ema[0] <= self.ema[1] <= 1:
            raise ValueError(f"ema must be two numbers between 0 and 1, the smaller one first, not {self.ema}")


@dataclass(frozen=True)
class DataConfig:
    """What is trained on (C `data`)."""

    name: str = "imagenet1k"
    location: str = ""
    """Folder or file; without it $REPRO_DATA, then what `repro data get` fetched."""
    size: int = 224
    crop_scale: Pair = (0.3, 1.0)
    """Share of the image's area in a random resized crop."""
    flip: bool = False
    workers: int = 2
    """Threads that decode and crop."""
    probe: str = ""
    """Set that is probed (that trained on by default)."""

    def __post_init__(self) -> None:
        positive(self, "size", "workers")
        if len(self.crop_scale) != 2 or not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError(f"crop_scale must be two shares of the area, the smaller one first, not {self.crop_scale}")


@dataclass(frozen=True)
class ProbeConfig:
    """Probes of the frozen target encoder."""

    protocol: str = "imagenet"
    """Name of a linear probe in `repro.evaluation.probes`."""
    epochs: int = 0
    """Of the linear probe; 0 for the protocol's."""
    knn: bool = True
    baselines: bool = True
    """Also probe the pixels and the untrained encoder."""
    snapshots: int = 1
    """Times during training, evenly spaced, at which the encoder is probed."""


@dataclass(frozen=True)
class RunConfig:
    """How it runs; none of it changes a number beyond rounding."""

    seeds_map: Literal["auto", "map", "vmap"] = "auto"
    data_parallel: int = 1
    """Devices that share the batch of each seed."""
    fully_sharded: bool = False
    """Parameters, moments and target are split over those devices too."""
    log_seconds: float = 10.0
    checkpoint_minutes: float = 10.0
    reuse: str = ""
    """Folder of another run whose fitting artefacts are taken instead of being made again."""


@dataclass(frozen=True)
class Config:
    """One run of I-JEPA."""

    suite: str
    task: str
    preset: str
    model: ModelConfig = field(default_factory=ModelConfig)
    mask: MaskConfig = field(default_factory=MaskConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    data: DataConfig = field(default_factory=DataConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    weights: str = ""
    """Folder made by `repro import ijepa`: that encoder is probed instead of one being trained."""
    run: RunConfig = field(default_factory=RunConfig)
    seeds: int = 1
    first_seed: int = 0

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ValueError("seeds must be at least 1")
        if self.data.size % self.model.patch:
            raise ValueError(f"data.size={self.data.size} is not a multiple of model.patch={self.model.patch}")
        if self.mask.group < self.optim.batch and self.optim.batch % self.mask.group:
            raise ValueError(
                f"optim.batch={self.optim.batch} does not split into groups of mask.group={self.mask.group}"
            )
        check_masks(self.mask, self.grid)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        side = self.data.size // self.model.patch
        return side, side

    def with_model(self, name: str) -> "Config":
        """`--set model=vit_small16`: one of `MODELS`, computing as before."""
        if name not in MODELS:
            raise unknown("model", name, MODELS)
        kept = {k: getattr(self.model, k) for k in ("compute_dtype", "fused_attention", "remat", "unroll")}
        return replace(self, model=replace(MODELS[name], **kept))

    def with_strategy(self, name: str) -> "Config":
        """`--set strategy=block`: one of `STRATEGIES`, grouped as before."""
        if name not in STRATEGIES:
            raise unknown("strategy", name, STRATEGIES)
        kept = {k: getattr(self.mask, k) for k in ("min_keep", "group")}
        return replace(self, mask=replace(STRATEGIES[name], **kept))

    def part_of_budget(self, fraction: float) -> "Config":
        """A part of the epochs, at least one; the warm-up shrinks with them."""
        epochs = max(1, round(self.optim.epochs * fraction))
        warmup = self.optim.warmup_epochs * epochs / self.optim.epochs
        return replace(self, optim=replace(self.optim, epochs=epochs, warmup_epochs=warmup))

    def for_platform(self, platform: str) -> "Config":
        """Settings of the computation that suit a platform: on CPUs the factors of products stay as they are."""
        if platform == "cpu" or self.model.compute_dtype != "float32":
            return self
        # On an H200 cuDNN's attention takes 14 % off the update of ViT-L at 196 patches and adds 21 % at 64.
        fused = platform in ("gpu", "cuda") and self.grid[0] * self.grid[1] > 100
        return replace(self, model=replace(self.model, compute_dtype="bfloat16", fused_attention=fused))


def block_size(u: float, scale: Pair, aspect: Pair, grid: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of a block from one uniform number, which settles size and shape together (C
    `masks/multiblock.py`); never as high or as wide as the grid."""
    area = int(grid[0] * grid[1] * (scale[0] + u * (scale[1] - scale[0])))
    ratio = aspect[0] + u * (aspect[1] - aspect[0])
    height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
    return min(height, grid[0] - 1), min(width, grid[1] - 1)


def block_sizes(scale: Pair, aspect: Pair, grid: tuple[int, int]) -> list[tuple[int, int]]:
    """All sizes that a block can have."""
    return sorted({block_size(i / 4096, scale, aspect, grid) for i in range(4097)})


def check_masks(mask: MaskConfig, grid: tuple[int, int]) -> None:
    """`ValueError` for settings under which the official sampler would draw forever or there is nothing to predict."""
    if mask.strategy == "raster":
        if grid[0] % 2 or grid[1] % 2:
            raise ValueError(f"the raster strategy needs an even grid, not {grid[0]} x {grid[1]} patches")
        return
    if mask.strategy != "multiblock":
        return
    kinds = {"target": (mask.target_scale, mask.target_aspect), "context": (mask.context_scale, (1.0, 1.0))}
    for kind, (scale, aspect) in kinds.items():
        h, w = min(block_sizes(scale, aspect, grid), key=lambda size: size[0] * size[1])
        if h * w <= mask.min_keep:
            raise ValueError(
                f"mask.min_keep={mask.min_keep} cannot be satisfied: a {kind} block can be {h} x {w} patches of the "
                f"{grid[0]} x {grid[1]} grid; at most {h * w - 1} can"
            )


SUITES = {
    CIFAR10: ("cifar10",),
    IMAGENETTE: ("imagenette",),
    IMAGENET: ("vit_b16", "vit_l16", "vit_h14", "vit_h16_448"),
    ONE_PERCENT: ("vit_l16", "vit_h14", "vit_h16_448"),
    TRANSFER: ("cifar100", "places205", "inaturalist18"),
    SCALING: ("cifar100", "places205", "inaturalist18"),
}
"""Suites and tasks as in `results/published/ijepa.csv`; those of ImageNet name the model as the task."""


PAPER_MODELS = {
    "vit_b16": ("vit_base16", 600),
    "vit_l16": ("vit_large16", 600),
    "vit_h14": ("vit_huge14", 300),
    "vit_h16_448": ("vit_huge16", 300),
}
"""Model and epochs by published row (P tables 1 and 2)."""


def paper(suite: str, task: str) -> Config:
    """The published protocol: ImageNet-1k as released (ViT-H/14: 72 h on 16 A100, 79.3 %); CIFAR-10 and Imagenette as
    the best public runs of others there (300 epochs, 77.2 %; 200 epochs, 34.0 %).
    """
    if suite == CIFAR10:
        return _cifar10(task)
    if suite == IMAGENETTE:
        model = replace(MODELS["vit_small16"], predictor_depth=12)
        optim = OptimConfig(batch=256, epochs=200, weight_decay_end=0.04)
        return Config(
            suite, task, "paper", model, MaskConfig(group=256), optim, DataConfig("imagenette"), ProbeConfig("small")
        )
    name, epochs = PAPER_MODELS.get(task, ("vit_huge14", 300))
    size = 448 if task.endswith("448") else 224
    # The files of the 448 px and the giant model say 16 images a GPU.
    mask = MaskConfig(group=16 if size == 448 else 128)
    probe = {ONE_PERCENT: "one_percent", TRANSFER: "transfer", SCALING: "transfer"}.get(suite, "imagenet")
    data = DataConfig("imagenet1k", size=size, probe=task if suite in (TRANSFER, SCALING) else "")
    config = Config(
        suite, task, "paper", MODELS[name], mask, OptimConfig(epochs=epochs), data,
        ProbeConfig(probe, knn=False, baselines=False),
    )  # fmt: skip
    if suite == SCALING:
        # 44 epochs of ImageNet-22k, 600 of ImageNet-1k; ViT-H/14's 66 epochs: `--set model=vit_huge14 epochs=66`.
        optim = replace(config.optim, epochs=44, warmup_epochs=3)
        mask = replace(mask, group=16)
        return replace(
            config, model=MODELS["vit_giant16"], mask=mask, optim=optim, data=replace(data, name="imagenet22k")
        )
    return config


def _cifar10(task: str) -> Config:
    """looped-jepa's third recipe, without its RandAugment and with the paper's mask sizes on the 8 x 8 grid."""
    return Config(
        CIFAR10,
        task,
        "paper",
        ModelConfig(4, 384, 5, 8, 1536, predictor_width=128, predictor_depth=4),
        MaskConfig(min_keep=4, group=1),
        OptimConfig(
            batch=256, epochs=300, warmup_epochs=15, lr_start=2e-4, lr=2e-3, weight_decay=0.05, weight_decay_end=0.05,
            ema=(0.996, 0.9999), clip=1.0,
        ),
        DataConfig("cifar10", size=32, crop_scale=(0.5, 1.0)),
        ProbeConfig("small", snapshots=12),
    )  # fmt: skip


def fast(suite: str, task: str) -> Config:
    """One GPU, under an hour: CIFAR-10 as published; ImageNet sets with ViT-S/16, a tenth of the epochs of ViT-B/16."""
    full = paper(suite, task)
    if suite in (CIFAR10, IMAGENETTE):
        return replace(full, preset="fast", probe=replace(full.probe, snapshots=4))
    optim = replace(full.optim, batch=1024, epochs=10, warmup_epochs=1)
    data = replace(full.data, size=224)
    return replace(full, preset="fast", model=MODELS["vit_small16"], optim=optim, data=data)


def cpu(suite: str, task: str) -> Config:
    """Two CPU cores, about 15 minutes for three seeds: one epoch of CIFAR-10 with a small model (0.5M parameters). It
    shows that all works and is no measure of the method; `--set optim.epochs=25` takes hours.
    """
    full = paper(suite, task)
    small = ModelConfig(4, 96, 4, 2, 384, predictor_width=48, predictor_depth=2)
    if suite != CIFAR10:
        small = replace(small, patch=16)
    optim = replace(full.optim, batch=64, epochs=1, warmup_epochs=0.2, lr=1e-3)
    mask = replace(full.mask, group=1, widths=(24,) if suite == CIFAR10 else ())
    probe = replace(full.probe, snapshots=1, epochs=20 if suite == CIFAR10 else 0)
    return replace(full, preset="cpu", model=small, mask=mask, optim=optim, probe=probe, seeds=3)
