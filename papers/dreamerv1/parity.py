"""DreamerV1 against recorded official numbers: `CASES` has one function for every kind of golden case."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from papers.dreamerv1 import parity_modules as modules
from papers.dreamerv1 import parity_training as training
from papers.dreamerv1.agent_config import AgentConfig
from papers.dreamerv1.algorithm import AgentState, DreamerV1, Update
from papers.dreamerv1.names import NAMES
from papers.dreamerv1.parity_modules import parameters, selected
from repro.envs.base import Space, TimeStep
from repro.interop.parity import Case, in_one_program
from repro.interop.weights import Arrays, check_shapes, under
from repro.nn.distributions import Forced
from repro.replay.sequences import Steps
from repro.rl.latent_agent import ActorCarry, UpdateNoise

f32 = jnp.float32
OPTIMIZERS = {"model": "model", "value": "critic", "actor": "actor"}
"""Official name of an optimiser and ours."""


def agent_config(c: Mapping[str, Any]) -> AgentConfig:
    """Our settings from a case's official ones."""
    return AgentConfig(
        deter=c["deter_size"],
        stoch=c["stoch_size"],
        depth=c["cnn_depth"],
        units=c["num_units"],
        predict_discount=c.get("pcont", False),
        discount_scale=c.get("pcont_scale", 10.0),
        reward_transform="tanh" if c["clip_rewards"] == "tanh" else "identity",
        kl_scale=c.get("kl_scale", 1.0),
        free_nats=c.get("free_nats", 3.0),
        discount=c.get("discount", 0.99),
        lam=c.get("disclam", 0.95),
        imagination_length=c.get("horizon", 15),
        policy="onehot" if c["action_dist"] == "onehot" else "tanh_normal",
        initial_std=c["action_init_std"],
        model_lr=c.get("model_lr", 6e-4),
        critic_lr=c.get("value_lr", 8e-5),
        actor_lr=c.get("actor_lr", 8e-5),
        clip=c.get("grad_clip", 100.0),
        compute_dtype="float32",
    )


class Agent:
    """Our agent with the official weights of a case."""

    def __init__(self, case: Case):
        c = case.config
        self.discrete, count = c["action_dist"] == "onehot", c["action_dim"]
        spaces = {"action": Space((), "int32", count) if self.discrete else Space((count,))}
        self.agent = DreamerV1(agent_config(c), {"image": Space((64, 64, 3), "uint8")}, spaces)
        weights = under(case.weights, "w/")
        self.official = {k: NAMES.our_name(k) for k in weights}
        given = NAMES.ours(weights)
        check_shapes(given, self.agent.networks.shapes)
        params = self.agent.zeros() | given
        self.state = AgentState(params, self.agent.new_optimizers(params), jnp.zeros((), jnp.int32))

    def steps(self, image: Any, action: Any, reward: Any, discount: Any) -> Steps:
        """An official batch `[B, T, ...]`, where actions belong to the observations that they led to."""
        never = jnp.zeros(reward.shape, bool)
        return Steps({"image": image}, action.argmax(-1) if self.discrete else action, reward, never, 1 - discount)

    def noise(self, posterior: Any, state: Any, action: Any) -> UpdateNoise:
        """The recorded noise."""
        return UpdateNoise(posterior, state, Forced(action) if self.discrete else action)

    def officially(self, arrays: Mapping[str, Any]) -> Arrays:
        """Parameters or gradients under their official names."""
        return {k: NAMES.turn(o, arrays[o]) for k, o in self.official.items() if o in arrays}


def losses(result: Update) -> Arrays:
    """The official names of what an update logs."""
    m = result.metrics
    found = {"div": m["loss/kl"], "model": m["loss/model"], "value": m["loss/critic"], "actor": m["loss/actor"]}
    found |= {f"likes_{k}": -m[f"loss/{k}"] for k in ("image", "reward")}
    return found


def train_step(case: Case) -> Arrays:
    """One whole update with everything that it computes."""
    c, inputs = case.config, {k: jnp.asarray(v) for k, v in case.inputs.items()}
    agent = Agent(case)
    ours, latent = agent.agent, agent.agent.latent
    action = inputs.get("noise/imagine_action_index", inputs.get("noise/imagine_action"))
    noise = agent.noise(inputs["noise/observe_post"], inputs["noise/imagine_state"], action)
    data = agent.steps(
        inputs["data/image_uint8"], inputs["data/action"], inputs["data/reward_raw"], inputs["data/discount"]
    )
    result = jax.jit(ours.update)(agent.state, data, noise)
    nets, belief = ours.bind(agent.state.params), result.belief
    raw_prior = nets.rssm.prior_of(belief.deter)
    prior, posterior = latent.distribution(raw_prior), latent.distribution(belief.raw)
    imagined = jax.tree.map(lambda x: x[1:], result.rollout.states)
    reward = data.reward
    live = (
        jnp.full(imagined.deter.shape[:-1], c["discount"]) if nets.discount is None else nets.discount(imagined).prob()
    )
    found: Arrays = {
        "data/reward": jnp.tanh(reward) if c["clip_rewards"] == "tanh" else reward,
        "out/embed": nets.encoder(data.obs, f32),
        "out/imag_feat": jnp.concatenate(imagined, -1),
        "out/imag_reward": nets.reward(imagined).mode()[:-1],
        "out/imag_value_all": nets.critic(imagined).mode(),
        "out/imag_pcont": live[:-1],
        "out/returns": result.behaviour.returns,
        "out/weights": result.behaviour.weight,
        "out/kl": posterior.kl(prior).sum(-1),
        **{f"loss/{k}": v for k, v in losses(result).items()},
    }
    if "loss/discount" in result.metrics:
        found["loss/likes_pcont"] = -result.metrics["loss/discount"] * c["pcont_scale"]
    samples = {"post": belief.stoch, "prior": prior.sample(inputs["noise/observe_prior"])}
    for name, raw in (("post", belief.raw), ("prior", raw_prior)):
        found |= {f"out/{name}/{k}": v for k, v in parameters(raw, latent).items()}
        found |= {f"out/{name}/stoch": samples[name], f"out/{name}/deter": belief.deter}
    before, after = agent.officially(agent.state.params), agent.officially(result.state.params)
    for official, name in OPTIMIZERS.items():
        gradients = agent.officially(result.gradients[name])
        found[f"norm/{official}"] = result.metrics[f"gradient_norm/{name}"]
        found |= {f"grad/{official}/{k}": g for k, g in gradients.items()}
        found |= {f"gradnorm/{official}/{k}": jnp.linalg.norm(g.ravel()) for k, g in gradients.items()}
    found |= {f"w_after/{k}": v for k, v in after.items()}
    return found | {f"w_after_absdelta_sum/{k}": jnp.abs(after[k] - before[k]).sum() for k in after}


def train_three_steps(case: Case) -> Arrays:
    """Three updates in a row."""
    agent = Agent(case)
    found: Arrays = {}
    state, update = agent.state, jax.jit(agent.agent.update)
    for i in range(3):
        inputs = under(case.inputs, f"step{i}/")
        noise = agent.noise(*(inputs[f"noise_{k}"] for k in ("observe_post", "imagine_state", "imagine_action")))
        live = jnp.ones(inputs["reward"].shape)
        data = agent.steps(inputs["image_uint8"], inputs["action"], inputs["reward"], live)
        result = update(state, data, noise)
        state = result.state
        values = losses(result)
        found |= {f"step{i}/{k}": values[k] for k in ("likes_image", "likes_reward", "div")}
        found |= {f"step{i}/{k}_loss": values[k] for k in ("model", "value", "actor")}
        found |= {f"step{i}/{k}_norm": result.metrics[f"gradient_norm/{o}"] for k, o in OPTIMIZERS.items()}
    return found | {f"w_after3/{k}": v for k, v in agent.officially(state.params).items()}


def policy_steps(case: Case) -> Arrays:
    """Acting, in training with noise and in evaluation with the mode, along the recorded actions."""
    from papers.dreamerv1 import exploration

    c, agent = case.config, Agent(case)
    ours, nets = agent.agent, agent.agent.bind(agent.state.params)
    found: Arrays = {"step_counter_after": c["steps"] * case.inputs["reset"].shape[1] * c["action_repeat"]}
    for mode in c["modes"]:
        carry = ours.initial_carry(case.inputs["reset"].shape[1])
        for t in range(c["steps"]):
            noise = {k: jnp.asarray(case.inputs[f"{mode}/noise{t}_{i:03}"]) for i, k in enumerate(NOISE[mode])}
            first = jnp.asarray(case.inputs["reset"][t]) != 0
            image = jnp.asarray(case.inputs["image_uint8"][:, t])
            flags = {k: first for k in ("reward", "is_first", "is_last", "is_terminal")}
            belief, policy = ours.look(nets, carry, TimeStep({"image": image}, **flags), noise["posterior"])
            recorded = case.outputs[f"{mode}/action{t}"].reference
            if mode == "train":
                action = policy.sample(noise["actor"][0])
                action = exploration.additive(action, noise["exploration"][0], c["expl_amount"])
            else:
                action = selected(policy, noise["actor"], recorded, c["selection_slack"])
            # The recorded action leads on, so that one other choice among samples does not spoil later steps.
            carry = ActorCarry(belief.state, jnp.asarray(recorded))
            dist = ours.latent.distribution(belief.raw)
            found |= {f"{mode}/action{t}": action, f"{mode}/latent{t}/stoch": belief.stoch}
            found |= {f"{mode}/latent{t}/deter": belief.deter}
            found |= {f"{mode}/latent{t}/mean": dist.mean, f"{mode}/latent{t}/std": dist.std}
    return found


NOISE = {"train": ("prior", "posterior", "actor", "exploration"), "eval": ("prior", "posterior", "actor")}


def initialisers(case: Case) -> Arrays:
    """Shapes, and statistics of fresh weights by the rules of the case (largest deviation over what is allowed)."""
    c = case.config
    official = {k.removeprefix("shape/") for k in case.outputs if k.startswith("shape/")}
    config = AgentConfig(predict_discount=True, compute_dtype="float32")
    agent = DreamerV1(config, {"image": Space((64, 64, 3), "uint8")}, {"action": Space((c["action_dim"],))})
    params = jax.jit(agent.networks.init)(jax.random.key(0))
    found: Arrays = {}
    for name in official:
        ours = NAMES.our_name(name)
        value = np.asarray(NAMES.turn(ours, params[ours]))
        found[f"shape/{name}"] = np.array(value.shape)
        found[f"stat/{name}"] = training.drift(name, value)
    recurrent = np.asarray(params["rssm/cell/recurrent"], np.float64)
    error = np.abs(recurrent @ recurrent.T - np.eye(len(recurrent))).max()
    return found | {"recurrent_kernel_gram_error": error / 1e-5}


CASES = {
    "conv_encoder": in_one_program(modules.conv_encoder),
    "conv_decoder": modules.conv_decoder,
    "gru_cell": in_one_program(modules.gru_cell),
    "rssm": in_one_program(modules.rssm),
    "dense_heads": in_one_program(modules.dense_heads),
    "actor_tanh_normal": modules.actor_tanh_normal,
    "actor_onehot": in_one_program(modules.actor_onehot),
    "kl_free_nats": modules.kl_free_nats,
    "lambda_return": in_one_program(modules.lambda_return),
    "exploration": modules.exploration_noise,
    "optimizer_adam": modules.optimizer_adam,
    "train_step": train_step,
    "train_three_steps": train_three_steps,
    "policy_steps": policy_steps,
    "preprocess": training.preprocess,
    "replay_sampling": training.replay_sampling,
    "episode_layout": training.episode_layout,
    "schedules": training.schedules,
    "initialisers": initialisers,
    "tf1_reference": training.tf1_reference,
}
