"""A small agent and a small environment that meet the contracts, for tests of the pipeline."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from repro.envs.base import Space, TimeStep
from repro.pipeline.algorithm import Transition
from repro.pipeline.config import LoopConfig


@dataclasses.dataclass(frozen=True)
class Config:
    """What a run of the toy agent needs."""

    loop: LoopConfig
    seeds: int = 2
    first_seed: int = 0
    suite: str = "line"
    task: str = "line"
    preset: str = "cpu"


class LineWorld:
    """A pure-JAX vector environment: a point on a line, rewarded for moving right; episodes of 5 + (seed % 3) steps."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self.seeds = jnp.asarray(seeds, jnp.int32)
        self.num_envs = len(seeds)
        self.obs_spaces = {"position": Space((2,))}
        self.action_spaces = {"move": Space((), "int32", 3)}

    def _time_step(self, state: dict[str, jax.Array], reward: jax.Array) -> TimeStep:
        position = state["position"].astype(jnp.float32)
        obs = {"position": jnp.stack([position, state["age"].astype(jnp.float32)], -1)}
        last = state["age"] >= 5 + self.seeds % 3
        return TimeStep(obs, reward, state["age"] == 0, last, last & (self.seeds % 2 == 0))

    def init(self) -> tuple[dict[str, jax.Array], TimeStep]:
        state = {"position": self.seeds % 4, "age": jnp.zeros_like(self.seeds)}
        return state, self._time_step(state, jnp.zeros(self.num_envs))

    def step(self, state: dict[str, jax.Array], actions: dict[str, jax.Array]) -> tuple[dict[str, jax.Array], TimeStep]:
        over = state["age"] >= 5 + self.seeds % 3
        position = jnp.where(over, self.seeds % 4, state["position"] + actions["move"] - 1)
        after = {"position": position, "age": jnp.where(over, 0, state["age"] + 1)}
        return after, self._time_step(after, jnp.where(over, 0.0, (actions["move"] - 1).astype(jnp.float32)))


class HostLineWorld:
    """The same, stepped by the host."""

    def __init__(self, seeds: Sequence[int], dies_at: int | None = None) -> None:
        self.env = LineWorld(seeds)
        self.num_envs, self.obs_spaces, self.action_spaces = (
            self.env.num_envs,
            self.env.obs_spaces,
            self.env.action_spaces,
        )
        self.dies_at, self.steps = dies_at, 0

    def _numpy(self, timestep: TimeStep) -> TimeStep:
        self.timestep = jax.tree.map(np.asarray, timestep)
        return self.timestep

    def reset(self) -> TimeStep:
        self._state, timestep = self.env.init()
        return self._numpy(timestep)

    def step(self, actions: Mapping[str, Any]) -> TimeStep:
        self.steps += 1
        if self.steps == self.dies_at:
            raise OSError("emulator gone")
        self._state, timestep = self.env.step(self._state, {k: jnp.asarray(v) for k, v in actions.items()})
        return self._numpy(timestep)

    def state(self) -> dict[str, np.ndarray]:
        return {"reward": self.timestep.reward, **{k: np.asarray(v) for k, v in self._state.items()}}

    def restore(self, state: Mapping[str, np.ndarray]) -> TimeStep:
        self._state = {k: jnp.asarray(v) for k, v in state.items() if k != "reward"}
        return self._numpy(self.env._time_step(self._state, jnp.asarray(state["reward"])))

    def close(self) -> None:
        pass


class LinearAgent:
    """Softmax policy and reward model, both linear, trained by gradient descent; its carry counts steps."""

    def __init__(self, obs_spaces: Mapping[str, Space], action_spaces: Mapping[str, Space], lr: float = 0.05) -> None:
        self.obs_spaces, self.action_spaces, self.lr = obs_spaces, action_spaces, lr

    def init(self, key: jax.Array) -> dict[str, jax.Array]:
        return {"policy": jax.random.normal(key, (2, 3)) * 0.1, "reward": jnp.zeros((5,)), "updates": jnp.int32(0)}

    def initial_carry(self, batch: int) -> jax.Array:
        return jnp.zeros((batch,))

    def act(self, state: Any, carry: jax.Array, timestep: TimeStep, key: jax.Array, mode: str = "train") -> Any:
        carry = jnp.where(timestep.is_first, 0.0, carry + 1)
        move = jax.random.categorical(key, timestep.obs["position"] @ state["policy"])
        return {"move": move.astype(jnp.int32)}, carry, {"age": carry}

    def learn(self, state: Any, batch: Transition, key: jax.Array) -> Any:
        def loss(parameters: dict[str, jax.Array]) -> jax.Array:
            move = jax.nn.one_hot(batch.action["move"], 3)
            inputs = jnp.concatenate([batch.obs["position"] / 10, move], -1)[:, :-1]
            predicted = inputs @ parameters["reward"]
            log_policy = jax.nn.log_softmax(batch.obs["position"][:, :-1] @ parameters["policy"] / 10)
            chosen = (log_policy * move[:, :-1]).sum(-1)
            return jnp.mean((predicted - batch.reward[:, 1:]) ** 2) - jnp.mean(chosen * batch.reward[:, 1:])

        parameters = {k: state[k] for k in ("policy", "reward")}
        value, gradient = jax.value_and_grad(loss)(parameters)
        parameters = jax.tree.map(lambda p, g: p - self.lr * g, parameters, gradient)
        noise = jax.random.normal(key, (2, 3)) * 1e-3
        parameters["policy"] += noise
        after = {**parameters, "updates": state["updates"] + 1}
        return after, {"loss/total": value}, {"age": batch.extras["age"][:, 1:] + 100}
