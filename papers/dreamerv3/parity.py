"""DreamerV3 against recorded official numbers: `CASES` has one function for every kind of golden case.

Official arrays have the batch axis first, latents one-hot; imagination is `[N, H, ...]` there and `[H, N, ...]` here.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from papers.dreamerv3 import official, parity_losses, parity_modules
from papers.dreamerv3.algorithm import (
    ActorNoise,
    AgentState,
    DreamerV3,
    Noise,
    cut_context,
)
from papers.dreamerv3.losses import Norms
from papers.dreamerv3.parity_losses import TERMS, official_metrics, official_norms
from papers.dreamerv3.parity_modules import Arrays, f32, keyed, policy_logits, spaces, under
from repro.envs.base import Spaces, TimeStep
from repro.interop.parity import Case, in_one_program
from repro.nn.distributions import Categorical, Forced
from repro.pipeline.algorithm import Transition
from repro.replay.reference import parity_replay


def transition(data: Arrays, obs: Spaces, actions: Spaces, stoch: Any) -> Transition:
    """An official batch `[B, L, ...]` as ours."""
    flags = (data["is_first"], data["is_last"], data["is_terminal"])
    extras = {"deter": data["dyn/deter"], "stoch": stoch}
    return Transition({k: data[k] for k in obs}, data["reward"], *flags, {k: data[k] for k in actions}, extras)


def class_index(one_hot: jax.Array) -> jax.Array:
    """Classes of one-hot latents `[..., S, K]`; -1 for zeros, the state before anything was seen."""
    return jnp.where(one_hot.any(-1), one_hot.argmax(-1), -1).astype(jnp.int32)


def train_step(case: Case) -> Arrays:
    """Whole updates from recorded parameters, optimiser state, batches and samples."""
    config = case.config
    obs, actions = spaces(config["obs_space"]), spaces(config["act_space"])
    settings = official.agent_config(config["agent"], replay_context=config.get("replay_context", 1))
    agent = DreamerV3(settings, obs, actions)
    weights = under(case.weights, "params0/")
    state = agent_state(agent, weights, under(case.inputs, "optstate0/"))
    names = {k: official.our_name(k) for k in weights if k.split("/")[0] in official.MODULES}
    update = jax.jit(agent.update)
    found: Arrays = {}
    for i in range(config["steps"]):
        inputs = under(case.inputs, f"step{i}/")
        data = under(inputs, "data/")
        batch = transition(data, obs, actions, class_index(data["dyn/stoch"]))
        sequences = agent.sequences(batch)
        noise = forced_noise(inputs, actions)
        result = update(state, sequences, noise)
        outputs = step_outputs(agent, agent.bind(state.params), result, sequences, batch)
        outputs |= {f"grad/{k}": result.gradients[ours] for k, ours in names.items()}
        outputs |= {f"grad_norm/{k}": jnp.linalg.norm(result.gradients[o].ravel()) for k, o in names.items()}
        outputs["replay_update/stepid"] = data["stepid"][:, settings.replay_context :]
        found |= {f"step{i}/{k}": v for k, v in outputs.items()}
        state = result.state
    found |= {f"params_final/{k}": state.params[ours] for k, ours in names.items()}
    found |= {f"params_final/{k}": v for k, v in official_norms(state.norms).items()}
    slow = {"slowval/" + k.removeprefix("val/"): ours for k, ours in names.items() if k.startswith("val/")}
    found |= {f"params_final/{k}": state.slow_critic[ours] for k, ours in slow.items()}
    laprop, schedule = state.optimizer[1], state.optimizer[-1]
    return found | {
        "params_final/slowval_count/value": state.updates,
        "optstate_final/opt/step/value": laprop.step,
        "optstate_final/opt/state/1/0": laprop.step,
        "optstate_final/opt/state/2/0": laprop.step,
        "optstate_final/opt/state/3/count": schedule.count,
    }


def agent_state(agent: DreamerV3, weights: Arrays, optimizer: Arrays) -> AgentState:
    """Our state from official parameters and optimiser state."""
    params = official.trained(weights)
    norms = Norms(*(official.norm_state(weights, name) for name in official.NORMS.values()))
    count, (nu, mu) = official.moments(optimizer)
    return AgentState(
        params,
        official.slow_critic(weights),
        official.with_moments(agent.optimizer.init(params), count, nu, mu),
        norms,
        weights["slowval_count/value"],
    )


def forced_noise(inputs: Arrays, actions: Spaces) -> Noise:
    """The recorded samples in place of noise."""
    horizon = inputs["imag_sample_index"].shape[1]
    imagined = {k: jnp.swapaxes(a, 0, 1)[:horizon] for k, a in keyed(inputs, "imag_act", actions).items()}
    return Noise(
        Forced(inputs["post_sample_index"]),
        Forced(jnp.swapaxes(inputs["imag_sample_index"], 0, 1)),
        {k: Forced(a) for k, a in imagined.items()},
    )


def step_outputs(agent: DreamerV3, nets: Any, result: Any, sequences: Any, batch: Transition) -> Arrays:
    """What an update found, under the official names; `nets` are the networks that it started from."""
    losses, rssm = result.losses, agent.config.rssm
    first = lambda x: jnp.swapaxes(x, 0, 1)  # noqa: E731
    split = lambda x: x.reshape(*x.shape[:-1], rssm.stoch, rssm.classes)  # noqa: E731
    posterior, trajectory, terms = losses.posterior, losses.trajectory, losses.terms
    states = zip((trajectory.deter, trajectory.stoch), trajectory.last, strict=True)
    features = tuple(jnp.concatenate([first(x), end[:, None]], 1) for x, end in states)
    size, length = sequences.reward.shape
    last = features[0].shape[0] // size
    context_action = {k: a[:, -1] for k, a in batch.action.items()}
    policy = nets.actor(features)
    metrics = {f"loss/{k}": terms[ours].mean() for k, ours in TERMS.items() if ours in terms}
    metrics |= {f"loss/{k}": terms[f"reconstruction/{k}"].mean() for k in agent.obs_spaces}
    metrics |= official_metrics(result.metrics, agent.action_spaces)
    metrics |= {"opt/updates": result.state.optimizer[1].step, "opt/param_count": agent.networks.count()}
    found = {
        "carry_in/deter": sequences.deter,
        "carry_in/stoch": split(nets.rssm.one_hot(sequences.stoch, f32)),
        "post_deter": posterior.deter,
        "post_logit": posterior.logits,
        "start_deter": features[0][:, 0],
        "start_stoch": split(features[1][:, 0]),
        "imag_deter": features[0][:, 1:],
        "imag_logit": nets.rssm.prior_of(features[0][:, 1:]),
        "imag_rew": first(trajectory.reward),
        "imag_con": first(trajectory.going),
        "imag_value": nets.critic(features).mean(),
        "imag_slowvalue": first(trajectory.slow_value),
        "imag_ret": first(losses.imagined_returns),
        "imag_loss_policy": first(terms["actor"]),
        "imag_loss_value": first(terms["critic"]),
        "repl_boot": losses.imagined_returns[0].reshape(size, last),
        "repl_ret": losses.replay_returns,
        "total_loss": result.metrics["loss"],
        "grad_global_norm": result.metrics["gradient_norm"],
        "replay_update/dyn/deter": posterior.deter,
        "replay_update/dyn/stoch": split(posterior.stoch),
        "carry_out/dyn_deter": posterior.deter[:, -1],
        "carry_out/dyn_stoch": split(posterior.stoch[:, -1]),
    }
    found |= {f"prevact/{k}": a for k, a in sequences.previous_action.items()}
    found |= {f"carry_out/prevact_{k}": a for k, a in context_action.items()}
    for key, dist in policy.items():
        if isinstance(dist, Categorical):
            found[f"imag_policy_logits/{key}"] = policy_logits(nets.actor, features)[key]
        else:
            found |= {f"imag_policy_mean/{key}": dist.mean, f"imag_policy_std/{key}": dist.std}
    found |= {f"loss/{k}": terms[ours] for k, ours in TERMS.items() if ours in terms}
    found |= {f"loss/{k}": first(terms[TERMS[k]]).mean(1).reshape(size, last) for k in ("policy", "value")}
    found |= {f"loss/{k}": terms[f"reconstruction/{k}"] for k in agent.obs_spaces}
    return found | {f"metric/{k}": v for k, v in metrics.items()}


def policy_rollout(case: Case) -> Arrays:
    """Acting with recorded samples and actions."""
    config = case.config
    obs, actions = spaces(config["obs_space"]), spaces(config["act_space"])
    small = parity_losses.small_agent()
    settings = official.agent_config(config)
    settings = settings.__class__(
        **vars(settings)
        | {"reward": small.reward, "continuation": small.continuation, "critic": small.critic}
        | {"decoder": small.decoder}
    )
    agent = DreamerV3(settings, obs, actions)
    shapes = agent.networks.shapes
    params = {k: jnp.zeros(s.shape) for k, s in shapes.items()} | official.trained(under(case.weights, "params/"))
    nets = agent.bind(params)
    carry = agent.initial_carry(config["envs"])
    step = jax.jit(lambda carry, timestep, noise: agent.step(agent.bind(params), carry, timestep, noise)[0::2])
    found: Arrays = {}
    for t in range(config["steps"]):
        inputs = under(case.inputs, f"t{t}/")
        data = under(inputs, "obs/")
        flags = {k: data[k] for k in ("reward", "is_first", "is_last", "is_terminal")}
        timestep = TimeStep({k: data[k] for k in obs}, **flags)
        forced = {k: Forced(a) for k, a in under(inputs, "act/").items()}
        policy, carry = step(carry, timestep, ActorNoise(Forced(inputs["stoch_index"]), forced))
        found |= {f"t{t}/tokens": nets.encoder(timestep.obs, f32), f"t{t}/deter": carry.deter}
        features = agent.features(nets, carry.deter, carry.stoch)
        for key, dist in policy.items():
            if isinstance(dist, Categorical):
                found[f"t{t}/policy_logits"] = policy_logits(nets.actor, features)[key]
            else:
                found |= {f"t{t}/policy_mean": dist.mean, f"t{t}/policy_std": dist.std}
    return found


def replay_context(case: Case) -> Arrays:
    """Cutting the context off a batch; rows that continue an earlier chunk keep the running state."""
    config = case.config
    context = config["replay_context"]
    obs, actions = spaces(config["obs_space"]), spaces(config["act_space"])
    data = under(case.inputs, "data/")
    cut = cut_context(transition(data, obs, actions, data["dyn/stoch"]), context)
    fresh = data["consec"][:, 0] == 0
    flags = {"reward": cut.reward, "is_first": cut.is_first, "is_last": cut.is_last, "is_terminal": cut.is_terminal}
    previous = {f"out_prevact/{k}": a for k, a in cut.previous_action.items()}
    return previous | {
        "out_prevact": next(iter(cut.previous_action.values())),
        "out_deter": jnp.where(fresh[:, None], cut.deter, case.inputs["carry_deter"]),
        "out_stoch": jnp.where(fresh[:, None, None], cut.stoch, case.inputs["carry_stoch"]),
        "out_stepid": data["stepid"][:, context:],
        **{f"out_obs/{k}": v for k, v in (flags | cut.obs).items()},
    }


def replay(case: Case) -> dict[str, np.ndarray]:
    """The replay buffer."""
    return parity_replay(case.config)


CASES = {
    "rssm_core": parity_modules.rssm_core,
    "rssm_observe": parity_modules.rssm_observe,
    "rssm_imagine": parity_modules.rssm_imagine,
    "kl_losses": parity_modules.kl_losses,
    "encoder": parity_modules.encoder,
    "decoder": parity_modules.decoder,
    "heads": parity_modules.heads,
    "twohot": parity_modules.twohot,
    "dists": parity_modules.dists,
    "lambda_return": parity_losses.lambda_returns,
    "imag_loss": parity_losses.imag_loss,
    "repl_loss": parity_losses.repl_loss,
    "normalize": parity_losses.normalize,
    "slow_critic": parity_losses.slow_critic,
    "optimizer": parity_losses.optimizer,
    "initializers": parity_losses.initializers,
    "train_step": train_step,
    "policy_rollout": in_one_program(policy_rollout),
    "replay_context": replay_context,
    "replay": replay,
}
