"""DreamerV3: learn a world model from replay, and behaviour from its imagination. One seed, pure functions."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from papers.dreamerv3.agent_config import AgentConfig, OptimizerConfig
from papers.dreamerv3.imagination import Trajectory, actor_and_critic, imagine
from papers.dreamerv3.losses import (
    Norms,
    event_sum,
    imagined_losses,
    latent_losses,
    make_norms,
    replay_critic_loss,
    replay_returns,
)
from papers.dreamerv3.networks import Networks, Policy, Posterior, sample_action
from papers.dreamerv3.observations import Features, vectorize
from repro.envs.base import Space, Spaces, TimeStep
from repro.nn.distributions import Forced
from repro.nn.params import Definition, Params, cast
from repro.optim.clipping import clip_by_tensor_norm
from repro.optim.laprop import scale_by_laprop
from repro.optim.schedules import decay, warmup_then
from repro.optim.targets import move_target
from repro.pipeline.algorithm import Transition


class AgentState(NamedTuple):
    """All that training changes."""

    params: Params
    slow_critic: Params
    optimizer: Any
    norms: Norms
    updates: jax.Array


class ActorCarry(NamedTuple):
    """What the actor remembers between steps: its latent state and its last action."""

    deter: jax.Array
    """`[E, D]`."""
    stoch: jax.Array
    """`[E, S]` class indices; -1 before the first step."""
    action: dict[str, jax.Array]


class Sequences(NamedTuple):
    """The trained part of a batch, `[B, T, ...]`, and the state it starts from."""

    deter: jax.Array
    stoch: jax.Array
    """Class indices, `[B, S]`."""
    obs: dict[str, jax.Array]
    previous_action: dict[str, jax.Array]
    reward: jax.Array
    is_first: jax.Array
    is_last: jax.Array
    is_terminal: jax.Array


class Noise(NamedTuple):
    """All randomness of an update, drawn beforehand."""

    posterior: jax.Array | Forced
    """`[B, T, S]`."""
    prior: jax.Array | Forced
    """`[H, N, S]`."""
    action: Mapping[str, jax.Array | Forced]
    """`[H, N, ...]`."""


class ActorNoise(NamedTuple):
    """All randomness of one step of the actors."""

    posterior: jax.Array | Forced
    """`[E, S]`."""
    action: Mapping[str, jax.Array | Forced]
    """`[E, ...]`."""


class Losses(NamedTuple):
    """By-products of the total loss."""

    terms: dict[str, jax.Array]
    """Unscaled losses: `[B, T]`, the last axis shorter for terms that are not defined at all T steps."""
    posterior: Posterior
    trajectory: Trajectory
    imagined_returns: jax.Array
    replay_returns: jax.Array | None
    norms: Norms
    metrics: dict[str, jax.Array]


class Update(NamedTuple):
    """Outcome of one update."""

    state: AgentState
    losses: Losses
    gradients: Params
    metrics: dict[str, jax.Array]


class DreamerV3:
    """The algorithm for given observation and action spaces; see `repro.pipeline.algorithm.Algorithm`."""

    def __init__(self, config: AgentConfig, obs_spaces: Spaces, action_spaces: Spaces):
        self.config = config
        self.obs_spaces = obs_spaces
        self.action_spaces = action_spaces
        self.dtype = jnp.dtype(config.compute_dtype)
        self.networks = Definition(lambda draw: Networks(config, obs_spaces, action_spaces, draw=draw))
        self.optimizer = make_optimizer(config.optimizer)

    def init(self, key: jax.Array) -> AgentState:
        """Fresh parameters; the slow critic is a copy."""
        params = self.networks.init(key)
        norms = Norms(*(norm.init() for norm in make_norms(self.config)))
        slow = {k: jnp.array(p) for k, p in critic_params(params).items()}
        return AgentState(params, slow, self.optimizer.init(params), norms, jnp.zeros((), jnp.int32))

    def initial_carry(self, batch: int) -> ActorCarry:
        """State of `batch` actors before their first step."""
        rssm = self.config.rssm
        action = {k: jnp.zeros((batch, *s.shape), s.dtype) for k, s in self.action_spaces.items()}
        stoch = jnp.full((batch, rssm.stoch), -1, index_dtype(rssm.classes))
        return ActorCarry(jnp.zeros((batch, rssm.deter), self.dtype), stoch, action)

    def act(
        self, state: AgentState, carry: ActorCarry, timestep: TimeStep, key: jax.Array, mode: str = "train"
    ) -> tuple[dict[str, jax.Array], ActorCarry, dict[str, jax.Array]]:
        """One posterior step and a sampled action, in evaluation as in training (Methods)."""
        posterior_key, action_key = jax.random.split(key)
        batch = timestep.is_first.shape
        noise = ActorNoise(
            jax.random.uniform(posterior_key, (*batch, self.config.rssm.stoch)),
            action_noise(action_key, self.action_spaces, batch),
        )
        _, action, carry = self.step(self.bind(state.params), carry, timestep, noise)
        return action, carry, {"deter": carry.deter, "stoch": carry.stoch}

    def step(
        self, nets: Networks, carry: ActorCarry, timestep: TimeStep, noise: ActorNoise
    ) -> tuple[Policy, dict[str, jax.Array], ActorCarry]:
        """What `act` does once its randomness is drawn: policy, action, next carry."""
        deter, stoch, index, _ = nets.rssm.observe_step(
            self.features(nets, carry.deter, carry.stoch),
            nets.encoder(timestep.obs, self.dtype),
            vectorize(carry.action, self.action_spaces, self.dtype),
            timestep.is_first,
            noise.posterior,
        )
        policy = nets.actor((deter, stoch))
        action = sample_action(policy, noise.action, self.action_spaces)
        return policy, action, ActorCarry(deter, index.astype(carry.stoch.dtype), action)

    def learn(
        self, state: AgentState, batch: Transition, key: jax.Array
    ) -> tuple[AgentState, dict[str, jax.Array], dict[str, jax.Array]]:
        """One update from sequences `[B, context + T]`; writes the fresh latents of the T steps back."""
        data = self.sequences(batch)
        result = self.update(state, data, self.draw_noise(key, *data.reward.shape))
        posterior = result.losses.posterior
        stoch = posterior.index.astype(index_dtype(self.config.rssm.classes))
        write_back = {"deter": posterior.deter, "stoch": stoch} if self.config.replay_context else {}
        return result.state, result.metrics, write_back

    def update(self, state: AgentState, data: Sequences, noise: Noise) -> Update:
        """World model, actor and critic from one gradient of one loss, then the slow critic."""
        loss = jax.value_and_grad(self.loss, has_aux=True)
        (total, losses), gradients = loss(state.params, state.slow_critic, state.norms, data, noise)
        updates, optimizer = self.optimizer.update(gradients, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        slow_critic = move_target(
            state.slow_critic,
            critic_params(params),
            self.config.slow_critic_rate,
            state.updates,
            self.config.slow_critic_every,
        )
        metrics = losses.metrics | {
            "loss": total,
            "gradient_norm": optax.tree.norm(gradients),
            "gradient_rms": root_mean_square(gradients),
            "update_rms": root_mean_square(updates),
            "parameter_rms": root_mean_square(params),
        }
        state = AgentState(params, slow_critic, optimizer, losses.norms, state.updates + 1)
        return Update(state, losses, gradients, metrics)

    def loss(
        self, params: Params, slow_critic: Params, norms: Norms, data: Sequences, noise: Noise
    ) -> tuple[jax.Array, Losses]:
        """Sum of all losses (Methods; the numbers of `LossScales`)."""
        config = self.config
        nets, frozen = self.bind(params), self.bind(lax.stop_gradient(params))
        slow = self.bind(params | slow_critic).critic
        terms: dict[str, jax.Array] = {}

        # World model.
        tokens = nets.encoder(data.obs, self.dtype)
        actions = vectorize(data.previous_action, self.action_spaces, self.dtype)
        start = self.features(nets, data.deter, data.stoch)
        posterior = nets.rssm.observe(start, tokens, actions, data.is_first, noise.posterior)
        features = (posterior.deter, posterior.stoch)
        prior = nets.rssm.distribution(nets.rssm.prior_of(posterior.deter))
        latents = latent_losses(nets.rssm.distribution(posterior.logits), prior, config.rssm.free_nats)
        terms |= {"dynamics": latents.dynamics, "representation": latents.representation}
        reward_features = features if config.reward_gradients else lax.stop_gradient(features)
        terms["reward"] = nets.reward(reward_features).loss(data.reward)
        terms["continuation"] = nets.continuation(features).loss(self.continuation_target(data.is_terminal))
        for key, output in nets.decoder(features).items():
            terms[f"reconstruction/{key}"] = reconstruction_loss(output, data.obs[key], self.obs_spaces[key])

        # Behaviour, on trajectories imagined from the last K states of every sequence.
        batch, length = data.reward.shape
        last = min(config.imagine_from_last or length, length)
        starts = jax.tree.map(lambda x: x[:, -last:].reshape(batch * last, -1), features)
        trajectory = imagine(frozen, slow, starts, noise.prior, noise.action, self.action_spaces)
        policy, value = actor_and_critic(nets, trajectory, starts if config.actor_gradients else None)
        behaviour = imagined_losses(
            config,
            self.action_spaces,
            policy,
            trajectory.action,
            trajectory.reward,
            trajectory.going,
            value,
            trajectory.last_value,
            trajectory.slow_value,
            norms,
        )
        terms |= {"actor": behaviour.actor, "critic": behaviour.critic}
        norms = behaviour.norms

        # The critic also learns on the replayed states, from returns that end in imagined ones.
        returns = None
        if config.replay_critic:
            tail = jax.tree.map(lambda x: x[:, -last:], features)
            is_last, terminal, reward = (
                x[:, -last:].astype(jnp.float32) for x in (data.is_last, data.is_terminal, data.reward)
            )
            bootstrap = behaviour.returns[0].reshape(batch, last)
            returns = replay_returns(config, is_last, terminal, reward, bootstrap)
            terms["replay_critic"], value_state = replay_critic_loss(
                config,
                is_last,
                returns,
                nets.critic(tail if config.replay_critic_gradients else lax.stop_gradient(tail)),
                slow(lax.stop_gradient(tail)).mean(),
                norms.values,
            )
            norms = norms._replace(values=value_state)

        scales = vars(config.scales)
        total = sum(scales[name.partition("/")[0]] * term.mean() for name, term in terms.items())
        metrics = behaviour.metrics | {f"loss/{name}": term.mean() for name, term in terms.items()}
        metrics |= {"prior_entropy": latents.prior_entropy, "posterior_entropy": latents.posterior_entropy}
        return total, Losses(terms, posterior, trajectory, behaviour.returns, returns, norms, metrics)

    def sequences(self, batch: Transition) -> Sequences:
        """Cuts off the context: `[B, L, ...]` -> T = L - context trained steps and the latent stored before them."""
        context, rssm = self.config.replay_context, self.config.rssm
        batch = batch._replace(obs={k: batch.obs[k] for k in self.obs_spaces})
        if context:
            return cut_context(batch, context)
        # Without context the first step of a sequence is a reset: neither latent nor previous action matters there.
        size = batch.reward.shape[0]
        deter, stoch = jnp.zeros((size, rssm.deter), self.dtype), jnp.full((size, rssm.stoch), -1, jnp.int32)
        previous = {k: jnp.roll(a, 1, 1) for k, a in batch.action.items()}
        return Sequences(deter, stoch, batch.obs, previous, *batch[1:5])

    def draw_noise(self, key: jax.Array, batch: int, length: int) -> Noise:
        """Randomness of one update on `[batch, length]` steps."""
        keys = jax.random.split(key, 3)
        stoch, horizon = self.config.rssm.stoch, self.config.imagination_length
        starts = (horizon, batch * min(self.config.imagine_from_last or length, length))
        return Noise(
            jax.random.uniform(keys[0], (batch, length, stoch)),
            jax.random.uniform(keys[1], (*starts, stoch)),
            action_noise(keys[2], self.action_spaces, starts),
        )

    def continuation_target(self, is_terminal: jax.Array) -> jax.Array:
        """1 where the episode goes on, times the discount if the continue head is to carry it."""
        discount = 1 - 1 / self.config.horizon if self.config.continuation_discounts else 1.0
        return (1 - is_terminal.astype(jnp.float32)) * discount

    def bind(self, params: Params) -> Networks:
        """The networks computing with `params` in the compute dtype."""
        return self.networks.bind(cast(params, self.dtype))

    def features(self, nets: Networks, deter: jax.Array, index: jax.Array) -> Features:
        """Network inputs of a stored latent."""
        return deter.astype(self.dtype), nets.rssm.one_hot(index, self.dtype)


def cut_context(batch: Transition, context: int) -> Sequences:
    """The trained part of sequences `[B, L, ...]` that begin with `context` >= 1 steps of context.

    The latent stored at the last context step starts the recurrence; previous actions are those stored a step earlier.
    """
    rest = lambda tree: jax.tree.map(lambda x: x[:, context:], tree)  # noqa: E731
    return Sequences(
        batch.extras["deter"][:, context - 1],
        batch.extras["stoch"][:, context - 1],
        rest(batch.obs),
        {k: a[:, context - 1 : -1] for k, a in batch.action.items()},
        *rest(tuple(batch[1:5])),
    )


def index_dtype(classes: int) -> Any:
    """Smallest integer type that holds class indices and -1."""
    return jnp.int8 if classes <= 128 else jnp.int16


def critic_params(params: Params) -> Params:
    """The critic's part of all parameters."""
    return {k: p for k, p in params.items() if k.startswith("critic/")}


def action_noise(key: jax.Array, spaces: Spaces, batch: tuple[int, ...]) -> dict[str, jax.Array]:
    """Noise to sample actions `[*batch, *shape]` with: uniform for discrete keys, else standard normal."""
    keys = jax.random.split(key, len(spaces))
    return {
        k: (jax.random.uniform if s.discrete else jax.random.normal)(keys[i], (*batch, *s.shape))
        for i, (k, s) in enumerate(sorted(spaces.items()))
    }


def reconstruction_loss(output: Any, target: jax.Array, space: Space) -> jax.Array:
    """Loss of one observation key `[B, T]`, summed over its entries; images are compared in [0, 1]."""
    if space.classes:
        return -event_sum(output.log_prob(target), space)
    target = target.astype(jnp.float32) / 255 if space.image else target.astype(jnp.float32)
    return event_sum(output.loss(target), space)


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """Clipping, LaProp, weight decay, learning rate, in this order (Methods, optimiser)."""
    c = config
    parts = [clip_by_tensor_norm(c.clip, c.min_norm), scale_by_laprop(c.beta1, c.beta2, c.eps, c.nesterov)]
    if c.weight_decay:
        pattern = re.compile(c.weight_decay_pattern)
        mask = lambda params: {k: bool(pattern.search(k)) for k in params}  # noqa: E731
        parts.append(optax.add_decayed_weights(c.weight_decay, mask))
    return optax.chain(*parts, optax.scale_by_learning_rate(learning_rate(c)))


def learning_rate(config: OptimizerConfig) -> optax.Schedule:
    """Learning rate by number of updates done."""
    end = config.lr / 10 if config.end is None else config.end
    after = decay(config.schedule, config.lr, end, config.anneal - config.warmup)
    return warmup_then(after, config.lr, config.warmup)


def root_mean_square(tree: Any) -> jax.Array:
    """Root of the mean square of all numbers in `tree`."""
    leaves = jax.tree.leaves(tree)
    return jnp.sqrt(sum(jnp.square(x).sum() for x in leaves) / sum(x.size for x in leaves))
