"""The compiled step: masks and update of all seeds, on one device or a mesh; on one CPU the host chooses its branch."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh

from papers.ijepa import algorithm, masks
from papers.ijepa.algorithm import Moment, State
from papers.ijepa.config import Config
from repro.pipeline.seeds import keys, over_seeds
from repro.scale import mesh as meshes

LONG = 10
"""Epochs after which a run counts as long."""


class Program:
    """Initial states and updates of the given seeds; states `[S, ...]`, images uint8 `[S, B, H, W, 3]`."""

    def __init__(self, config: Config, seeds: list[int], mesh: Mesh | None = None, platform: str = "cpu") -> None:
        if len(seeds) > 1 and config.model.fused_attention:
            # JAX's cuDNN attention cannot be vmapped with a mask that is the same for all heads.
            config = replace(config, model=replace(config.model, fused_attention=False))
        self.config, self.seeds, self.mesh = config, seeds, mesh
        how = config.run.seeds_map
        if how == "auto":
            # One seed after the other: on CPUs products of all seeds at once are slower than so many single ones.
            how = "map" if platform == "cpu" and mesh is None else "vmap"
        self._each = partial(over_seeds, how="unroll" if len(seeds) == 1 else how)
        self._host_chooses = platform == "cpu" and mesh is None
        batch = config.optim.batch * len(seeds)
        # Where the host chooses, a branch costs its compilation alone: a long run has that back.
        count = masks.MORE_BRANCHES if self._host_chooses and config.optim.epochs >= LONG else masks.BRANCHES
        self.branches = masks.branches(config.mask, config.grid, batch, self._cost, count)
        if config.model.fused_attention:
            self.branches = tuple(dict.fromkeys(masks.Bounds(*map(_eights, of)) for of in self.branches))
        self.state_sharding = None
        if mesh is not None:
            shapes = self._shapes()
            sharded = config.run.fully_sharded
            self.state_sharding = meshes.parameters(shapes, mesh) if sharded else meshes.by_seed(mesh)

    def _init(self, seeds: jax.Array) -> State:
        return jax.vmap(partial(algorithm.init, self.config))(keys(seeds, "init"))

    def _shapes(self) -> State:
        return jax.eval_shape(self._init, jnp.asarray(self.seeds))

    def init(self) -> State:
        """Fresh states, laid out as the update wants them."""
        # Seeds as an argument: from constants XLA would draw the numbers while it compiles, in minutes.
        return jax.jit(self._init, out_shardings=self.state_sharding)(jnp.asarray(self.seeds))

    def draw(self, now: Moment, index: jax.Array) -> masks.Masks:
        """The masks of an update, `[S, B, ...]`; the same numbers on any number of devices."""
        config = self.config
        each = partial(masks.draw, config.mask, config.grid, size=now.sizes, batch=config.optim.batch)
        drawn = jax.vmap(lambda key: each(key=key))(keys(self.seeds, "learn", index))
        counts = drawn.target_count
        return meshes.split_batch(drawn._replace(target_count=jnp.zeros(counts.shape + (1,))), self.mesh)._replace(
            target_count=counts
        )

    def step(
        self, state: State, images: jax.Array, now: Moment, index: jax.Array
    ) -> tuple[State, dict[str, jax.Array]]:
        """Update number `index` of every seed: states, metrics `[S]`. To be jitted, with the state donated."""
        drawn = self.draw(now, index)
        branches = [partial(self.step_at, lengths, state, images, now, drawn) for lengths in self.branches]
        return lax.switch(self.branch(drawn), branches) if len(branches) > 1 else branches[0]()

    def branch(self, drawn: masks.Masks) -> jax.Array:
        """Number of the cheapest branch that holds the masks of all seeds."""
        context, target = drawn.context_count.max(), drawn.target_count.max()
        return jnp.argmax(jnp.stack([lengths.holds(context, target) for lengths in self.branches]))

    def alone(self) -> "Program":
        """Itself, with the branch that most batches take as its only one."""
        config, batch = self.config, self.config.optim.batch * len(self.seeds)
        self.branches = (masks.usual(self.branches, config.mask, config.grid, batch),)
        return self

    def step_at(
        self, lengths: masks.Bounds, state: State, images: jax.Array, now: Moment, drawn: masks.Masks
    ) -> tuple[State, dict[str, jax.Array]]:
        """The update with masks padded to given lengths, which must hold them."""
        context, target = _fitted(drawn.context, lengths.context), _fitted(drawn.target, lengths.target)
        cut = drawn._replace(context=context, target=target)
        one = lambda state, images, drawn: algorithm.update(state, self.config, images, drawn, now)  # noqa: E731
        return self._each(one)(state, images, cut)

    def _cost(self, lengths: masks.Bounds) -> float:
        """Multiplications by kernels for one image, without what does not depend on the lengths."""
        model, contexts = self.config.model, self.config.mask.contexts
        encoder = model.depth * model.width * (4 * model.width + 2 * model.hidden)
        predictor = self.config.mask.targets * model.predictor_depth * 12 * model.predictor_width**2
        return contexts * (encoder * lengths.context + predictor * sum(lengths))

    def compiled(self, per_epoch: int) -> Any:
        """`step`, compiled: called as `f(state, images, now, index)`; the state is donated."""
        if self._host_chooses and len(self.branches) > 1:
            return self._host_chosen()
        return self.jitted().lower(*self.arguments(per_epoch)).compile()

    def _host_chosen(self) -> Any:
        """`step` with its branch chosen by the host; each branch is a program, compiled when it is first taken."""
        # On CPUs an update inside of a switch takes up to 40 % longer; drawing the masks takes well below 1 ms.
        draw, branch = jax.jit(self.draw), jax.jit(self.branch)
        step_at = jax.jit(self.step_at, static_argnums=0, donate_argnums=1)

        def step(state: State, images: jax.Array, now: Moment, index: jax.Array) -> tuple[State, dict[str, jax.Array]]:
            drawn = draw(now, index)
            return step_at(self.branches[int(branch(drawn))], state, images, now, drawn)

        return step

    def jitted(self) -> Any:
        """`step`, with the layout of its results fixed."""
        by_seed = meshes.by_seed(self.mesh)
        shardings = None if self.mesh is None else (self.state_sharding, by_seed)
        return jax.jit(self.step, donate_argnums=0, out_shardings=shardings)

    def arguments(self, per_epoch: int) -> tuple[Any, ...]:
        """Shapes and layouts of the arguments of `step`."""
        config, shapes = self.config, self._shapes()
        side, count = config.data.size, (len(self.seeds), config.optim.batch)
        split = meshes.by_seed_and_batch(self.mesh)
        if self.mesh is None:
            placed = shapes
        else:
            layout = self.state_sharding
            layouts = layout if isinstance(layout, State) else jax.tree.map(lambda _: layout, shapes)
            placed = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, layouts)
        images = jax.ShapeDtypeStruct((*count, side, side, 3), jnp.uint8, sharding=split)
        now = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), algorithm.moment(config, per_epoch, 0))
        return placed, images, now, jax.ShapeDtypeStruct((), jnp.int32)


def _eights(length: int) -> int:
    """What cuDNN's attention takes: whole rows of 16 bytes."""
    return -(-length // 8) * 8


def _fitted(lists: jax.Array, length: int) -> jax.Array:
    """Lists `[..., n]` cut or filled up to `length`."""
    more = max(0, length - lists.shape[-1])
    return jnp.pad(lists[..., :length], [(0, 0)] * (lists.ndim - 1) + [(0, more)])
