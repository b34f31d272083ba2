"""DreamerV2: a world model of categorical latents, and behaviour from its imagination. One seed, pure functions."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from papers.dreamerv2.agent_config import AgentConfig, OptimizerConfig
from papers.dreamerv2.losses import ALIGNMENTS, Behaviour, Imagined, balanced_kl, scheduled
from papers.dreamerv2.networks import Networks, PolicyOutput
from repro.envs.base import Spaces, TimeStep
from repro.nn.actions import action_vector, uniform_action
from repro.nn.bounded import TruncatedNormal
from repro.nn.distributions import Categorical
from repro.nn.latents import Noise
from repro.nn.observations import log_likelihood, normalize
from repro.nn.params import Params
from repro.nn.rssm import Belief, Rollout, State
from repro.optim.adam import keras_adam
from repro.optim.targets import move_target
from repro.pipeline.algorithm import Transition
from repro.replay.sequences import Steps, steps_of
from repro.rl.latent_agent import ActorCarry, LatentAgent, UpdateNoise, part


class AgentState(NamedTuple):
    """All that training changes."""

    params: Params
    target_critic: Params
    optimizers: dict[str, Any]
    updates: jax.Array


class Update(NamedTuple):
    """Outcome of one update."""

    state: AgentState
    belief: Belief
    imagined: Imagined
    behaviour: Behaviour
    gradients: Params
    metrics: dict[str, jax.Array]


class DreamerV2(LatentAgent):
    """The algorithm for given observation and action spaces; see `repro.pipeline.algorithm.Algorithm`."""

    def __init__(self, config: AgentConfig, obs_spaces: Spaces, action_spaces: Spaces):
        self.config = config
        optimizers = {name: make_optimizer(getattr(config, name)) for name in ("model", "actor", "critic")}
        make = lambda draw: Networks(config, obs_spaces, action_spaces, draw=draw)  # noqa: E731
        super().__init__(make, optimizers, obs_spaces, action_spaces, config.compute_dtype)
        # The actor learns through the dynamics at some time; otherwise trajectories need no gradients.
        self.through_dynamics = max(config.dynamics_share.start, config.dynamics_share.end) > 0

    def init(self, key: jax.Array) -> AgentState:
        """Fresh parameters; the target critic is a copy."""
        params = self.networks.init(key)
        target = {k: jnp.array(p) for k, p in part(params, "critic").items()}
        return AgentState(params, target, self.new_optimizers(params), jnp.zeros((), jnp.int32))

    def act(
        self, state: AgentState, carry: ActorCarry, timestep: TimeStep, key: jax.Array, mode: str = "train"
    ) -> tuple[dict[str, jax.Array], ActorCarry, dict[str, jax.Array]]:
        """One posterior step, then a sampled action (in evaluation the most probable one); latents are always sampled.

        Until the first update actions are uniformly random.
        """
        posterior_key, action_key, random_key = jax.random.split(key, 3)
        batch = timestep.is_first.shape
        nets = self.bind(state.params)
        noise = self.latent.draw(posterior_key, batch)
        belief, output = self.look(nets, carry, timestep, noise)
        policy = nets.actor.distribution(output)
        if mode == "eval":
            action = policy.mode()
        else:
            sampled = policy.sample(self.action_noise(action_key, batch))
            random = uniform_action(random_key, self.action_space, batch)
            action = jnp.where(state.updates == 0, random, sampled)
        action = action.astype(self.action_space.dtype)
        return {self.action_key: action}, ActorCarry(belief.state, action), {}

    def learn(
        self, state: AgentState, batch: Transition, key: jax.Array
    ) -> tuple[AgentState, dict[str, jax.Array], dict[str, jax.Array]]:
        """One update from sequences `[B, context + T]`."""
        data = steps_of(batch, self.action_key, self.obs_spaces, self.config.replay_context)
        result = self.update(state, data, self.draw_noise(key, *data.reward.shape))
        return result.state, result.metrics, {}

    def update(self, state: AgentState, data: Steps, noise: UpdateNoise, start: State | None = None) -> Update:
        """World model first; then actor and critic in the imagination of the new model; then the target critic.

        `start` is the state before the sequences, zeros by default.
        """
        model, optimizers, gradients = part(state.params, "model"), dict(state.optimizers), {}
        (_, (belief, metrics)), gradients["model"] = jax.value_and_grad(self.model_loss, has_aux=True)(
            model, state.params, data, noise.posterior, start
        )
        new, optimizers["model"] = self.step("model", state.params, optimizers["model"], gradients["model"])
        params = state.params | new

        learned = part(params, "actor") | part(params, "critic")
        share, entropy = (
            scheduled(s, self.agent_steps(state)) for s in (self.config.dynamics_share, self.config.entropy)
        )
        states, terminal = self.starts(belief, data)
        (_, (imagined, behaviour, more, _)), found = jax.value_and_grad(self.behaviour_loss, has_aux=True)(
            learned, params, state.target_critic, states, terminal, noise, share, entropy
        )
        for name in ("actor", "critic"):
            gradients[name] = part(found, name)
            new, optimizers[name] = self.step(name, params, optimizers[name], gradients[name])
            params |= new

        target = move_target(state.target_critic, part(params, "critic"), 1.0, state.updates, self.config.target_every)
        metrics |= more | {f"gradient_norm/{name}": optax.tree.norm(g) for name, g in gradients.items()}
        state = AgentState(params, target, optimizers, state.updates + 1)
        found = {k: g for gs in gradients.values() for k, g in gs.items()}
        return Update(state, belief, imagined, behaviour, found, metrics)

    def model_loss(
        self, model: Params, params: Params, data: Steps, noise: Noise, start: State | None = None
    ) -> tuple[jax.Array, tuple[Belief, dict[str, jax.Array]]]:
        """Loss of the world model (P eq. 2) as a function of its parameters."""
        c, nets = self.config, self.bind(params | model)
        embedding = nets.encoder(data.obs, self.dtype)
        action = action_vector(data.previous_action, self.action_space, self.dtype)
        before = nets.rssm.initial(data.reward.shape[:1], self.dtype) if start is None else start
        belief = nets.rssm.observe(before, embedding, action, data.is_first, noise)
        posterior = nets.rssm.latent.distribution(belief.raw)
        prior = nets.rssm.latent.distribution(nets.rssm.prior_of(belief.deter))
        kl, divergence = balanced_kl(posterior, prior, c.kl_balance, c.free_nats)
        loss = c.kl_scale * kl
        metrics = {"loss/kl": kl, "kl": divergence.mean()}
        metrics["prior_entropy"] = prior.entropy().sum(-1).mean()
        metrics["posterior_entropy"] = posterior.entropy().sum(-1).mean()

        likelihoods = self.likelihoods(nets, belief.state, data)
        for key, likelihood in likelihoods.items():
            metrics[f"loss/{key}"] = -likelihood.mean()
            loss += (c.discount_scale if key == "discount" else 1.0) * metrics[f"loss/{key}"]
        return loss, (belief, metrics | {"loss/model": loss})

    def likelihoods(self, nets: Networks, state: State, data: Steps) -> dict[str, jax.Array]:
        """Log-likelihoods `[B, T]` of observations, reward and discount."""
        c = self.config
        seen = state if c.image_gradients else lax.stop_gradient(state)
        found = {}
        for key, mean in nets.decoder(*seen).items():
            space, target = self.obs_spaces[key], data.obs[key]
            target = normalize(target, jnp.float32) if space.image else target
            found[key] = log_likelihood(mean, target, len(space.shape))
        seen = state if c.reward_gradients else lax.stop_gradient(state)
        found["reward"] = nets.reward(seen).log_prob(self.reward(data.reward))
        if nets.discount is not None:
            found["discount"] = -nets.discount(state).loss(c.discount * (1 - data.is_terminal))
        return found

    def behaviour_loss(
        self,
        learned: Params,
        params: Params,
        target_critic: Params,
        start: State,
        terminal: jax.Array,
        noise: UpdateNoise,
        share: jax.Array | float,
        entropy: jax.Array | float,
    ) -> tuple[jax.Array, tuple[Imagined, Behaviour, dict[str, jax.Array], Rollout]]:
        """Actor loss plus critic loss, as a function of the parameters of both; `start` `[N, ...]`."""
        c, nets = self.config, self.bind(params | learned)
        acting = nets if self.through_dynamics else self.bind(params | lax.stop_gradient(learned))
        target = self.bind(params | target_critic).critic
        rollout = self.imagine(acting, lax.stop_gradient(start), noise)
        states = rollout.states
        taken = jax.tree.map(lambda x: lax.stop_gradient(x[:-1]), states)
        policy = nets.actor.distribution(rollout.policies if self.through_dynamics else nets.actor(taken))
        axes = 0 if self.action_space.discrete else 1
        summed = lambda x: x.sum(-1) if axes else x  # noqa: E731
        action = lax.stop_gradient(rollout.actions)
        action = action.argmax(-1) if self.action_space.discrete else action
        imagined = Imagined(
            reward=nets.reward(states).mode(),
            discount=self.imagined_discount(nets, states, terminal),
            target_value=target(states).mode(),
            value=nets.critic(taken).mode(),
            log_prob=summed(policy.log_prob(action)),
            entropy=summed(policy.entropy()),
        )
        behaviour = ALIGNMENTS[c.alignment](imagined, c.lam, share, entropy)
        metrics = {
            "loss/actor": behaviour.actor,
            "loss/critic": behaviour.critic,
            "entropy": imagined.entropy.mean(),
            "imagined_reward": imagined.reward.mean(),
            "value": imagined.value.mean(),
            "value_target": behaviour.target.mean(),
        }
        return behaviour.actor + behaviour.critic, (imagined, behaviour, metrics, rollout)

    def imagine(self, nets: Networks, start: State, noise: UpdateNoise) -> Rollout:
        """Trajectories of the policy in the world model; the actor sees states without their gradient."""

        def policy(state: State, noise: Noise) -> tuple[jax.Array, PolicyOutput]:
            output = nets.actor(lax.stop_gradient(state))
            return self.imagined_action(nets.actor.distribution(output), noise), output

        return nets.rssm.imagine(start, policy, noise.action, noise.prior)

    def imagined_action(self, policy: Categorical | TruncatedNormal, noise: Noise) -> jax.Array:
        """A sampled action vector `[..., A]` through which gradients flow."""
        if isinstance(policy, Categorical):
            return policy.straight_through(policy.sample(noise)).astype(self.dtype)
        sample = policy.exact_sample if self.config.sample_gradient == "exact" else policy.sample
        return sample(noise).astype(self.dtype)

    def imagined_discount(self, nets: Networks, states: State, terminal: jax.Array) -> jax.Array:
        """Discount factors `[H+1, N]`; the release takes the first from the replay, where `terminal` is known."""
        if nets.discount is None:
            return jnp.full(states.deter.shape[:-1], self.config.discount)
        discount = nets.discount(states).prob()
        if self.config.alignment == "release":
            discount = jnp.concatenate([self.config.discount * (1 - terminal)[None], discount[1:]])
        return discount

    def starts(self, belief: Belief, data: Steps) -> tuple[State, jax.Array]:
        """States that imagination starts from, `[N, ...]`, and whether they are terminal."""
        c, length = self.config, data.reward.shape[1]
        end = length - (c.predict_discount and c.alignment == "may2021")
        begin = max(0, end - c.imagine_from_last) if c.imagine_from_last else 0
        flat = lambda x: x[:, begin:end].reshape(-1, *x.shape[2:])  # noqa: E731
        return jax.tree.map(flat, lax.stop_gradient(belief.state)), flat(data.is_terminal)

    def draw_noise(self, key: jax.Array, batch: int, length: int) -> UpdateNoise:
        """Randomness of one update on `[batch, length]` steps."""
        c, keys = self.config, jax.random.split(key, 3)
        latent = self.latent
        length_used = length - (c.predict_discount and c.alignment == "may2021")
        starts = batch * min(c.imagine_from_last or length_used, length_used)
        # H states with the start in May 2021, H after it in the release.
        horizon = c.imagination_length - (c.alignment == "may2021")
        return UpdateNoise(
            latent.draw(keys[0], (batch, length)),
            latent.draw(keys[1], (horizon, starts)),
            self.action_noise(keys[2], (horizon, starts)),
        )

    def action_noise(self, key: jax.Array, batch: tuple[int, ...]) -> jax.Array:
        """Uniform noise to sample actions with."""
        return jax.random.uniform(key, (*batch, *self.action_space.shape))

    def agent_steps(self, state: AgentState) -> jax.Array:
        """Agent steps that went with the updates so far, for the schedules."""
        return state.updates * float(self.config.steps_per_update)

    def reward(self, reward: jax.Array) -> jax.Array:
        """The reward as the model predicts it."""
        return jnp.tanh(reward) if self.config.reward_transform == "tanh" else reward


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """Clipping, decay, Adam, in this order."""
    return keras_adam(config.lr, config.eps, config.clip, config.decay)
