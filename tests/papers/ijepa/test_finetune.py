"""The fine-tuning stage learns what its few images show, and says how well."""

from dataclasses import replace

import jax
import numpy as np

from papers.ijepa import networks
from papers.ijepa.config import ModelConfig, cpu
from papers.ijepa.finetune import Tune
from papers.ijepa.jobs import Split
from repro.data.images import ImageSet, Pixels
from repro.data.transforms import CentreCrop
from repro.evaluation.probes.finetune import FineTune
from repro.nn import vit


def coloured(split: str, count: int, seed: int) -> ImageSet:
    """Noise with much red (class 0) or much blue (class 1)."""
    random = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int32) % 2
    pixels = random.integers(0, 60, (count, 8, 8, 3)).astype(np.uint8)
    pixels[labels == 0, ..., 0] += 150
    pixels[labels == 1, ..., 2] += 150
    return ImageSet("coloured", split, labels, ("red", "blue"), Pixels(pixels, split))


def test_a_few_labels_are_enough_for_what_is_plain_to_see(tmp_path):
    config = cpu("cifar10_linear", "cifar10")
    model = ModelConfig(4, 8, 1, 2, 16, predictor_width=8, predictor_depth=1)
    config = replace(
        config, model=model, data=replace(config.data, size=8), mask=replace(config.mask, strategy="raster")
    )
    encoder = vit.init(jax.random.key(0), networks.encoder_shapes(model), std=0.2)
    test = Split(coloured("test", 20, 1), CentreCrop(8, 8), 1)
    protocol = FineTune(2e-2, 0.05, batch=16, epochs=15)
    job = Tune(config, protocol, encoder, coloured("train", 32, 0), test, "seed0/accuracy")
    assert job.total == 30
    losses = [float(job.step(index)["loss"]) for index in range(job.total)]
    job.write(tmp_path)
    job.close()
    with np.load(tmp_path / "arrays.npz") as found:
        accuracy = float(found["seed0/accuracy"])
    assert losses[-1] < losses[0] and accuracy >= 80
    moved = np.abs(job.state.params["blocks/qkv/kernel"] - encoder["blocks/qkv/kernel"]).max()
    assert 0 < moved < np.abs(job.state.params["head/kernel"]).max()
