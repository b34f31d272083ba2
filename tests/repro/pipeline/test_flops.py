"""FLOPs counted in a jaxpr: products, convolutions with gradients, loops, branches of a platform."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from repro.pipeline import flops


def ones(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def test_products_count_two_a_multiply_add():
    assert flops.of(jnp.matmul, ones(3, 5), ones(5, 7)) == 2 * 3 * 5 * 7
    assert flops.of(lambda a, b: jnp.einsum("bij,bkj->bik", a, b), ones(4, 3, 5), ones(4, 7, 5)) == 2 * 4 * 3 * 5 * 7
    assert flops.of(lambda a: jnp.tanh(a) + a.sum(), ones(3, 5)) == 0


def test_a_scan_counts_every_turn_and_its_gradient_twice_more():
    def run(w, xs):
        return lax.scan(lambda h, x: (h @ w, x), jnp.ones((4, 6)), xs)[0].sum()

    assert flops.of(run, ones(6, 6), ones(9)) == 9 * 2 * 4 * 6 * 6
    assert flops.of(jax.grad(run), ones(6, 6), ones(9)) == 3 * 9 * 2 * 4 * 6 * 6


def dense(shape, kernel, stride, padding, dilation=1, groups=1):
    """Multiply-adds of a convolution by brute force: ones under the kernel, counted position by position."""
    mask = jnp.ones((1, 1, *shape))
    count = lax.conv_general_dilated(
        mask, jnp.ones((1, 1, *kernel)), (stride, stride), padding, lhs_dilation=(dilation, dilation)
    )
    return int(count.sum())


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(5, 1, 1), (4, 2, 1), (3, 2, 1), (5, 1, 2)])
def test_convolutions_count_the_taps_that_meet_the_image(padding, kernel, stride, dilation):
    if dilation > 1:
        padding = [(2, 2), (3, 1)]

    numbers = {"lhs_dilation": (dilation, dilation), "dimension_numbers": ("NHWC", "HWIO", "NHWC")}

    def convolve(x, k):
        return lax.conv_general_dilated(x, k, (stride, stride), padding, **numbers)

    expected = 2 * 2 * 3 * 6 * dense((9, 8), (kernel, kernel), stride, padding, dilation)
    assert flops.of(convolve, ones(2, 9, 8, 3), ones(kernel, kernel, 3, 6)) == expected
    loss = lambda x, k: convolve(x, k).sum()  # noqa: E731
    assert flops.of(jax.grad(loss, (0, 1)), ones(2, 9, 8, 3), ones(kernel, kernel, 3, 6)) == 3 * expected


def test_convolutions_of_several_seeds_cost_that_of_each():
    one = lambda x, k: lax.conv_general_dilated(x, k, (1, 1), "SAME")  # noqa: E731
    arguments = ones(2, 3, 8, 8), ones(6, 3, 5, 5)
    many = [ones(4, *a.shape) for a in arguments]
    assert flops.of(jax.vmap(one), *many) == 4 * flops.of(one, *arguments)


def test_the_branch_of_the_platform_counts():
    def f(a):
        return lax.platform_dependent(a, cpu=lambda a: a @ a @ a, default=lambda a: a @ a)

    assert flops.of(f, ones(3, 3), platform="cpu") == 2 * 2 * 27
    assert flops.of(f, ones(3, 3), platform="tpu") == flops.of(f, ones(3, 3), platform="cuda") == 2 * 27


def test_other_conditions_count_their_dearest_branch():
    def f(flag, a):
        return lax.cond(flag, lambda a: a @ a @ a, lambda a: a, a)

    assert flops.of(f, jax.ShapeDtypeStruct((), bool), ones(3, 3)) == 2 * 2 * 27


def test_the_compiler_counts_the_same_where_there_is_no_loop():
    def f(a, b):
        return ((jnp.maximum(a @ b, 0) @ b) ** 2).sum()

    arguments = np.ones((64, 64), np.float32), np.ones((64, 64), np.float32)
    compiled = jax.jit(jax.grad(f, (0, 1))).lower(*arguments).compile().cost_analysis()["flops"]
    assert flops.of(jax.grad(f, (0, 1)), *arguments) == pytest.approx(compiled, rel=0.05)
