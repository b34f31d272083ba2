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
    restart = jnp.zeros((*y.shape[:-1], 1))
    if config.predict_restart:
        restart, y = jnp.split(y, [1], -1)
    # Cut by `split`, whose gradient is one concatenation; that of three indexings is a sum of three padded arrays.
    parts = (part.reshape(*y.shape[:-1], config.mixtures, config.latent) for part in jnp.split(y, 3, -1))
    return Mixture(*parts), restart[..., 0]


# ---- whole sequences ------------------------------------------------------------------------------------------------


def unroll(
    params: Params, inputs: jax.Array, state: State, restart: jax.Array | None, reset_to: State
) -> tuple[jax.Array, State]:
    """h after every step, `[T, B, H]`, and the last state, from projected inputs `[T, B, 4H]`.

    Where `restart` `[T, B]` is above 0.5 the state becomes `reset_to` before the step.
    """
    restarts = jnp.zeros(inputs.shape[:2]) if restart is None else restart
    if "norm_state/gamma" not in params:
        return _unroll(params["lstm/kernel_h"], inputs, state, restarts, reset_to)

    def one(state: State, now: tuple[jax.Array, jax.Array]) -> tuple[State, jax.Array]:
        inputs, restart = now
        after = cell(params, inputs, _reset(state, restart, reset_to))
        return after, after[1]

    last, h = lax.scan(one, state, (inputs, restarts))
    return h, last


def _reset(state: State, restart: jax.Array, reset_to: State) -> State:
    again = restart[:, None] > 0.5
    c, h = (jnp.where(again, new, old) for new, old in zip(reset_to, state, strict=True))
    return c, h


# The gradient by hand: what does not recur (the slopes of the gates, the gradient of the recurrent kernel) is computed
# for all steps at once, which leaves a product and a few multiplications in the loop.


@jax.custom_vjp
def _unroll(
    kernel: jax.Array, inputs: jax.Array, state: State, restart: jax.Array, reset_to: State
) -> tuple[jax.Array, State]:
    """h after every step and the last state of an LSTM without normalisation."""
    (h, last), _ = _unroll_forward(kernel, inputs, state, restart, reset_to)
    return h, last


def _gates(hidden: int) -> tuple[jax.Array, jax.Array]:
    """Scale and offset `[4 H]` of sigmoid(x) = tanh(x / 2) / 2 + 1 / 2 and tanh: one function for all four gates."""
    scale = jnp.repeat(jnp.array([0.5, 1.0, 0.5, 0.5]), hidden)
    return scale, 1 - scale


def _unroll_forward(kernel, inputs, state, restart, reset_to):  # type: ignore[no-untyped-def]
    hidden = kernel.shape[0]
    scale, offset = _gates(hidden)
    bias = jnp.repeat(jnp.array([0.0, 0.0, FORGET_BIAS, 0.0]), hidden)

    def one(state, now):  # type: ignore[no-untyped-def]
        inputs, restart = now
        c, h = _reset(state, restart, reset_to)
        squashed = jnp.tanh((inputs + product(h, kernel) + bias) * scale)
        i, j, f, o = jnp.split(squashed * scale + offset, 4, -1)
        new = c * f + i * j
        output = jnp.tanh(new)
        return (new, output * o), (output * o, (squashed, output, c, h))

    last, (h, kept) = lax.scan(one, state, (inputs, restart))
    return (h, last), (kernel, restart, kept)


def _unroll_backward(saved, gradients):  # type: ignore[no-untyped-def]
    kernel, restart, (squashed, output, c, h) = saved
    of_h, of_last = gradients
    hidden = kernel.shape[0]
    scale, offset = _gates(hidden)
    i, j, f, o = jnp.split(squashed * scale + offset, 4, -1)
    # Gradient of the gates' inputs over the gradient of c (i, j, f) or of h (o), and of c over that of h.
    rates = jnp.concatenate([j, i, c, output], -1) * (1 - jnp.square(squashed)) * jnp.square(scale)
    through = o * (1 - jnp.square(output))

    def one(carried, now):  # type: ignore[no-untyped-def]
        (of_c, of_h), of_reset = carried
        more, restart, rates, through, f = now
        of_h = of_h + more
        of_c = of_c + of_h * through
        of_inputs = jnp.concatenate([of_c, of_c, of_c, of_h], -1) * rates
        before = (of_c * f, product(of_inputs, kernel.T))
        again = restart[:, None] > 0.5
        of_reset = jax.tree.map(lambda total, new: total + jnp.where(again, new, 0.0), of_reset, before)
        return (jax.tree.map(lambda new: jnp.where(again, 0.0, new), before), of_reset), of_inputs

    zeros = jax.tree.map(jnp.zeros_like, of_last)
    backwards = lax.scan(one, (of_last, zeros), (of_h, restart, rates, through, f), reverse=True)
    (of_state, of_reset), of_inputs = backwards
    of_kernel = h.reshape(-1, hidden).T @ of_inputs.reshape(-1, 4 * hidden)
    return of_kernel, of_inputs, of_state, jnp.zeros_like(restart), of_reset


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
