"""Pictures of a run: what the masks hide, and the features of the patches."""

from pathlib import Path

import jax
import numpy as np
from PIL import Image

from papers.ijepa import jobs, masks, networks
from papers.ijepa.config import Config
from repro.data import loader
from repro.data.sets import known, open_set
from repro.data.transforms import normalise
from repro.pipeline.artefacts import Artefact

IMAGES, SIDE = 8, 128
TARGETS = ((230, 80, 60), (60, 160, 230), (90, 200, 90), (240, 200, 60))
DIM = 0.25


def write_pictures(config: Config, trained: Artefact, out: Path) -> Path:
    """`out/pictures.png`: a column for each image of the test split (drawn from the seed): the image, its context, its
    targets in colours, and the first three principal components of the patch features over all images shown, as red,
    green and blue."""
    name = config.data.probe or config.data.name
    images = open_set(name, known(name).test, config.data.location or None)
    chosen = np.random.default_rng(config.first_seed).choice(len(images), min(IMAGES, len(images)), replace=False)
    batch = next(loader.in_order(images.subset(chosen), jobs.whole(config, name), len(chosen)))
    pixels = batch["image"]
    params = jobs.target_of(trained, config.optim.epochs, 0)
    features = jax.jit(lambda p, x: networks.encode(p, config.model, config.grid, normalise(x)))(params, pixels)
    drawn = masks.draw(
        config.mask,
        config.grid,
        jax.random.key(config.first_seed),
        masks.sizes(config.mask, config.grid, 0),
        len(pixels),
    )
    rows = [pixels, *_masked(pixels, drawn, config.grid), components(np.asarray(features), config.grid)]
    sheet = np.concatenate([np.concatenate([_scaled(x) for x in row], 1) for row in rows])
    path = out / "pictures.png"
    Image.fromarray(sheet).save(path)
    return path


def components(features: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """The first three principal components of all patches, each stretched to 0..255: `[B, N, D]` -> uint8
    `[B, rows, columns, 3]`."""
    flat = features.reshape(-1, features.shape[-1]).astype(np.float64)
    flat = flat - flat.mean(0)
    _, axes = np.linalg.eigh(flat.T @ flat)
    found = flat @ axes[:, :-4:-1]
    low, high = np.percentile(found, [2, 98], axis=0)
    scaled = np.clip((found - low) / np.maximum(high - low, 1e-12), 0, 1)
    return np.round(255 * scaled).astype(np.uint8).reshape(len(features), *grid, 3)


def _masked(pixels: np.ndarray, drawn: masks.Masks, grid: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Contexts alone, and the images with their targets coloured."""
    contexts, targets = (DIM * pixels).astype(np.uint8), (DIM * pixels + 0.5 * (1 - DIM) * 255).astype(np.uint8)
    patch = pixels.shape[1] // grid[0]
    for i in range(len(pixels)):
        count = int(drawn.context_count[i])
        for number in np.asarray(drawn.context[i, 0, :count]):
            cell = _cell(int(number), grid, patch)
            contexts[i][cell] = pixels[i][cell]
        for block, colour in zip(np.asarray(drawn.target[i]), TARGETS, strict=False):
            for number in block[: int(drawn.target_count)]:
                cell = _cell(int(number), grid, patch)
                targets[i][cell] = (0.6 * pixels[i][cell] + 0.4 * np.array(colour)).astype(np.uint8)
    return contexts, targets


def _cell(number: int, grid: tuple[int, int], patch: int) -> tuple[slice, slice]:
    row, column = divmod(number, grid[1])
    return slice(row * patch, (row + 1) * patch), slice(column * patch, (column + 1) * patch)


def _scaled(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.NEAREST))
