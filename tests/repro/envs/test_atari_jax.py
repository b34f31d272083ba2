"""Atari stepped inside `jit` equals the host's environment; checkpoints hold no pointer."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repro.envs import as_host, atari_jax, make
from repro.envs import settings as sets
from repro.envs.atari import AtariEnv
from repro.envs.atari_jax import AtariJaxEnv
from repro.envs.settings import EnvSettings

SEEDS = [3, 8]


def actions_for(env: AtariEnv | AtariJaxEnv, steps: int) -> np.ndarray:
    classes = env.action_spaces["action"].classes
    return np.random.default_rng(0).integers(0, classes, (steps, 2)).astype(np.int32)


def roll(env: AtariJaxEnv, actions: np.ndarray) -> tuple:
    """First time step, then those of a `lax.scan`, and the last state."""
    state, first = jax.jit(env.init)()
    state, rest = jax.jit(lambda s, a: jax.lax.scan(lambda s, a: env.step(s, {"action": a}), s, a))(state, actions)
    return state, jax.tree.map(lambda x, y: np.concatenate([x[None], y]), first, rest)


@pytest.mark.parametrize(
    ("game", "settings"),
    [
        ("breakout", sets.dreamerv3_atari100k()),
        ("ms_pacman", replace(sets.dreamerv3_atari(), time_limit=100)),
        ("breakout", replace(sets.dreamerv3_2023_atari(), life_loss="episode", time_limit=150)),
        ("breakout", replace(sets.dreamerv2_atari(), noop_min=0, time_limit=150)),
    ],
)
def test_scan_equals_the_host_environment(game: str, settings: EnvSettings) -> None:
    host, env = AtariEnv(game, SEEDS, settings), AtariJaxEnv(game, SEEDS, settings)
    actions = actions_for(host, 120)
    _, fused = roll(env, actions)
    steps = [host.reset(), *(host.step({"action": a}) for a in actions)]
    expected = jax.tree.map(lambda *x: np.stack(x), *steps)
    assert expected.is_last.any() == fused.is_last.any()
    jax.tree.map(np.testing.assert_array_equal, fused, expected)
    assert jax.tree.map(lambda x: x.dtype, fused) == jax.tree.map(lambda x: x.dtype, expected)


def test_saved_state_holds_no_pointer_and_continues_exactly() -> None:
    settings = replace(sets.dreamerv3_atari(), time_limit=100)
    env = AtariJaxEnv("breakout", SEEDS, settings)
    actions = actions_for(env, 90)
    state, _ = roll(env, actions[:60])
    saved = env.save(state)
    assert sorted(saved) == ["log", "steps"] and int(saved["steps"]) == 60
    again = AtariJaxEnv("breakout", SEEDS, settings)
    resumed = again.load(saved)
    step, step_again = jax.jit(env.step), jax.jit(again.step)
    for action in actions[60:]:
        state, x = step(state, {"action": jnp.asarray(action)})
        resumed, y = step_again(resumed, {"action": jnp.asarray(action)})
        jax.tree.map(np.testing.assert_array_equal, x, y)


def test_a_log_that_is_full_continues_with_new_episodes_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atari_jax, "LOG", 20)
    env = AtariJaxEnv("breakout", SEEDS, sets.dreamerv3_2023_atari100k())
    state, _ = roll(env, actions_for(env, 30))
    with pytest.warns(UserWarning, match="new episodes"):
        resumed = env.load(env.save(state))
    _, timestep = jax.jit(env.step)(resumed, {"action": jnp.zeros(2, jnp.int32)})
    assert timestep.is_first.all() and not timestep.reward.any()


def test_as_a_host_environment_it_saves_and_restores() -> None:
    settings = sets.dreamerv3_2023_atari100k()
    first = as_host(make("atari100k", "pong", SEEDS, settings, prefer_jit=True))
    first.reset()
    timestep = [first.step({"action": np.array([2, 3], np.int32)}) for _ in range(10)][-1]
    state = first.state()
    again = as_host(make("atari100k", "pong", SEEDS, settings, prefer_jit=True))
    jax.tree.map(np.testing.assert_array_equal, again.restore(state), timestep)
    action = {"action": np.array([1, 1], np.int32)}
    jax.tree.map(np.testing.assert_array_equal, again.step(action), first.step(action))


def test_make_falls_back_to_the_host_where_the_handle_cannot_serve() -> None:
    assert isinstance(make("atari100k", "pong", [0], prefer_jit=True), AtariJaxEnv)
    assert isinstance(make("atari100k", "pong", [0]), AtariEnv)
    for settings in (sets.dreamerv2_atari(), sets.iris_atari(), sets.efficientzero_atari()):
        assert isinstance(make("atari100k", "pong", [0], settings, prefer_jit=True), AtariEnv)
