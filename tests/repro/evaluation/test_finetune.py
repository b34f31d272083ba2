"""Fine-tuning moves later layers more, decays matrices only, and learns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from repro.evaluation.probes.finetune import FineTune, FineTuning, layer_scales

DEPTH, WIDTH = 3, 6


def encoder() -> dict[str, jax.Array]:
    """Names and shapes as an encoder of `repro.nn.vit` has them."""
    key = jax.random.key(0)
    shapes = {"patch/kernel": (5, WIDTH), "blocks/fc1/kernel": (DEPTH, WIDTH, WIDTH), "blocks/fc1/bias": (DEPTH, WIDTH)}
    params = {name: 0.5 * jax.random.normal(key, shape) for name, shape in shapes.items()}
    return params | {"norm/scale": jnp.ones(WIDTH)}


def encode(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    x = x @ params["patch/kernel"]
    for layer in range(DEPTH):
        x = x + jnp.tanh(x @ params["blocks/fc1/kernel"][layer] + params["blocks/fc1/bias"][layer])
    return x * params["norm/scale"]


def test_layers_learn_at_a_falling_rate_towards_the_input():
    scales = layer_scales(encoder(), 0.5)
    assert float(scales["patch/kernel"]) == 0.5**4 and float(scales["norm/scale"]) == 1.0
    assert scales["blocks/fc1/kernel"].ravel().tolist() == [0.5**3, 0.5**2, 0.5]
    assert scales["blocks/fc1/kernel"].shape == (DEPTH, 1, 1)


def test_one_update_is_adamw_times_the_layer_s_scale():
    protocol = FineTune(1e-2, 0.1, epochs=10, layer_decay=0.5)
    tuning = FineTuning(protocol, encode, encoder(), WIDTH, 3, updates_per_epoch=4)
    state = tuning.init(jax.random.key(1), encoder())
    x, y = jax.random.normal(jax.random.key(2), (8, 5)), jnp.arange(8) % 3

    def loss(params: dict[str, jax.Array]) -> jax.Array:
        targets = optax.smooth_labels(jax.nn.one_hot(y, 3), 0.1)
        return optax.softmax_cross_entropy(tuning.logits(params, x), targets).mean()

    gradient = jax.grad(loss)(state.params)
    new, value = jax.jit(tuning.update)(state, x, y)
    np.testing.assert_allclose(value, loss(state.params), rtol=1e-6)
    scales = layer_scales(encoder(), 0.5) | {"head/kernel": 1.0, "head/bias": 1.0}
    for name, p in state.params.items():
        # Adam's first step is the sign of the gradient.
        g = gradient[name]
        step = g / (jnp.abs(g) + 1e-8) + (0.1 * p if name.endswith("kernel") else 0.0)
        np.testing.assert_allclose(new.params[name], p - 1e-2 * scales[name] * step, rtol=1e-4, atol=1e-6)


def test_it_learns_and_the_last_updates_stand_still():
    protocol = FineTune(3e-2, 0.05, epochs=10, warmup_epochs=1)
    tuning = FineTuning(protocol, encode, encoder(), WIDTH, 2, updates_per_epoch=6)
    state, update = tuning.init(jax.random.key(1), encoder()), jax.jit(tuning.update)
    x = jax.random.normal(jax.random.key(2), (64, 5))
    y = (x[:, 0] * x[:, 1] > 0).astype(jnp.int32)  # not linear
    before = int(tuning.correct(state, x, y))
    moves = []
    for _ in range(tuning.updates):
        new, _ = update(state, x, y)
        moves.append(float(jnp.abs(new.params["head/kernel"] - state.params["head/kernel"]).max()))
        state = new
    assert moves[0] == 0.0 and max(moves[:12]) > 20 * moves[-1]
    assert int(tuning.correct(state, x, y)) > max(before, 54) and int(tuning.correct(state, x, -y - 1)) == 0
