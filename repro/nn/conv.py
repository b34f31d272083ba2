"""2-D convolutions, SAME padding, images `[N, H, W, C]`, kernels `[h, w, in, out]`."""

import jax
import jax.numpy as jnp
from jax import lax


def conv2d(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Convolution: `[N, H, W, C]` -> `[N, H/stride, W/stride, out]`."""
    return lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def conv2d_pool(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution, then the maximum over 2x2 cells: `[N, H, W, C]` -> `[N, H/2, W/2, out]`."""
    y = conv2d(x, kernel)
    n, h, w, c = y.shape
    return y.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))


def upsample_conv2d(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Every pixel repeated to 2x2 (nearest), then convolution: `[N, H, W, C]` -> `[N, 2H, 2W, out]`."""
    return conv2d(x.repeat(2, 2).repeat(2, 1), kernel)


def insert_conv2d(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Every pixel at the odd row and column of a 2x2 cell of zeros, then convolution: a transposed convolution of
    stride 2, `[N, H, W, C]` -> `[N, 2H, 2W, out]`."""
    zero = jnp.zeros((), x.dtype)
    return conv2d(lax.pad(x, zero, [(0, 0, 0), (1, 0, 1), (1, 0, 1), (0, 0, 0)]), kernel)
