"""DreamerV2 as an agent: sizes, what moves when, training end to end on a small environment, wrong inputs."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from papers.dreamerv2 import PAPER, config
from papers.dreamerv2.agent_config import AgentConfig, RSSMConfig
from papers.dreamerv2.algorithm import DreamerV2
from papers.dreamerv2.losses import balanced_kl
from repro.envs.base import Space, TimeStep
from repro.errors import UsageError
from repro.nn.distributions import Categorical, categorical
from repro.pipeline.config import LoopConfig
from repro.pipeline.run import Run
from repro.pipeline.train import train
from repro.registry import Paper
from repro.rl.latent_agent import part
from tests.toys import Config, HostLineWorld

GRAY, ACTIONS = {"image": Space((64, 64, 1), "uint8")}, {"action": Space((), "int32", 18)}
SMALL = AgentConfig(
    rssm=RSSMConfig(deter=8, hidden=8, stoch=3, classes=4),
    units=8,
    layers=2,
    imagination_length=4,
    target_every=3,
    compute_dtype="float32",
)


def counts(agent: DreamerV2) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, shape in agent.networks.shapes.items():
        found[name.split("/")[0]] = found.get(name.split("/")[0], 0) + shape.size
    return found


def test_parameter_counts_are_those_of_the_official_modules():
    assert counts(DreamerV2(config.paper("atari_200m", "pong").agent, GRAY, ACTIONS)) == {
        "encoder": 1_549_776, "rssm": 5_664_848, "decoder": 10_497_553, "reward": 1_131_601, "discount": 1_131_601,
        "actor": 1_138_418, "critic": 1_131_601,
    }  # fmt: skip
    color = {"image": Space((64, 64, 3), "uint8")}
    agent = DreamerV2(config.paper("dmc_vision", "walker_walk").agent, color, {"action": Space((6,))})
    assert counts(agent) == {
        "encoder": 1_551_312, "rssm": 1_247_248, "decoder": 9_886_611, "reward": 971_601, "actor": 976_012,
        "critic": 971_601,
    }  # fmt: skip


@pytest.mark.parametrize("balance", [0.8, 0.3])
def test_balancing_splits_the_gradient_of_the_kl(balance):
    a, b = (jax.random.normal(jax.random.key(k), (2, 3, 4, 5)) for k in (0, 1))
    loss = lambda a, b, w: balanced_kl(categorical(a), categorical(b), w, 0.0)[0]  # noqa: E731
    mixed, plain = (jax.grad(loss, (0, 1))(a, b, w) for w in (balance, 0.5))
    np.testing.assert_allclose(mixed[0], (1 - balance) * plain[0], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(mixed[1], balance * plain[1], rtol=1e-4, atol=1e-7)
    assert not np.any(jax.grad(lambda a: balanced_kl(categorical(a), categorical(b), balance, 99.0)[0])(a))


def test_an_untrained_actor_is_random_and_evaluation_takes_the_mode():
    agent = DreamerV2(SMALL, {"x": Space((2,))}, {"action": Space((), "int32", 4)})
    fresh = agent.init(jax.random.key(0))
    timestep = TimeStep({"x": jnp.ones((400, 2))}, *[jnp.ones(400, bool)] * 4)
    act = lambda state, mode: agent.act(state, agent.initial_carry(400), timestep, jax.random.key(1), mode)[0]  # noqa: E731
    assert (np.bincount(act(fresh, "train")["action"], minlength=4) > 60).all()
    sure = {**fresh.params, "actor/out/bias": jnp.array([0.0, 9.0, 0.0, 0.0])}
    trained = fresh._replace(params=sure, updates=jnp.int32(1))
    assert (np.asarray(act(trained, "train")["action"]) == 1).mean() > 0.95
    assert (np.asarray(act(trained, "eval")["action"]) == 1).all()


def batch(seed: int, length: int = 6) -> Any:
    from repro.pipeline.algorithm import Transition

    keys = jax.random.split(jax.random.key(seed), 3)
    first = jnp.zeros((3, length), bool).at[:, 0].set(True)
    action = jax.random.randint(keys[0], (3, length), 0, 4)
    obs = {"x": jax.random.normal(keys[1], (3, length, 2))}
    no = jnp.zeros_like(first)
    return Transition(obs, jax.random.normal(keys[2], (3, length)), first, no, no, {"action": action}, {})


def test_the_target_critic_is_copied_at_the_first_and_every_third_update_only():
    agent = DreamerV2(SMALL, {"x": Space((2,))}, {"action": Space((), "int32", 4)})
    state, learn, same = agent.init(jax.random.key(0)), jax.jit(agent.learn), []
    for i in range(4):
        state, metrics, _ = learn(state, batch(i), jax.random.key(i))
        assert all(np.isfinite(v) for v in metrics.values())
        critic = part(state.params, "critic")
        same.append(all(np.array_equal(critic[k], state.target_critic[k]) for k in critic))
    assert same == [True, False, False, True]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_behaviour_gives_no_gradient_to_the_world_model(share):
    settings = dataclasses.replace(SMALL, dynamics_share=config.Schedule(share, share))
    agent = DreamerV2(settings, {"x": Space((2,))}, {"action": Space((), "int32", 4)})
    state = agent.init(jax.random.key(0))
    before, after = state.params, agent.learn(state, batch(0), jax.random.key(0))[0].params
    moved = {k.split("/")[0] for k in before if not np.array_equal(before[k], after[k])}
    assert moved == {"encoder", "rssm", "decoder", "reward", "discount", "actor", "critic"}
    frozen = dataclasses.replace(settings, model=config.OptimizerConfig(0.0, decay=0.0))
    agent = DreamerV2(frozen, {"x": Space((2,))}, {"action": Space((), "int32", 4)})
    after = agent.learn(state, batch(0), jax.random.key(0))[0].params
    moved = {k.split("/")[0] for k in before if not np.array_equal(before[k], after[k])}
    assert moved == {"actor", "critic"}


def test_trains_on_whole_episodes_after_the_prefill_and_is_evaluated_apart(monkeypatch: Any, tmp_path: Path):
    loop = LoopConfig(
        steps=120, envs=2, train_ratio=2, batch_size=2, batch_length=4, replay_context=1, sampling="within",
        prefill=40, pretrain=3, evaluate_every=40, evaluate_from=40, log_seconds=1e9, checkpoint_minutes=1e9,
    )  # fmt: skip
    monkeypatch.setenv("REPRO_CACHE", str(tmp_path))
    paper = Paper("line", "Line", "", {}, ("line", "line"), {}, reproduce="")
    run = Run(paper, Config(loop), Config(loop), "repro reproduce line", tmp_path, quiet=True)
    env, evaluation = HostLineWorld([0, 1, 10, 11]), HostLineWorld([100, 110])
    agent = DreamerV2(SMALL, env.obs_spaces, env.action_spaces)
    trained = train(run, agent, env, loop, step_scale=2, evaluation=evaluation)
    # 3 at once after 40 agent steps, then 2 / 8 updates an agent step.
    assert trained.updates == 3 + 80 // 4
    assert [e["step"] for e in trained.evaluations] == [[80, 160, 240]] * 2
    assert all(
        length == 5 + seed % 3
        for e, seed in zip(trained.evaluations, (100, 110), strict=True)
        for length in e["length"]
    )
    assert np.array_equal(trained.agent.updates, [23, 23])


@pytest.mark.parametrize("preset", [*config.VARIANTS, "fast", "cpu"])
def test_every_preset_is_made_and_names_its_reference(preset):
    made = PAPER.presets[preset].make("atari_200m", "boxing")
    assert made.preset == preset and PAPER.reference_for(made).variant == made.variant
    assert made.protocol().name == "dreamerv2_atari_200m" and len(PAPER.suites["atari_200m"]) == 55


def test_wrong_actions_images_and_suites_are_explained():
    vector, classes = {"action": Space((3,))}, {"action": Space((), "int32", 4)}
    with pytest.raises(UsageError, match="chooses between classes, but the task has 3 continuous actions"):
        DreamerV2(SMALL, {"x": Space((2,))}, vector)
    continuous = dataclasses.replace(SMALL, policy="truncated_normal")
    with pytest.raises(UsageError, match="for continuous actions, but the task has 4 classes"):
        DreamerV2(continuous, {"x": Space((2,))}, classes)
    with pytest.raises(UsageError, match="images must be 64x64, not 96x96"):
        DreamerV2(SMALL, {"image": Space((96, 96, 3), "uint8")}, classes)
    with pytest.raises(UsageError, match="one action key"):
        DreamerV2(SMALL, {"x": Space((2,))}, {"a": Space((2,)), "b": Space((2,))})
    with pytest.raises(UsageError, match="for atari_200m"):
        config.ABLATIONS["no_kl_balancing"]("dmc_vision", "walker_walk")


def test_the_ablation_without_discrete_latents_has_gaussian_ones():
    agent = config.ABLATIONS["no_discrete_latents"]("atari_200m", "pong").agent
    small = dataclasses.replace(SMALL, rssm=dataclasses.replace(SMALL.rssm, classes=agent.rssm.classes))
    dreamer = DreamerV2(small, {"x": Space((2,))}, {"action": Space((), "int32", 4)})
    assert not isinstance(dreamer.latent.distribution(jnp.zeros(6)), Categorical)
    _, metrics, _ = dreamer.learn(dreamer.init(jax.random.key(0)), batch(0), jax.random.key(0))
    assert np.isfinite(metrics["loss/model"])
