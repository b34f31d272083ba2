"""DreamerV1 as an agent: sizes, where gradients go, acting, wrong inputs, weights by name."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from papers.dreamerv1 import PAPER, config
from papers.dreamerv1.agent_config import AgentConfig
from papers.dreamerv1.algorithm import DreamerV1
from papers.dreamerv1.losses import behaviour_losses
from repro.cli import main
from repro.envs.base import Space, TimeStep
from repro.errors import UsageError
from repro.pipeline.algorithm import Transition
from repro.replay.sequences import steps_of

COLOR = {"image": Space((64, 64, 3), "uint8")}
SMALL = AgentConfig(deter=8, stoch=3, units=8, imagination_length=4, compute_dtype="float32")
GOLDEN = Path(__file__).parents[2] / "golden" / "dreamerv1"


def small(**changes) -> DreamerV1:
    return DreamerV1(dataclasses.replace(SMALL, **changes), {"x": Space((2,))}, {"action": Space((2,))})


def batch(length: int = 6) -> Transition:
    keys = jax.random.split(jax.random.key(0), 3)
    first = jnp.zeros((3, length), bool).at[:, 0].set(True)
    action = jax.random.uniform(keys[0], (3, length, 2), minval=-1)
    obs, no = {"x": jax.random.normal(keys[1], (3, length, 2))}, jnp.zeros_like(first)
    return Transition(obs, jax.random.normal(keys[2], (3, length)), first, no, no, {"action": action}, {})


@pytest.mark.parametrize(
    ("actions", "rssm", "actor"), [(6, 557_920, 578_412), (1, 556_920, 574_402), (12, 559_120, 583_224)]
)
def test_parameter_counts_are_those_of_the_official_modules(actions, rssm, actor):
    agent = DreamerV1(AgentConfig(predict_discount=True), COLOR, {"action": Space((actions,))})
    found: dict[str, int] = {}
    for name, shape in agent.networks.shapes.items():
        found[name.split("/")[0]] = found.get(name.split("/")[0], 0) + shape.size
    assert found == {
        "encoder": 690_144, "rssm": rssm, "decoder": 3_795_555, "reward": 253_201, "discount": 413_601,
        "critic": 413_601, "actor": actor,
    }  # fmt: skip


def test_all_three_parts_learn_and_starts_leave_out_the_last_state_with_a_discount_head():
    for discount, starts in ((False, 15), (True, 12)):
        agent = small(predict_discount=discount)
        state = agent.init(jax.random.key(0))
        after, metrics, _ = jax.jit(agent.learn)(state, batch(), jax.random.key(1))
        assert all(np.isfinite(v) for v in metrics.values())
        moved = {k.split("/")[0] for k in state.params if not np.array_equal(state.params[k], after.params[k])}
        assert moved == {"encoder", "rssm", "decoder", "reward", "actor", "critic"} | (
            {"discount"} if discount else set()
        )
        assert agent.draw_noise(jax.random.key(0), 3, 5).prior.shape == (4, starts, 3)


def test_below_the_free_nats_the_kl_teaches_nothing():
    loss = lambda agent: lambda p: agent.model_loss(p, p, data, noise)[0]  # noqa: E731
    with_kl, without = small(free_nats=1e6), small(kl_scale=0.0)
    params = with_kl.networks.init(jax.random.key(0))
    noise = with_kl.draw_noise(jax.random.key(1), 3, 5).posterior
    data = steps_of(batch(), "action", ("x",), 1)
    a, b = jax.grad(loss(with_kl))(params), jax.grad(loss(without))(params)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), a, b)


def test_returns_of_a_constant_reward_are_its_value():
    reward, live = jnp.full((15, 2), 1.0), jnp.full((15, 2), 0.99)
    value = jnp.full((15, 2), 100.0)
    found = behaviour_losses(reward, live, value, value[:-1], 0.95)
    np.testing.assert_allclose(found.returns, 100.0, rtol=1e-5)
    np.testing.assert_allclose(found.weight[-1], 0.99**13, rtol=1e-5)


def test_acting_is_random_first_noisy_in_training_and_within_bounds():
    agent = small()
    state = agent.init(jax.random.key(0))
    timestep = TimeStep({"x": jnp.ones((300, 2))}, *[jnp.ones(300, bool)] * 4)

    def act(state, mode):
        return np.asarray(agent.act(state, agent.initial_carry(300), timestep, jax.random.key(1), mode)[0]["action"])

    random = act(state, "train")
    assert abs(random.mean()) < 0.1 and abs(random.std() - 3**-0.5) < 0.05
    # Mean 0 and no deviation: what is left is the noise of exploration.
    sure = {k: jnp.zeros_like(v) if k.startswith("actor/mlp/out") else v for k, v in state.params.items()}
    sure["actor/mlp/out/bias"] = jnp.array([0.0, 0.0, -60.0, -60.0])
    trained = state._replace(params=sure, updates=jnp.int32(1))
    assert abs(act(trained, "train").std() - 0.3) < 0.03 and abs(act(trained, "train")).max() <= 1
    assert abs(act(trained, "eval")).max() < 1e-3


def test_shared_noise_gives_one_vector_to_the_whole_batch():
    noise = small(shared_noise=True).draw_noise(jax.random.key(0), 3, 5)
    assert np.array_equal(noise.posterior[0], noise.posterior[2]) and np.array_equal(
        noise.prior[:, 0], noise.prior[:, 4]
    )
    assert not np.array_equal(noise.posterior[0, 0], noise.posterior[0, 1])


def test_a_run_that_evaluates_once_says_so_and_the_full_one_follows_the_published_curve():
    assert PAPER.presets["cpu"].make("dmc_vision", "walker_walk").protocol().kind == "final"
    full = config.paper("dmc_vision", "walker_walk")
    assert full.protocol().name == "dreamerv1_dmc_vision" and full.loop.updates_per_step == pytest.approx(0.2)


def test_wrong_actions_and_suites_are_explained(capsys):
    with pytest.raises(UsageError, match="for continuous actions, but the task has 4 classes"):
        DreamerV1(SMALL, {"x": Space((2,))}, {"action": Space((), "int32", 4)})
    with pytest.raises(UsageError, match="chooses between classes, but the task has 2 continuous actions"):
        small(policy="onehot")
    assert main(["reproduce", "dreamerv1", "--task", "dmc_vision/walker_walk", "--preset", "discrete"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "is for atari_200m, not dmc_vision" in error and "Traceback" not in error


def test_official_weights_by_name_become_ours(tmp_path, capsys):
    assert main(["import", "dreamerv1", str(GOLDEN / "train_step_continuous.npz"), "--out", str(tmp_path / "new")]) == 0
    capsys.readouterr()
    recorded = np.load(GOLDEN / "train_step_continuous.npz")
    ours = np.load(tmp_path / "new" / "params.npz")
    np.testing.assert_array_equal(ours["params/rssm/cell/recurrent"], recorded["w/dynamics/cell/recurrent_kernel"])
    kernel = recorded["w/decode/h3/kernel"]
    np.testing.assert_array_equal(ours["params/decoder/cnn/convs/1/kernel"], kernel.swapaxes(2, 3))
    assert json.loads((tmp_path / "new" / "meta.json").read_text())["paper"] == "dreamerv1"
    (tmp_path / "list.pkl").write_bytes(__import__("pickle").dumps([np.zeros(3)]))
    assert main(["import", "dreamerv1", str(tmp_path / "list.pkl"), "--out", str(tmp_path / "other")]) == 2
    assert "a list without names is not enough" in capsys.readouterr().err
