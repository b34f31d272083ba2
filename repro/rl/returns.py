"""Returns computed backwards over a trajectory."""

import jax
import jax.numpy as jnp
from jax import lax


def lambda_return(
    reward: jax.Array, live: jax.Array, mix: jax.Array | float, bootstrap: jax.Array, axis: int = 1
) -> jax.Array:
    """R_t = r_{t+1} + live_{t+1} [(1 - mix_{t+1}) v_{t+1} + mix_{t+1} R_{t+1}], R_{T-1} = v_{T-1}.

    All arrays have T entries along `axis` (`mix` may be a number); the result has T-1. `live` is discount times
    probability of going on, `mix` the lambda of TD(lambda), 0 where the trace must not pass (Dreamer, eq. 6;
    DreamerV3, eq. 7). The value of the state itself is not used.
    """
    reward, live, bootstrap = (jnp.moveaxis(x, axis, 0) for x in (reward, live, bootstrap))
    mix = jnp.broadcast_to(jnp.moveaxis(mix, axis, 0) if jnp.ndim(mix) else mix, reward.shape)
    fixed = reward[1:] + live[1:] * (1 - mix[1:]) * bootstrap[1:]
    passed = live[1:] * mix[1:]

    def step(later: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        value = now[0] + now[1] * later
        return value, value

    _, returns = lax.scan(step, bootstrap[-1], (fixed, passed), reverse=True, unroll=16)
    return jnp.moveaxis(returns, 0, axis)


def lambda_return_of_states(
    reward: jax.Array, live: jax.Array, mix: float, value: jax.Array, axis: int = 0
) -> jax.Array:
    """R_t = r_t + live_t [(1 - mix) v_{t+1} + mix R_{t+1}], R_{T-1} = v_{T-1}: a reward belongs to its own state.

    All arrays have T entries along `axis`, the result T-1; the last reward does not count (DreamerV1, DreamerV2).
    """
    return lambda_return(jnp.roll(reward, 1, axis), jnp.roll(live, 1, axis), mix, value, axis)


def discount_weights(live: jax.Array) -> jax.Array:
    """Probability `[T, ...]` that imagination still goes on in a state, discount included: 1, live_0, live_0 live_1 ...

    Time comes first; without gradient (Dreamer, appendix; DreamerV2, eqs. 5 and 6).
    """
    return lax.stop_gradient(jnp.cumprod(jnp.concatenate([jnp.ones_like(live[:1]), live[:-1]]), 0))
