"""`repro bench ijepa`: updates, features, and the images that feed them, at the configured sizes, random weights and
images; `compiled` names the update for `--target`."""

import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from papers.ijepa import algorithm, jobs
from papers.ijepa.config import Config
from papers.ijepa.program import Program
from repro.data.images import Files, ImageSet
from repro.data.loader import Loader
from repro.pipeline import flops
from repro.pipeline.bench import Part, matmul_rate, repeat
from repro.scale import mesh as meshes

PER_EPOCH = 1250
"""Updates in an epoch: where the schedules stand does not change the time."""
NUMBERS = 8
"""Batches with different masks that updates are timed on in turn."""


def measure(config: Config, seconds: float) -> dict[str, Part]:
    """Updates of all seeds (their FLOPs are those of the compiled program, padding included), features of 16 images,
    and the rate at which random crops of JPEG files of 500 x 375 pixels (below 100 of the images' own size) are
    ready."""
    seeds = list(range(config.first_seed, config.first_seed + config.seeds))
    mesh = meshes.choose(len(seeds), config.run.data_parallel, config.optim.batch)
    program = Program(config, seeds, mesh, jax.default_backend())
    state, update = program.init(), program.compiled(PER_EPOCH)
    side, batch = config.data.size, config.optim.batch
    shape = (len(seeds), batch, side, side, 3)
    images = jax.device_put(np.random.default_rng(0).integers(0, 256, shape, np.uint8), meshes.by_seed_and_batch(mesh))
    moments = [algorithm.moment(config, PER_EPOCH, i) for i in range(NUMBERS)]
    place: dict[str, Any] = {"state": state, "index": 0}

    def one() -> None:
        i = place["index"]
        place["state"], _ = update(place["state"], images, moments[i], jnp.int32(i))
        jax.block_until_ready(place["state"])
        place["index"] = (i + 1) % NUMBERS

    for _ in range(NUMBERS):  # compiles what these batches need
        one()
    figure = repeat(one, seconds)
    work = _work(program, moments)
    dtype = "float32" if config.model.compute_dtype == "float32" else "bfloat16"
    share = work / figure["median"] / matmul_rate(dtype)
    what = f"{len(seeds)} seeds x batch {batch} at {side}, {config.model.compute_dtype}, "
    what += f"{work / 1e9:,.0f} GFLOP at {work / figure['median'] / 1e9:,.0f} GFLOP/s, {share:.0%} of a large product's"
    target = {name: p[0] for name, p in place["state"].target.items()}
    encoder, some = jobs.Encoder(config), np.zeros((16, side, side, 3), np.uint8)
    encode = repeat(lambda: jax.block_until_ready(encoder.features(target, some)), seconds)
    return {
        "update": Part(figure, len(seeds) * batch, "images", what),
        "encode": Part(encode, 16, "images", "features of whole images"),
        "crops": _crops(config, seconds),
    }


def _work(program: Program, moments: list[Any]) -> float:
    """FLOPs of an update, padding included: the mean over the branches that the first updates take."""
    state, images, now, index = program.arguments(PER_EPOCH)
    shapes = jax.eval_shape(program.draw, now, index)
    each = [
        flops.count(
            jax.make_jaxpr(partial(program.step_at, lengths))(state, images, now, shapes), jax.default_backend()
        )
        for lengths in program.branches
    ]
    taken = jax.jit(lambda now, index: program.branch(program.draw(now, index)))
    return float(np.mean([each[int(taken(moment, jnp.int32(i)))] for i, moment in enumerate(moments)]))


def _crops(config: Config, seconds: float) -> Part:
    side = config.data.size
    width, height = (500, 375) if side >= 100 else (side, side)
    with tempfile.TemporaryDirectory() as folder:
        random = np.random.default_rng(0)
        names = [f"{i}.jpg" for i in range(64)]
        for name in names:
            rough = random.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
            Image.fromarray(rough).resize((width, height)).save(f"{folder}/{name}", quality=90)
        images = ImageSet("folder", "train", np.zeros(64, np.int32), ("all",), Files(Path(folder), names))
        loader = Loader(images, jobs.crop(config), 64, 0, config.data.workers, ahead=0)
        numbers = iter(range(1_000_000))
        figure = repeat(lambda: loader.batch(next(numbers)), seconds)
        loader.close()
    return Part(figure, 64, "images", f"JPEG {width} x {height} decoded and cropped by {config.data.workers} threads")


def compiled(config: Config, devices: list[Any]) -> tuple[Any, list[int], dict[str, tuple[Any, Any]]]:
    """For `repro bench ijepa --target`: the mesh over devices that need not be here, the batch, and the update in the
    branch that most batches take, with the shapes of its arguments."""
    # Fused attention needs cuDNN, which is not here without a GPU.
    config = replace(config, model=replace(config.model, fused_attention=False))
    seeds = list(range(config.first_seed, config.first_seed + config.seeds))
    mesh = meshes.make(1, len(devices), config.optim.batch, devices)
    program = Program(config, seeds, mesh, devices[0].platform).alone()
    (lengths,) = program.branches
    name = f"update with contexts of {lengths.context} and targets of {lengths.target} patches"
    return mesh, [config.optim.batch], {name: (program.jitted(), program.arguments(PER_EPOCH))}
