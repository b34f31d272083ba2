"""DreamerV1: dream to control, learning behaviours by latent imagination. One seed, pure functions."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from papers.dreamerv1 import exploration
from papers.dreamerv1.agent_config import AgentConfig
from papers.dreamerv1.losses import Behaviour, behaviour_losses, latent_loss
from papers.dreamerv1.networks import Networks
from repro.envs.base import Spaces, TimeStep
from repro.nn.actions import action_vector, uniform_action
from repro.nn.distributions import Categorical
from repro.nn.latents import Noise
from repro.nn.observations import log_likelihood, normalize
from repro.nn.params import Params
from repro.nn.rssm import Belief, Rollout, State
from repro.optim.adam import keras_adam
from repro.pipeline.algorithm import Transition
from repro.replay.sequences import Steps, steps_of
from repro.rl.latent_agent import ActorCarry, LatentAgent, UpdateNoise, part


class AgentState(NamedTuple):
    """All that training changes."""

    params: Params
    optimizers: dict[str, Any]
    updates: jax.Array


class Update(NamedTuple):
    """Outcome of one update."""

    state: AgentState
    belief: Belief
    behaviour: Behaviour
    rollout: Rollout
    gradients: dict[str, Params]
    metrics: dict[str, jax.Array]


class DreamerV1(LatentAgent):
    """The algorithm for given observation and action spaces; see `repro.pipeline.algorithm.Algorithm`."""

    def __init__(self, config: AgentConfig, obs_spaces: Spaces, action_spaces: Spaces):
        c = self.config = config
        rates = {"model": c.model_lr, "actor": c.actor_lr, "critic": c.critic_lr}
        optimizers = {name: keras_adam(lr, c.eps, c.clip) for name, lr in rates.items()}
        make = lambda draw: Networks(config, obs_spaces, action_spaces, draw=draw)  # noqa: E731
        super().__init__(make, optimizers, obs_spaces, action_spaces, c.compute_dtype)

    def init(self, key: jax.Array) -> AgentState:
        """Fresh parameters."""
        params = self.networks.init(key)
        return AgentState(params, self.new_optimizers(params), jnp.zeros((), jnp.int32))

    def act(
        self, state: AgentState, carry: ActorCarry, timestep: TimeStep, key: jax.Array, mode: str = "train"
    ) -> tuple[dict[str, jax.Array], ActorCarry, dict[str, jax.Array]]:
        """One posterior step; then a sampled action with noise, or in evaluation the policy's mode.

        Latents are always sampled. Until the first update actions are uniformly random.
        """
        keys, batch = jax.random.split(key, 4), timestep.is_first.shape
        belief, policy = self.look(self.bind(state.params), carry, timestep, self.latent.draw(keys[0], batch))
        if mode == "eval":
            action = self.mode(policy, keys[1])
        else:
            sampled = self.explore(policy.sample(self.action_noise(keys[1], batch)), state, keys[2])
            action = jnp.where(state.updates == 0, uniform_action(keys[3], self.action_space, batch), sampled)
        action = action.astype(self.action_space.dtype)
        return {self.action_key: action}, ActorCarry(belief.state, action), {}

    def mode(self, policy: Any, key: jax.Array) -> jax.Array:
        """The most probable class, or the most probable of many samples."""
        if isinstance(policy, Categorical):
            return policy.mode()
        return policy.mode(jax.random.normal(key, (self.config.mode_samples, *policy.normal.mean.shape)))

    def explore(self, action: jax.Array, state: AgentState, key: jax.Array) -> jax.Array:
        """The action with the noise of training."""
        c, (noise_key, random_key) = self.config, jax.random.split(key)
        steps = state.updates * float(c.steps_per_update * c.action_repeat)
        amount = exploration.amount(c.exploration, steps)
        if self.action_space.discrete:
            uniform = jax.random.uniform(noise_key, action.shape)
            return exploration.epsilon_greedy(
                action, uniform_action(random_key, self.action_space, action.shape), uniform, amount
            )
        return exploration.additive(action, jax.random.normal(noise_key, action.shape), amount)

    def learn(
        self, state: AgentState, batch: Transition, key: jax.Array
    ) -> tuple[AgentState, dict[str, jax.Array], dict[str, jax.Array]]:
        """One update from sequences `[B, context + T]`."""
        data = steps_of(batch, self.action_key, self.obs_spaces, self.config.replay_context)
        result = self.update(state, data, self.draw_noise(key, *data.reward.shape))
        return result.state, result.metrics, {}

    def update(self, state: AgentState, data: Steps, noise: UpdateNoise) -> Update:
        """World model, actor and critic, all gradients from the parameters before the update (P algorithm 1)."""
        gradients, model = {}, part(state.params, "model")
        (_, (belief, metrics)), gradients["model"] = jax.value_and_grad(self.model_loss, has_aux=True)(
            model, state.params, data, noise.posterior
        )
        learned = part(state.params, "actor") | part(state.params, "critic")
        (_, (behaviour, rollout, more)), found = jax.value_and_grad(self.behaviour_loss, has_aux=True)(
            learned, state.params, self.starts(belief), noise
        )
        gradients |= {name: part(found, name) for name in ("actor", "critic")}
        params, optimizers = dict(state.params), dict(state.optimizers)
        for name, gradient in gradients.items():
            new, optimizers[name] = self.step(name, state.params, optimizers[name], gradient)
            params |= new
        metrics |= more | {f"gradient_norm/{name}": optax.tree.norm(g) for name, g in gradients.items()}
        state = AgentState(params, optimizers, state.updates + 1)
        return Update(state, belief, behaviour, rollout, gradients, metrics)

    def model_loss(
        self, model: Params, params: Params, data: Steps, noise: Noise
    ) -> tuple[jax.Array, tuple[Belief, dict[str, jax.Array]]]:
        """Loss of the world model (P eq. 10) as a function of its parameters."""
        c, nets = self.config, self.bind(params | model)
        embedding = nets.encoder(data.obs, self.dtype)
        action = action_vector(data.previous_action, self.action_space, self.dtype)
        start = nets.rssm.initial(data.reward.shape[:1], self.dtype)
        belief = nets.rssm.observe(start, embedding, action, data.is_first, noise)
        prior = self.latent.distribution(nets.rssm.prior_of(belief.deter))
        posterior = self.latent.distribution(belief.raw)
        kl, divergence = latent_loss(posterior, prior, c.free_nats)
        loss, metrics = c.kl_scale * kl, {"loss/kl": kl, "kl": divergence.mean()}
        metrics["prior_entropy"] = prior.entropy().sum(-1).mean()
        metrics["posterior_entropy"] = posterior.entropy().sum(-1).mean()
        for key, likelihood in self.likelihoods(nets, belief.state, data).items():
            metrics[f"loss/{key}"] = -likelihood.mean()
            loss += (c.discount_scale if key == "discount" else 1.0) * metrics[f"loss/{key}"]
        return loss, (belief, metrics | {"loss/model": loss})

    def likelihoods(self, nets: Networks, state: State, data: Steps) -> dict[str, jax.Array]:
        """Log-likelihoods `[B, T]` of observations, reward and discount."""
        found = {}
        for key, mean in nets.decoder(*state).items():
            space, target = self.obs_spaces[key], data.obs[key]
            target = normalize(target, jnp.float32) if space.image else target
            found[key] = log_likelihood(mean, target, len(space.shape))
        reward = jnp.tanh(data.reward) if self.config.reward_transform == "tanh" else data.reward
        found["reward"] = nets.reward(state).log_prob(reward)
        if nets.discount is not None:
            found["discount"] = -nets.discount(state).loss(self.config.discount * (1 - data.is_terminal))
        return found

    def behaviour_loss(
        self, learned: Params, params: Params, start: State, noise: UpdateNoise
    ) -> tuple[jax.Array, tuple[Behaviour, Rollout, dict[str, jax.Array]]]:
        """Actor loss plus critic loss, as a function of the parameters of both; `start` `[N, ...]`."""
        nets, frozen = self.bind(params | learned), self.bind(params)
        rollout = self.imagine(nets, start, noise)
        states = jax.tree.map(lambda x: x[1:], rollout.states)
        reward, value = frozen.reward(states).mode(), frozen.critic(states).mode()
        if frozen.discount is None:
            live = jnp.full(reward.shape, self.config.discount)
        else:
            live = frozen.discount(states).prob()
        learned_value = nets.critic(jax.tree.map(lambda x: lax.stop_gradient(x[:-1]), states)).mode()
        behaviour = behaviour_losses(reward, live, value, learned_value, self.config.lam)
        metrics = {
            "loss/actor": behaviour.actor,
            "loss/critic": behaviour.critic,
            "imagined_reward": reward.mean(),
            "value": value.mean(),
            "return": behaviour.returns.mean(),
        }
        return behaviour.actor + behaviour.critic, (behaviour, rollout, metrics)

    def imagine(self, nets: Networks, start: State, noise: UpdateNoise) -> Rollout:
        """Trajectories of the policy in the world model; the actor sees states without their gradient."""

        def policy(state: State, noise: Noise) -> tuple[jax.Array, tuple[()]]:
            dist = nets.actor(lax.stop_gradient(state))
            sample = dist.sample(noise)
            action = dist.straight_through(sample) if isinstance(dist, Categorical) else sample
            return action.astype(self.dtype), ()

        return nets.rssm.imagine(start, policy, noise.action, noise.prior)

    def starts(self, belief: Belief) -> State:
        """States that imagination starts from, `[N, ...]`: with a discount head all but the last of each sequence."""
        length = belief.deter.shape[1]
        begin, end = self.used(length)
        return jax.tree.map(lambda x: lax.stop_gradient(x[:, begin:end]).reshape(-1, x.shape[-1]), belief.state)

    def used(self, length: int) -> tuple[int, int]:
        """First and one past the last state of a sequence that imagination starts from."""
        end = length - self.config.predict_discount
        last = self.config.imagine_from_last
        return (max(0, end - last) if last else 0), end

    def draw_noise(self, key: jax.Array, batch: int, length: int) -> UpdateNoise:
        """Randomness of one update on `[batch, length]` steps."""
        keys, (begin, end) = jax.random.split(key, 3), self.used(length)
        starts = (self.config.imagination_length, batch * (end - begin))
        return UpdateNoise(
            self.latent_noise(keys[0], (batch, length), 0),
            self.latent_noise(keys[1], starts, 1),
            self.action_noise(keys[2], starts),
        )

    def latent_noise(self, key: jax.Array, shape: tuple[int, int], rows: int) -> jax.Array:
        """Noise of the latents `[*shape, S]`, shared along axis `rows` of the batch if so configured."""
        if not self.config.shared_noise:
            return self.latent.draw(key, shape)
        one = tuple(1 if axis == rows else size for axis, size in enumerate(shape))
        return jnp.broadcast_to(self.latent.draw(key, one), (*shape, self.latent.size))

    def action_noise(self, key: jax.Array, batch: tuple[int, ...]) -> jax.Array:
        """Noise to sample actions with: uniform for classes, else standard normal."""
        if self.action_space.discrete:
            return jax.random.uniform(key, batch)
        return jax.random.normal(key, (*batch, *self.action_space.shape))
