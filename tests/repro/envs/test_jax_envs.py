"""Pure-JAX environments: rules, equality with the plain package, restarts, seeds, the host adapter."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repro.envs import EnvSettings, as_host, make, tasks
from repro.envs import settings as sets
from repro.envs.base import Space, TimeStep
from repro.errors import UsageError

gymnax = pytest.importorskip("gymnax")


def roll(env, actions: np.ndarray) -> TimeStep:
    """All time steps of one `lax.scan`, leaves `[T + 1, N, ...]`."""

    @jax.jit
    def play(actions: jax.Array) -> tuple[TimeStep, TimeStep]:
        state, first = env.init()
        return first, jax.lax.scan(lambda s, a: env.step(s, {"action": a}), state, actions)[1]

    return jax.tree.map(lambda x, y: np.concatenate([np.asarray(x)[None], y]), *play(actions))


def actions_for(env, steps: int) -> np.ndarray:
    space, rng = env.action_spaces["action"], np.random.default_rng(0)
    if space.discrete:
        return rng.integers(0, space.classes, (steps, env.num_envs)).astype(np.int32)
    return rng.uniform(-1.5, 1.5, (steps, env.num_envs, *space.shape)).astype(np.float32)


def test_catch_follows_its_rules() -> None:
    env = make("catch", "catch", list(range(6)), replace(sets.catch(), grid=(5, 3), size=(10, 6)))
    actions = actions_for(env, 40)
    steps = roll(env, actions)
    assert steps.obs["image"].shape == (41, 6, 10, 6, 3) and steps.obs["vector"].shape == (41, 6, 3)
    wins = 0
    for i in range(6):
        for t in range(41):
            if t % 5 == 0:  # four moves, then the step that restarts
                ball, paddle = int(round(steps.obs["vector"][t, i, 1] + 1)), 1
                assert steps.is_first[t, i] and steps.reward[t, i] == 0
            else:
                paddle = int(np.clip(paddle + actions[t - 1, i] - 1, 0, 2))
            row = t % 5
            np.testing.assert_allclose(steps.obs["vector"][t, i], [row / 2 - 1, ball - 1, paddle - 1])
            end = row == 4
            assert steps.is_last[t, i] == steps.is_terminal[t, i] == end
            assert steps.reward[t, i] == (0 if not end else 1 if ball == paddle else -1)
            wins += end and ball == paddle
            image = np.zeros((5, 3, 3), np.uint8)
            image[4, paddle, 1], image[row, ball] = 127, 255
            np.testing.assert_array_equal(steps.obs["image"][t, i], image.repeat(2, 0).repeat(2, 1))
    assert 0 < wins < 48


def test_catch_settings() -> None:
    gray = make("catch", "catch", [0], EnvSettings(size=(12, 8), gray=True))
    assert gray.obs_spaces == {"image": Space((12, 8, 1), "uint8")}
    vector = make("catch", "catch", [0], EnvSettings(pixels=False, proprio=True))
    assert vector.obs_spaces == {"vector": Space((3,))}
    cut = roll(make("catch", "catch", [0], replace(sets.catch(), time_limit=2)), np.ones((6, 1), np.int32))
    assert cut.is_last[:, 0].tolist() == [False, False, True, False, False, True, False]
    assert not cut.is_terminal.any()
    hard = replace(sets.catch(), time_limit=2, terminal_on_limit=True)
    terminal = roll(make("catch", "catch", [0], hard), np.ones((2, 1), np.int32))
    assert terminal.is_terminal[:, 0].tolist() == [False, False, True]


@pytest.mark.parametrize("task", ["CartPole-v1", "Pendulum-v1", "MountainCarContinuous-v0", "Breakout-MinAtar"])
def test_every_step_equals_the_plain_package(task: str) -> None:
    seeds = [11, 4]
    env = make("gymnax", task, seeds, EnvSettings(size=(10, 10), proprio=True))
    actions = actions_for(env, 60)
    steps = roll(env, actions)
    plain, params = gymnax.make(task)
    reset_env, step_env = jax.jit(plain.reset_env), jax.jit(plain.step_env)
    ends = 0
    for i, seed in enumerate(seeds):
        key, reset_key = jax.random.split(jax.random.key(seed))
        raw, state = reset_env(reset_key, params)
        done = first = False
        for t in range(61):
            if t > 0:
                key, step_key, reset_key = jax.random.split(key, 3)
                first = done
                if first:
                    raw, state = reset_env(reset_key, params)
                    reward, done = 0.0, False
                else:
                    action = jnp.asarray(actions[t - 1, i])
                    if task.startswith("Pendulum"):
                        action = jnp.clip(action, -1, 1) * 2.0
                    elif "Continuous" in task:
                        action = jnp.clip(action, -1, 1)
                    raw, state, reward, done, _ = step_env(step_key, state, action, params)
                np.testing.assert_allclose(steps.reward[t, i], reward, rtol=1e-6)
                assert steps.is_first[t, i] == first
                assert steps.is_last[t, i] == steps.is_terminal[t, i] == bool(done)
                ends += bool(done)
            np.testing.assert_allclose(steps.obs["vector"][t, i], np.ravel(raw), rtol=1e-5, atol=1e-6)
            if "image" in steps.obs:
                np.testing.assert_array_equal(steps.obs["image"][t, i], np.asarray(raw) * 255)
    assert ends > 0 or task in ("Pendulum-v1", "MountainCarContinuous-v0")


def test_the_step_limit_of_the_package_is_a_truncation() -> None:
    env = make("gymnax", "Pendulum-v1", [0])
    steps = roll(env, np.zeros((202, 1, 1), np.float32))
    assert np.flatnonzero(steps.is_last[:, 0]).tolist() == [200]
    assert np.flatnonzero(steps.is_first[:, 0]).tolist() == [0, 201]
    assert not steps.is_terminal.any()


@pytest.mark.parametrize("suite", ["gymnax", "minatar"])
def test_every_listed_task_can_be_traced_and_fits_its_spaces(suite: str) -> None:
    for task in tasks.tasks(suite):
        env = make(suite, task, [0, 1], replace(sets.default(suite), proprio=True))
        state, first = jax.eval_shape(env.init)
        after, timestep = jax.eval_shape(env.step, state, {"action": actions_for(env, 1)[0]})
        assert jax.tree.all(jax.tree.map(lambda x, y: x == y and x.weak_type == y.weak_type, state, after)), task
        for step in (first, timestep):
            shapes = {k: Space(v.shape[1:], str(v.dtype)) for k, v in step.obs.items()}
            assert shapes == env.obs_spaces
            assert step.reward.shape == (2,) and step.reward.dtype == jnp.float32
        for flag in (first.is_first, first.is_last, first.is_terminal):
            assert flag.dtype == bool


@pytest.mark.parametrize(("suite", "task"), [("catch", "catch"), ("gymnax", "CartPole-v1")])
def test_environment_i_equals_a_single_one_with_its_seed(suite: str, task: str) -> None:
    many, alone = make(suite, task, [3, 1, 4]), make(suite, task, [4])
    actions = actions_for(many, 50)
    a, b = roll(many, actions), roll(alone, actions[:, 2:])
    assert a.is_last.any()
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x[:, 2], y[:, 0], rtol=1e-6)
    assert any(not np.array_equal(x[:, 0], x[:, 1]) for x in jax.tree.leaves(a.obs))


def test_host_adapter_equals_the_scan_and_restores_exactly() -> None:
    env = make("gymnax", "CartPole-v1", [3, 4])
    actions = actions_for(env, 60)
    scanned = roll(env, actions)
    host = as_host(env)
    assert host.num_envs == 2 and host.obs_spaces == env.obs_spaces and host.action_spaces == env.action_spaces
    steps = [host.reset()]
    for t, action in enumerate(actions):
        if t == 30:
            state = host.state()
            other = as_host(make("gymnax", "CartPole-v1", [8, 9]))
            jax.tree.map(np.testing.assert_array_equal, other.restore(state), steps[-1])
        steps.append(host.step({"action": action}))
        if t >= 30:
            jax.tree.map(np.testing.assert_array_equal, other.step({"action": action}), steps[-1])
    assert all(isinstance(v, np.ndarray) for v in jax.tree.leaves((state, steps[-1])))
    stacked = jax.tree.map(lambda *x: np.stack(x), *steps)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), stacked, scanned)
    assert as_host(host) is host
    assert host.info().package_versions["gymnax"]
    host.close()


def test_saved_state_of_a_pure_jax_environment_is_plain_arrays() -> None:
    env = make("catch", "catch", [3])
    state, _ = env.init()
    saved = jax.tree.map(np.asarray, env.save(state))
    action = {"action": jnp.array([2])}
    jax.tree.map(np.testing.assert_array_equal, env.step(env.load(saved), action), env.step(state, action))


@pytest.mark.slow
def test_craftax_runs_and_restarts() -> None:
    pytest.importorskip("craftax")
    env = make("craftax", "classic_pixels", [0, 1], replace(sets.craftax(), time_limit=3))
    steps = jax.jit(lambda a: env.step(a, {"action": jnp.array([0, 5])}))
    state, timestep = jax.jit(env.init)()
    assert timestep.obs["image"].shape == (2, 63, 63, 3) and timestep.obs["image"].std() > 10
    flags = []
    for _ in range(5):
        state, timestep = steps(state)
        flags.append((bool(timestep.is_first[0]), bool(timestep.is_last[0])))
    assert flags == [(False, False), (False, False), (False, True), (True, False), (False, False)]


def test_missing_packages_name_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for suite, task, module in (("gymnax", "CartPole-v1", "gymnax"), ("craftax", "classic_pixels", "craftax")):
        for name in [m for m in sys.modules if m.split(".")[0] == module]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(UsageError, match=rf"needs the package {module}; run: pip install -e \.\[jaxenvs\]"):
            make(suite, task, [0])
