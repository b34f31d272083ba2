"""A small I-JEPA and a small set for the tests."""

from dataclasses import replace

import numpy as np

from papers.ijepa.config import DataConfig, MaskConfig, ModelConfig, OptimConfig, cpu

MODEL = ModelConfig(4, 8, 4, 2, 16, predictor_width=8, predictor_depth=1)


def config(**of):
    """8 x 8 patches, batches of 8."""
    base = replace(
        cpu("cifar10_linear", "cifar10"),
        model=MODEL,
        mask=MaskConfig(min_keep=4, group=4, widths=(49,)),  # the longest there can be, one branch
        optim=OptimConfig(batch=8, epochs=2, warmup_epochs=0.5, lr=3e-3),
        data=DataConfig("cifar10", size=32, crop_scale=(0.5, 1.0)),
        seeds=2,
    )
    return replace(base, **of)


def write_set(folder, train=48, test=24):
    """`cifar10.npz` in the layout of decoded sets: ten classes that differ in colour."""
    random, arrays = np.random.default_rng(0), {}
    for split, count in (("train", train), ("test", test)):
        labels = np.arange(count) % 10
        images = 25 * labels[:, None, None, None] + random.integers(0, 20, (count, 32, 32, 3))
        arrays |= {f"{split}_images": images.astype(np.uint8), f"{split}_labels": labels.astype(np.uint8)}
    names = np.array([f"class{i}" for i in range(10)])
    np.savez(folder / "cifar10.npz", **arrays, class_names=names)
