"""M: an LSTM whose output is a mixture density of the next latent (World Models, appendix A.2).

The head's columns are kept as `[hidden, restart + 3 K D]` with D (latent dimensions) innermost: K D logits, K D means,
K D log standard deviations, so that nothing is computed over an axis of length K. B batch, T time, H hidden.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from papers.world_models.config import MDNRNNConfig

Params = dict[str, jax.Array]
State = tuple[jax.Array, jax.Array]
"""(c, h), `[B, H]` each."""

GATES = ("input", "transform", "forget", "output")
NORMS = (*GATES, "state")
FORGET_BIAS = 1.0
LAYER_NORM_EPS = 1e-12


class Mixture(NamedTuple):
    """Gaussian mixtures, `[..., K, D]` each; logits are not normalised."""

    logits: jax.Array
    mean: jax.Array
    log_std: jax.Array


class Losses(NamedTuple):
    """What training minimises and its parts."""

    total: jax.Array
    latent: jax.Array
    """Negative log-likelihood, mean over batch, time and dimensions."""
    restart: jax.Array
    """0 where restarts are not predicted."""


def shapes(config: MDNRNNConfig) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every parameter."""
    hidden = config.hidden
    found: dict[str, tuple[int, ...]] = {
        "lstm/kernel_x": (config.inputs, 4 * hidden),
        "lstm/kernel_h": (hidden, 4 * hidden),
    }
    if config.layer_norm:
        found |= {f"norm_{name}/{part}": (hidden,) for name in NORMS for part in ("gamma", "beta")}
    else:
        found["lstm/bias"] = (4 * hidden,)
    return {**found, "head/kernel": (hidden, config.outputs), "head/bias": (config.outputs,)}


def init(key: jax.Array, config: MDNRNNConfig) -> Params:
    """Glorot uniform over whole matrices, biases too (fan in = fan out = their length), norms at 1 and 0."""

    def value(name: str, shape: tuple[int, ...], key: jax.Array) -> jax.Array:
        if name.startswith("norm"):
            return jnp.ones(shape) if name.endswith("gamma") else jnp.zeros(shape)
        rows = config.inputs + config.hidden if name.startswith("lstm/kernel") else shape[0]
        limit = (6 / (rows + shape[-1])) ** 0.5
        return jax.random.uniform(key, shape, minval=-limit, maxval=limit)

    names = shapes(config)
    return {n: value(n, s, k) for (n, s), k in zip(names.items(), jax.random.split(key, len(names)), strict=True)}


def zero_state(config: MDNRNNConfig, batch: int) -> State:
    """The state before the first step."""
    return jnp.zeros((batch, config.hidden)), jnp.zeros((batch, config.hidden))


def _norm(params: Params, name: str, x: jax.Array) -> jax.Array:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred * lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + LAYER_NORM_EPS)
    return scaled * params[f"norm_{name}/gamma"] + params[f"norm_{name}/beta"]


def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`[..., n] @ [n, m]` in float32; with a bfloat16 kernel both factors are rounded and only sums are float32."""
    flat = x.reshape(-1, x.shape[-1]).astype(kernel.dtype)
    return jnp.matmul(flat, kernel, preferred_element_type=jnp.float32).reshape(*x.shape[:-1], -1)


def rounded(params: Params) -> Params:
    """Parameters with bfloat16 kernels, see `product`: three times faster on CPUs with matrix units, and on GPUs."""
    return {n: p.astype(jnp.bfloat16) if "kernel" in n else p for n, p in params.items()}


def cell(params: Params, inputs: jax.Array, state: State) -> State:
    """One step from `inputs` = x kernel_x + bias `[B, 4H]`: gates i, j, f, o; the normalised c is carried."""
    c, h = state
    gates = jnp.split(inputs + product(h, params["lstm/kernel_h"]), 4, -1)
    normed = "norm_state/gamma" in params
    if normed:
        gates = [_norm(params, name, gate) for name, gate in zip(GATES, gates, strict=True)]
    i, j, f, o = gates
    c = c * jax.nn.sigmoid(f + FORGET_BIAS) + jax.nn.sigmoid(i) * jnp.tanh(j)
    if normed:
        c = _norm(params, "state", c)
    return c, jnp.tanh(c) * jax.nn.sigmoid(o)


def project(params: Params, *parts: jax.Array) -> jax.Array:
    """x kernel_x + bias of the parts of x `[..., n]` (latent, action, restart), as `cell` takes it."""
    total, start = params.get("lstm/bias", jnp.zeros(())), 0
    for x in parts:
        rows = params["lstm/kernel_x"][start : start + x.shape[-1]]
        total, start = total + product(x, rows), start + x.shape[-1]
    return total


def step(params: Params, state: State, *parts: jax.Array) -> State:
    """The state after one step from the parts of x, `[B, n]` each."""
    return cell(params, project(params, *parts), state)


def head(params: Params, config: MDNRNNConfig, h: jax.Array) -> tuple[Mixture, jax.Array]:
    """Mixtures of the next latent and restart logits `[...]` (all 0 where they are not predicted) from h `[..., H]`."""
    y = product(h, params["head/kernel"]) + params["head/bias"]
    restart = y[..., 0] if config.predict_restart else jnp.zeros(y.shape[:-1])
    y = y[..., int(config.predict_restart) :].reshape(*y.shape[:-1], 3, config.mixtures, config.latent)
    return Mixture(y[..., 0, :, :], y[..., 1, :, :], y[..., 2, :, :]), restart


# ---- whole sequences ------------------------------------------------------------------------------------------------


def unroll(
    params: Params, inputs: jax.Array, state: State, restart: jax.Array | None, reset_to: State
) -> tuple[jax.Array, State]:
    """h after every step, `[T, B, H]`, and the last state, from projected inputs `[T, B, 4H]`.

    Where `restart` `[T, B]` is above 0.5 the state becomes `reset_to` before the step.
    """
    restarts = jnp.zeros(inputs.shape[:2]) if restart is None else restart
    of_cell = {name: value for name, value in params.items() if name == "lstm/kernel_h" or name.startswith("norm")}
    return _unroll(of_cell, inputs, state, restarts, reset_to)


def _scan(
    params: Params, inputs: jax.Array, state: State, restart: jax.Array, reset_to: State
) -> tuple[jax.Array, State, jax.Array]:
    def one(state: State, now: tuple[jax.Array, jax.Array]) -> tuple[State, tuple[jax.Array, jax.Array]]:
        inputs, restart = now
        again = restart[:, None] > 0.5
        c, h = (jnp.where(again, new, old) for new, old in zip(reset_to, state, strict=True))
        after = cell(params, inputs, (c, h))
        return after, (after[1], h)

    last, (h, before) = lax.scan(one, state, (inputs, restart))
    return h, last, before


# The gradient of the recurrent kernel is one product over all steps instead of a sum of one product a step.
@jax.custom_vjp
def _unroll(
    params: Params, inputs: jax.Array, state: State, restart: jax.Array, reset_to: State
) -> tuple[jax.Array, State]:
    h, last, _ = _scan(params, inputs, state, restart, reset_to)
    return h, last


def _unroll_forward(params, inputs, state, restart, reset_to):  # type: ignore[no-untyped-def]
    kernel = params["lstm/kernel_h"]
    norms = {name: value for name, value in params.items() if name != "lstm/kernel_h"}

    def run(norms, inputs, state, reset_to):  # type: ignore[no-untyped-def]
        h, last, before = _scan({**norms, "lstm/kernel_h": kernel}, inputs, state, restart, reset_to)
        return (h, last), before

    outputs, pull_back, before = jax.vjp(run, norms, inputs, state, reset_to, has_aux=True)
    return outputs, (pull_back, before, restart)


def _unroll_backward(kept, gradients):  # type: ignore[no-untyped-def]
    pull_back, before, restart = kept
    of_norms, of_inputs, of_state, of_reset = pull_back(gradients)
    of_kernel = before.reshape(-1, before.shape[-1]).T @ of_inputs.reshape(-1, of_inputs.shape[-1])
    return {**of_norms, "lstm/kernel_h": of_kernel}, of_inputs, of_state, jnp.zeros_like(restart), of_reset


_unroll.defvjp(_unroll_forward, _unroll_backward)


def learning_rate(config: MDNRNNConfig, step: jax.Array) -> jax.Array:
    """(first - end) decay^step + end; as an exponential, because a float32 power of 0.99999 is off by 3e-4."""
    decayed = jnp.exp(step * math.log(config.decay))
    return (config.learning_rate - config.learning_rate_end) * decayed + config.learning_rate_end


# ---- losses ---------------------------------------------------------------------------------------------------------


def log_likelihood(mixture: Mixture, target: jax.Array) -> jax.Array:
    """log sum_k pi_k N(target | mean_k, std_k), `[..., D]`."""
    log_weights = jax.nn.log_softmax(mixture.logits, -2)
    scaled = (target[..., None, :] - mixture.mean) * jnp.exp(-mixture.log_std)
    log_density = -0.5 * jnp.square(scaled) - mixture.log_std - 0.5 * jnp.log(2 * jnp.pi)
    return jax.nn.logsumexp(log_weights + log_density, -2)


class Batch(NamedTuple):
    """Sequences `[T + 1, B, ...]` (time first); step t predicts latent and restart of step t + 1."""

    latent: jax.Array
    action: jax.Array
    restart: jax.Array | None = None


def loss(params: Params, config: MDNRNNConfig, batch: Batch, state: State) -> tuple[Losses, State]:
    """Losses of all predictions, from `state`, and the state after the last of them."""
    parts = [batch.latent[:-1], batch.action[:-1]]
    if batch.restart is not None:
        parts.append(batch.restart[:-1, :, None])
    reset_to = state if config.restart_to == "fed" else jax.tree.map(jnp.zeros_like, state)
    restart = None if batch.restart is None else batch.restart[:-1]
    h, last = unroll(params, project(params, *parts), state, restart, reset_to)
    mixture, logits = head(params, config, h)
    latent = -log_likelihood(mixture, batch.latent[1:]).mean()
    if batch.restart is None:
        return Losses(latent, latent, jnp.zeros(())), last
    target = batch.restart[1:]
    entropy = jax.nn.softplus(logits) - target * logits
    of_restart = ((1 + target * (config.restart_factor - 1)) * entropy).mean()
    return Losses(latent + of_restart, latent, of_restart), last


# ---- sampling -------------------------------------------------------------------------------------------------------


def sample(mixture: Mixture, temperature: jax.Array, uniform: jax.Array, normal: jax.Array) -> jax.Array:
    """A latent `[..., D]`: in every dimension the first component whose cumulative softmax(logits / temperature)
    reaches `uniform`, then mean + std sqrt(temperature) normal."""
    components = range(mixture.logits.shape[-2])
    largest = mixture.logits.max(-2)
    total = jnp.zeros_like(uniform)
    cumulative = []
    for k in components:  # written out: short cumulative sums are slow on CPU
        total = total + jnp.exp((mixture.logits[..., k, :] - largest) / temperature)
        cumulative.append(total)
    mean, log_std = mixture.mean[..., 0, :], mixture.log_std[..., 0, :]
    for k in components[1:]:
        further = uniform * total > cumulative[k - 1]
        mean = jnp.where(further, mixture.mean[..., k, :], mean)
        log_std = jnp.where(further, mixture.log_std[..., k, :], log_std)
    return mean + jnp.exp(log_std) * jnp.sqrt(temperature) * normal
