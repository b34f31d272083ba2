"""DreamerV2 against recorded official numbers: `CASES` has one function for every kind of golden case."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax

from papers.dreamerv2 import parity_modules as modules
from papers.dreamerv2 import parity_training as training
from papers.dreamerv2.agent_config import AgentConfig, OptimizerConfig, Schedule
from papers.dreamerv2.algorithm import AgentState, DreamerV2
from papers.dreamerv2.losses import Imagined
from papers.dreamerv2.names import NAMES
from papers.dreamerv2.parity_modules import agent_config, flat, forced, parameters
from repro.envs.base import Space, TimeStep
from repro.interop.parity import Case, in_one_program
from repro.interop.weights import Arrays, check_shapes, under
from repro.nn.distributions import Forced
from repro.nn.rssm import State
from repro.replay.sequences import Steps
from repro.rl.latent_agent import ActorCarry, UpdateNoise, part

f32 = jnp.float32


class Agent:
    """Our agent with the official weights of a case."""

    def __init__(self, case: Case, obs: Mapping[str, Space], acting: Mapping[str, Any], **overrides: Any):
        c = case.config
        self.discrete, self.actions = acting["dist"] == "onehot", acting["num_actions"]
        spaces = {"action": Space((), "int32", self.actions) if self.discrete else Space((self.actions,))}
        policy = "onehot" if self.discrete else "truncated_normal"
        settings = {k: c[k] for k in ("discount",) if k in c}
        settings |= {"predict_discount": c.get("pred_discount", True), "policy": policy}
        settings |= {"lam": c.get("discount_lambda", 0.95), "imagination_length": c.get("imag_horizon", 15)}
        self.config: AgentConfig = agent_config(c, **settings | overrides)
        self.agent = DreamerV2(self.config, obs, spaces)
        weights = under(case.weights, "weights/")
        target = {k.removeprefix("target_"): v for k, v in weights.items() if k.startswith("target_critic/")}
        self.official = {k: NAMES.our_name(k) for k in weights if not k.startswith("target_critic/")}
        given = NAMES.ours({k: weights[k] for k in self.official})
        check_shapes(given, self.agent.networks.shapes)
        self.params = self.agent.zeros() | given
        self.target = NAMES.ours(target) if target else {k: v for k, v in part(self.params, "critic").items()}

    def actions_of(self, recorded: Any) -> jax.Array:
        """Recorded action vectors as our actions."""
        return jnp.asarray(recorded).argmax(-1) if self.discrete else jnp.asarray(recorded)

    def officially(self, arrays: Mapping[str, Any], name: str = "") -> Arrays:
        """Parameters or gradients under their official names (those of one module group, if given)."""
        ours = part(dict(arrays), name) if name else arrays
        return {k: NAMES.turn(o, ours[o]) for k, o in self.official.items() if o in ours}

    def noise(self, inputs: Mapping[str, Any], posterior: bool = True) -> UpdateNoise:
        """Recorded samples in place of noise."""
        latent = self.agent.latent
        steps = self.config.imagination_length - (self.config.alignment == "may2021")
        action = inputs["action_sample"] if self.discrete else inputs["action_raw"]
        first = forced(inputs["post_sample"], latent) if posterior else Forced(jnp.zeros(()))
        prior = Forced(forced(inputs["stoch_sample"], latent).value[:steps])
        return UpdateNoise(first, prior, Forced(self.actions_of(action)[:steps]))


def norms(gradients: Mapping[str, Any], prefix: str) -> Arrays:
    """Global norm, norms and arrays of gradients."""
    found: Arrays = {f"{prefix}/global_norm": optax.tree.norm(dict(gradients))}
    for name, g in gradients.items():
        found |= {f"{prefix}/norm/{name}": jnp.linalg.norm(g.ravel()), f"{prefix}/array/{name}": g}
    return found


def steps(inputs: Mapping[str, Any], agent: Agent) -> Steps:
    """An official batch `[B, T, ...]`: actions there belong to the observations that they led to."""
    obs = {"image": inputs["image"]}
    action = agent.actions_of(inputs["action"])
    return Steps(obs, action, inputs["reward"], inputs["is_first"], inputs["is_terminal"].astype(f32))


def model_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the world-model loss."""
    kl, scales = config["kl"], config["loss_scales"]
    return {
        "kl_balance": kl["balance"],
        "free_nats": kl["free"],
        "kl_scale": scales["kl"],
        "discount_scale": scales.get("discount", 1.0),
        "reward_transform": config["clip_rewards"],
    }


def world_model(case: Case) -> Arrays:
    """Losses of the world model and their gradients."""
    inputs = under(case.inputs, "inputs/")
    continuous = not case.config["pred_discount"]
    obs = {"image": Space(inputs["image"].shape[2:], "uint8")}
    # The case has no actor; its actions tell what kind of one there was.
    actor = {"dist": "trunc_normal" if continuous else "onehot", "num_actions": inputs["action"].shape[-1]}
    agent = Agent(case, obs, actor, **model_settings(case.config))
    data, model = steps(inputs, agent), part(agent.params, "model")
    noise = forced(inputs["post_sample"], agent.agent.latent)
    run = jax.jit(jax.value_and_grad(agent.agent.model_loss, has_aux=True))
    (loss, (belief, metrics)), gradients = run(model, agent.params, data, noise)
    nets = agent.agent.bind(agent.params)
    latent = nets.rssm.latent
    prior = latent.distribution(nets.rssm.prior_of(belief.deter))
    found = {f"outputs/likes/{k}": v for k, v in agent.agent.likelihoods(nets, belief.state, data).items()}
    found |= {f"outputs/losses/{k}_loss": metrics[f"loss/{k}"] for k in ("kl", "image", "reward")}
    if "loss/discount" in metrics:
        found["outputs/losses/discount_loss"] = metrics["loss/discount"]
    return found | {
        "outputs/model_loss": loss,
        "outputs/kl_value": latent.distribution(belief.raw).kl(prior).sum(-1),
        "outputs/prior_ent": metrics["prior_entropy"],
        "outputs/post_ent": metrics["posterior_entropy"],
        "outputs/embed": nets.encoder(data.obs, f32),
        "outputs/feat": jnp.concatenate(belief.state, -1),
        "outputs/post_logit": parameters(belief.raw, latent)["logit"],
        "outputs/prior_logit": parameters(nets.rssm.prior_of(belief.deter), latent)["logit"],
        "outputs/last_deter": belief.deter[:, -1],
        **norms(agent.officially(gradients), "grads"),
    }


def actor_critic(case: Case) -> Arrays:
    """Imagination, both losses and their gradients, in the alignment of the case."""
    c, inputs = case.config, under(case.inputs, "inputs/")
    share = {"reinforce": 0.0, "dynamics": 1.0}.get(c["actor_grad"], c["actor_grad_mix_at_step"])
    settings = {
        "alignment": "may2021" if c["variant"] == "may2021" else "release",
        "dynamics_share": Schedule(share, share),
    }
    agent = Agent(case, {"x": Space((1,))}, c["actor"], **settings)
    latent = agent.agent.latent
    joined = lambda x: x.reshape(-1, *x.shape[2:])  # noqa: E731
    start = State(joined(flat(inputs["start/stoch"], latent)), joined(inputs["start/deter"]))
    terminal = joined(inputs["is_terminal"]).astype(f32) if "is_terminal" in inputs else jnp.zeros(len(start.deter))
    noise = agent.noise(inputs, posterior=False)
    learned = part(agent.params, "actor") | part(agent.params, "critic")
    entropy = c["actor_ent_at_step"]

    def losses(one: DreamerV2) -> Any:
        run = jax.jit(jax.value_and_grad(one.behaviour_loss, has_aux=True))
        return run(learned, agent.params, agent.target, start, terminal, noise, share, entropy)

    (_, (imagined, behaviour, _, rollout)), gradients = losses(agent.agent)
    nets = agent.agent.bind(agent.params)
    states, width = rollout.states, inputs["action_sample"].shape[-1]
    if settings["alignment"] == "release":
        action = jnp.concatenate([jnp.zeros_like(rollout.actions[:1]), rollout.actions])
        entropies = imagined.entropy[:-1]
    else:
        action = jnp.concatenate([rollout.actions, inputs["action_sample"][-1:]])
        entropies = nets.actor.distribution(nets.actor(states)).entropy()
        entropies = entropies if agent.discrete else entropies.sum(-1)
    logits = parameters(nets.rssm.prior_of(states.deter[1:]), latent)["logit"]
    found = {
        "outputs/feat": jnp.concatenate(states, -1),
        "outputs/action": action.reshape(*action.shape[:2], width),
        "outputs/deter": states.deter,
        "outputs/logit": jnp.concatenate([joined(inputs["start/logit"])[None], logits]),
        "outputs/reward": imagined.reward,
        "outputs/discount": imagined.discount,
        "outputs/weight": behaviour.weight,
        "outputs/target": behaviour.target,
        "outputs/actor_loss": behaviour.actor,
        "outputs/critic_loss": behaviour.critic,
        "outputs/metrics/actor_ent": entropies.mean(),
        "outputs/metrics/actor_ent_scale": entropy,
        "outputs/metrics/actor_grad_mix": share,
        **{f"outputs/metrics/{k}": v for k, v in imagined_metrics(imagined, behaviour.target).items()},
    }
    for name in ("actor", "critic"):
        found |= norms(agent.officially(gradients, name), f"grads/{name}")
    if not agent.discrete:
        exact = DreamerV2(replace(agent.config, sample_gradient="exact"), {"x": Space((1,))}, agent.agent.action_spaces)
        gradients = losses(exact)[1]
        found |= norms(agent.officially(gradients, "actor"), "grads/actor_exact_sample_gradient")
    return found


def imagined_metrics(imagined: Imagined, target: jax.Array) -> Arrays:
    """What the official code logs of imagined trajectories."""
    return {
        "reward_mean": imagined.reward.mean(),
        "reward_std": imagined.reward.std(),
        "critic_slow": imagined.target_value.mean(),
        "critic_target": target.mean(),
        "critic": imagined.value.mean(),
    }


def train_steps(case: Case) -> Arrays:
    """Whole updates in a row, each from the state where the one before ended."""
    c = case.config
    share = 0.0 if c["actor_grad"] == "reinforce" else 1.0
    optimizers = {
        name: OptimizerConfig(o["lr"], o["eps"], o["clip"], o["weight_decay"])
        for name, o in ((k, c[f"{k}_opt"]) for k in ("model", "actor", "critic"))
    }
    image = case.inputs["inputs/step0/image"]
    agent = Agent(
        case,
        {"image": Space(image.shape[2:], "uint8")},
        c["actor"],
        **model_settings(c) | optimizers,
        alignment="release",
        dynamics_share=Schedule(share, share),
        entropy=Schedule(c["actor_ent"], c["actor_ent"]),
        target_every=c["slow_target_update"],
        replay_context=0,
    )
    ours = agent.agent
    optimizer_states = {k: o.init(part(agent.params, k)) for k, o in ours.optimizers.items()}
    state = AgentState(agent.params, agent.target, optimizer_states, jnp.zeros((), jnp.int32))
    start = ours.bind(agent.params).rssm.initial(image.shape[:1], f32)
    update = jax.jit(ours.update)
    found: Arrays = {}
    for i in range(c["steps"]):
        inputs = under(case.inputs, f"inputs/step{i}/")
        result = update(state, steps(inputs, agent), agent.noise(inputs), start)
        state, start = result.state, State(*(x[:, -1] for x in result.belief.state))
        m, imagined = result.metrics, result.imagined
        metrics = {f"{k}_loss": m[f"loss/{k}"] for k in ("kl", "image", "reward", "model", "actor", "critic")}
        if "loss/discount" in m:
            metrics["discount_loss"] = m["loss/discount"]
        metrics |= {f"{k}_grad_norm": m[f"gradient_norm/{k}"] for k in ("model", "actor", "critic")}
        metrics |= imagined_metrics(imagined, result.behaviour.target) | {
            "model_kl": m["kl"],
            "prior_ent": m["prior_entropy"],
            "post_ent": m["posterior_entropy"],
            "reward_normed_mean": imagined.reward.mean(),
            "reward_normed_std": imagined.reward.std(),
            "actor_ent": imagined.entropy[:-1].mean(),
            "actor_ent_scale": c["actor_ent"],
        }
        found |= {f"outputs/metrics/step{i}/{k}": v for k, v in metrics.items()}
        after = agent.officially(state.params)
        after |= {f"target_{k}": v for k, v in agent.officially(state.target_critic).items()}
        found |= {f"outputs/after/step{i}/{k}": v for k, v in after.items()}
    return found | {f"outputs/final/{k}": v for k, v in after.items()}


def policy_steps(case: Case) -> Arrays:
    """Acting: latents are sampled always, actions only in training."""
    image = case.inputs["inputs/step0/image"]
    agent = Agent(case, {"image": Space(image.shape[1:], "uint8")}, case.config["actor"])
    ours, nets = agent.agent, agent.agent.bind(agent.params)
    latent, carry = ours.latent, ours.initial_carry(len(image))
    found: Arrays = {}
    for i, mode in enumerate(case.config["modes"]):
        inputs = under({k: v for k, v in case.inputs.items() if not k.endswith("/mode")}, f"inputs/step{i}/")
        # The official driver hands out images that are normalised already.
        flags = {k: inputs["is_first"] for k in ("reward", "is_last", "is_terminal")}
        obs = {"image": (inputs["image"] + 0.5) * 255 if image.dtype != "uint8" else inputs["image"]}
        timestep = TimeStep(obs, is_first=inputs["is_first"], **flags)
        belief, output = ours.look(nets, carry, timestep, forced(inputs["post_sample"], latent))
        if mode == "train":
            action = jnp.asarray(case.inputs[f"outputs/step{i}/action"]).argmax(-1)
        else:
            action = nets.actor.distribution(output).mode()
        carry = ActorCarry(belief.state, action)
        found |= {
            f"outputs/step{i}/action": jax.nn.one_hot(action, agent.actions),
            f"outputs/step{i}/logit": parameters(belief.raw, latent)["logit"],
            f"outputs/step{i}/deter": belief.deter,
            f"outputs/step{i}/actor_logits": output.out,
        }
    return found


CASES = {
    "gru_cell": in_one_program(modules.gru_cell),
    "encoder_cnn": in_one_program(modules.encoder_cnn),
    "decoder_cnn": modules.decoder_cnn,
    "encoder_decoder_multi": in_one_program(modules.encoder_decoder_multi),
    "head": modules.head,
    "dist_onehot": modules.dist_onehot,
    "dist_trunc_normal": modules.dist_trunc_normal,
    "rssm": in_one_program(modules.rssm),
    "lambda_return": training.lambda_return,
    "normalize_action": training.normalize_action,
    "atari_preprocessing": training.atari_preprocessing,
    "preprocess": training.preprocess,
    "replay_chunks": training.replay_chunks,
    "replay_start_index": training.replay_start_index,
    "schedules": training.schedules,
    "slow_target": training.slow_target,
    "stream_norm": training.stream_norm,
    "optimizer": training.optimizer,
    "world_model": in_one_program(world_model),
    "actor_critic": in_one_program(actor_critic),
    "paper_actor_critic": in_one_program(actor_critic),
    "train_steps": train_steps,
    "policy_steps": policy_steps,
}
