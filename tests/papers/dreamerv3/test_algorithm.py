"""The agent as a whole: contract, gradients, precision, seeds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from papers.dreamerv3.algorithm import critic_params
from repro.envs.base import Space, TimeStep
from tests.papers.dreamerv3.agents import ACTIONS, batch, perturbed, tiny

AGENT = tiny()
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def state():
    return jax.jit(AGENT.init)(KEY)


@pytest.fixture(scope="module")
def learned(state):
    """Three updates: list of (state, metrics, write_back)."""
    learn, found = jax.jit(AGENT.learn), []
    for i in range(3):
        found.append(learn(found[-1][0] if found else state, batch(AGENT, seed=i), jax.random.key(i)))
    return found


def step_of(agent, envs, first):
    obs = {k: jnp.zeros((envs, *s.shape), s.dtype) for k, s in agent.obs_spaces.items()}
    flags = jnp.zeros(envs, bool)
    return TimeStep(obs, jnp.zeros(envs), jnp.full(envs, first), flags, flags)


def test_the_slow_critic_starts_as_a_copy(state):
    for name, value in state.slow_critic.items():
        np.testing.assert_array_equal(value, state.params[name])


def test_the_first_update_leaves_the_parameters_and_later_ones_move_them(state, learned):
    for name, value in state.params.items():
        np.testing.assert_array_equal(value, learned[0][0].params[name])
    moved = [(a != b).any() for a, b in zip(state.params.values(), learned[2][0].params.values(), strict=True)]
    assert sum(moved) > 0.9 * len(moved)
    # Rates 0, lr/1000, 2 lr/1000 times normalised gradients of size about one.
    largest = max(float(abs(a - learned[2][0].params[n]).max()) for n, a in state.params.items())
    assert 4e-8 < largest < 1e-6


def test_updates_are_counted_and_the_slow_critic_follows(learned):
    assert [int(s.updates) for s, _, _ in learned] == [1, 2, 3]
    slow, critic = learned[2][0].slow_critic, critic_params(learned[2][0].params)
    assert any((slow[k] != critic[k]).any() for k in slow)


def test_metrics_are_finite_scalars(learned):
    for _, metrics, _ in learned:
        for name, value in metrics.items():
            assert value.shape == () and np.isfinite(value), name


def test_fresh_reward_and_value_losses_are_those_of_uniform_bins(learned):
    metrics = learned[0][1]
    assert float(metrics["loss/reward"]) == pytest.approx(np.log(255), rel=1e-5)
    assert float(metrics["value"]) == 0.0
    weight = float(metrics["imagined_weight"])
    assert float(metrics["loss/critic"]) <= 2 * np.log(255) and weight < 1


def test_what_is_written_back_fits_what_acting_stores(state, learned):
    carry = AGENT.initial_carry(3)
    _, _, extras = jax.jit(AGENT.act)(state, carry, step_of(AGENT, 3, True), KEY)
    write_back = learned[0][2]
    assert write_back.keys() == extras.keys()
    for name, value in write_back.items():
        assert value.shape == (2, 4, *extras[name].shape[1:]) and value.dtype == extras[name].dtype


def test_acting_gives_valid_actions_and_a_carry_of_the_same_form(state):
    carry, act = AGENT.initial_carry(3), jax.jit(AGENT.act)
    for t in range(3):
        action, after, _ = act(state, carry, step_of(AGENT, 3, t == 0), jax.random.key(t))
        assert {k: (a.shape, a.dtype) for k, a in action.items()} == {
            k: ((3, *s.shape), jnp.dtype(s.dtype)) for k, s in ACTIONS.items()
        }
        assert set(np.asarray(action["button"])) <= set(range(4))
        same = jax.tree.map(lambda a, b: a.shape == b.shape and a.dtype == b.dtype, carry, after)
        assert all(jax.tree.leaves(same))
        carry = after


def test_a_first_step_forgets_the_episode_before(state):
    act = jax.jit(AGENT.act)
    _, used, _ = act(state, AGENT.initial_carry(2), step_of(AGENT, 2, True), KEY)
    fresh, _, _ = act(state, AGENT.initial_carry(2), step_of(AGENT, 2, True), KEY)
    again, _, _ = act(state, used, step_of(AGENT, 2, True), KEY)
    jax.tree.map(np.testing.assert_array_equal, fresh, again)


def test_seeds_side_by_side_equal_seeds_alone(state):
    """One program over two seeds, with other parameters and data each, against one run of the second alone."""
    seeds = jax.random.split(KEY, 2)
    agent = tiny({"speed": Space((2,))}, {"stick": Space((2,))})
    states = jax.jit(jax.vmap(agent.init))(seeds)
    batches = [batch(agent, seed=s) for s in range(2)]
    both = jax.tree.map(lambda *x: jnp.stack(x), *batches)
    together, metrics, _ = jax.jit(jax.vmap(agent.learn))(states, both, seeds)
    second = jax.tree.map(lambda x: x[1], states)
    alone, metrics_alone, _ = jax.jit(agent.learn)(second, batches[1], seeds[1])
    for name, value in metrics_alone.items():
        np.testing.assert_allclose(metrics[name][1], value, rtol=1e-4, atol=1e-5, err_msg=name)
    for name, value in alone.optimizer[1].mu.items():
        np.testing.assert_allclose(together.optimizer[1].mu[name][1], value, rtol=1e-2, atol=2e-3, err_msg=name)


def test_actor_and_critic_train_nothing_else_and_the_replay_critic_trains_the_model():
    """Gradients of single terms, through the whole loss with the other scales at zero."""
    data, noise = AGENT.sequences(batch(AGENT)), AGENT.draw_noise(KEY, 2, 4)
    state = AGENT.init(KEY)
    params = perturbed(state.params)

    def gradients(term):
        def loss(params):
            return AGENT.loss(params, state.slow_critic, state.norms, data, noise)[1].terms[term].mean()

        return jax.grad(loss)(params)

    found = jax.jit(lambda: {t: gradients(t) for t in ("actor", "critic", "replay_critic")})()
    modules = {t: {k.split("/")[0] for k, g in gs.items() if (g != 0).any()} for t, gs in found.items()}
    assert modules["actor"] == {"actor"} and modules["critic"] == {"critic"}
    assert {"critic", "rssm", "encoder"} <= modules["replay_critic"] and "actor" not in modules["replay_critic"]


def test_bfloat16_gives_finite_losses_close_to_float32():
    """The largest relative difference of the world-model losses is stated: 3 per cent."""
    totals = {}
    for dtype in ("float32", "bfloat16"):
        agent = tiny(compute_dtype=dtype)
        state = agent.init(KEY)
        params = perturbed(state.params, size=0.1)
        data, noise = agent.sequences(batch(agent)), agent.draw_noise(KEY, 2, 4)
        loss = jax.jit(lambda p, s, d, n, agent=agent: agent.loss(p, s.slow_critic, s.norms, d, n)[1].metrics)
        totals[dtype] = loss(params, state, data, noise)
    assert all(np.isfinite(v) and v.dtype == jnp.float32 for v in totals["bfloat16"].values())
    for name, value in totals["float32"].items():
        if name.startswith("loss/") and name not in ("loss/actor", "loss/critic", "loss/replay_critic"):
            assert float(totals["bfloat16"][name]) == pytest.approx(float(value), rel=0.03), name


def test_without_context_sequences_start_from_nothing():
    agent = tiny({"speed": Space((2,))}, {"stick": Space((2,))}, replay_context=0)
    data = agent.sequences(batch(agent, length=4))
    assert data.reward.shape == (2, 4) and (data.deter == 0).all() and (data.stoch == -1).all()
    assert data.is_first[:, 0].all()
    np.testing.assert_array_equal(data.previous_action["stick"][:, 1:], batch(agent, length=4).action["stick"][:, :-1])
