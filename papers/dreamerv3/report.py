"""What a trained world model predicts: open-loop videos."""

import jax
import jax.numpy as jnp

from papers.dreamerv3.algorithm import AgentState, DreamerV3
from papers.dreamerv3.observations import vectorize
from repro.pipeline.algorithm import Transition

GIVEN, PREDICTED = (0, 255, 0), (255, 0, 0)
"""Border colours of frames that the model has seen and that it has not."""


def open_loop_video(
    agent: DreamerV3, state: AgentState, batch: Transition, key: jax.Array, sequences: int = 6
) -> dict[str, jax.Array]:
    """Videos `[T, 3 (H + 4), n (W + 4), 3]` uint8, one an image key: truth, model and error below each other.

    The model filters the first half of the first n sequences of a replay batch `[B, L, ...]` (green border), then
    predicts the second half from the actions alone (red border). Can be called inside `jit`; no images, no videos.
    """
    nets = agent.bind(state.params)
    data = agent.sequences(jax.tree.map(lambda x: x[:sequences], batch))
    if not nets.decoder.images:
        return {}
    half = data.reward.shape[1] // 2
    actions = vectorize(data.previous_action, agent.action_spaces, agent.dtype)
    tokens = nets.encoder({k: x[:, :half] for k, x in data.obs.items()}, agent.dtype)
    noise = jax.random.uniform(key, (*data.reward.shape, agent.config.rssm.stoch))
    start = agent.features(nets, data.deter, data.stoch)
    seen = nets.rssm.observe(start, tokens, actions[:, :half], data.is_first[:, :half], noise[:, :half])
    future = nets.rssm.predict((seen.deter[:, -1], seen.stoch[:, -1]), actions[:, half:], noise[:, half:])
    features = (jnp.concatenate([seen.deter, future[0]], 1), jnp.concatenate([seen.stoch, future[1]], 1))
    outputs = nets.decoder(features)
    return {key: _grid(data.obs[key], outputs[key].mode(), half) for key in nets.decoder.images}


def _grid(truth: jax.Array, prediction: jax.Array, half: int) -> jax.Array:
    model = jnp.clip(prediction * 255, 0, 255).astype(jnp.uint8)
    error = ((model.astype(jnp.int32) - truth.astype(jnp.int32) + 255) // 2).astype(jnp.uint8)
    frames = jnp.stack([truth, model, error], 2)  # [n, T, 3, H, W, C]
    n, steps, _, height, width, channels = frames.shape
    frames = jnp.broadcast_to(frames if channels == 3 else frames.mean(-1, keepdims=True), (*frames.shape[:5], 3))
    border = jnp.where(jnp.arange(steps)[:, None] < half, jnp.array(GIVEN), jnp.array(PREDICTED))
    canvas = jnp.broadcast_to(border[:, None, None, None], (n, steps, 3, height + 4, width + 4, 3)).astype(jnp.uint8)
    canvas = canvas.at[:, :, :, 2:-2, 2:-2].set(frames.astype(jnp.uint8))
    return canvas.transpose(1, 2, 3, 0, 4, 5).reshape(steps, 3 * (height + 4), n * (width + 4), 3)
