"""Every form of a convolution equals XLA's plain one: values, gradients, under vmap over kernels, inside loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from repro.nn import conv, conv_products


def plain(kind, stride=1):
    return lambda x, kernel: conv.PLAIN[kind](x, kernel, stride)


CASES = {
    # function, plain form, images [N, H, W, C], kernel size, out
    "image": (conv.conv2d, plain("conv"), (3, 16, 16, 3), 5, 8),
    "gray, 24 wide": (conv.conv2d, plain("conv"), (2, 24, 12, 1), 5, 4),
    "many channels": (conv.conv2d, plain("conv"), (3, 8, 8, 20), 5, 6),
    "3x3": (conv.conv2d, plain("conv"), (3, 8, 8, 5), 3, 7),
    "1x1": (conv.conv2d, plain("conv"), (3, 8, 8, 5), 1, 7),
    "even kernel": (conv.conv2d, plain("conv"), (3, 10, 10, 3), 4, 2),
    "odd image": (conv.conv2d, plain("conv"), (2, 11, 13, 3), 5, 2),
    "image smaller than kernel": (conv.conv2d, plain("conv"), (4, 2, 2, 4), 5, 3),
    "stride 2": (lambda x, k: conv.conv2d(x, k, 2), plain("conv", 2), (3, 16, 16, 3), 5, 8),
    "stride 2, even kernel": (lambda x, k: conv.conv2d(x, k, 2), plain("conv", 2), (3, 16, 16, 20), 4, 8),
    "stride 2, odd image": (lambda x, k: conv.conv2d(x, k, 2), plain("conv", 2), (3, 15, 9, 3), 3, 8),
    "stride 3, kernel 1": (lambda x, k: conv.conv2d(x, k, 3), plain("conv", 3), (3, 16, 16, 3), 1, 8),
    "upsample": (conv.upsample_conv2d, plain("upsample"), (3, 8, 8, 6), 5, 3),
    "upsample, many channels": (conv.upsample_conv2d, plain("upsample"), (3, 4, 6, 24), 5, 3),
    "upsample 3x3": (conv.upsample_conv2d, plain("upsample"), (3, 9, 9, 6), 3, 3),
    "upsample, even kernel": (conv.upsample_conv2d, plain("upsample"), (3, 8, 8, 6), 4, 3),
    "insert": (conv.insert_conv2d, plain("insert"), (3, 8, 8, 6), 5, 3),
    "insert, many channels": (conv.insert_conv2d, plain("insert"), (3, 6, 4, 24), 5, 3),
    "valid": (conv.valid_conv2d, plain("valid", 2), (3, 14, 14, 6), 4, 5),
    "valid, odd image": (conv.valid_conv2d, plain("valid", 2), (3, 11, 13, 3), 4, 5),
    "valid 5x5, stride 3": (lambda x, k: conv.valid_conv2d(x, k, 3), plain("valid", 3), (3, 12, 15, 3), 5, 4),
    "transposed 5x5": (conv.transposed_conv2d, plain("transposed", 2), (3, 5, 4, 6), 5, 4),
    "transposed 6x6": (conv.transposed_conv2d, plain("transposed", 2), (3, 4, 6, 6), 6, 3),
    "transposed, one pixel": (conv.transposed_conv2d, plain("transposed", 2), (3, 1, 1, 9), 5, 3),
    "transposed, stride 3": (lambda x, k: conv.transposed_conv2d(x, k, 3), plain("transposed", 3), (2, 4, 3, 6), 4, 3),
    "insert 3x3": (conv.insert_conv2d, plain("insert"), (3, 4, 4, 6), 3, 3),
}


def data(shape, size, out, seed=0):
    rng = np.random.default_rng(seed)
    x, kernel = rng.normal(size=shape), rng.normal(size=(size, size, shape[-1], out)) / size
    return jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32)


def value_and_gradients(f):
    """Output and both gradients of a loss that weighs every output differently."""

    def run(x, kernel):
        y, back = jax.vjp(f, x, kernel)
        return y, *back(jnp.cos(jnp.arange(1.0 * y.size)).reshape(y.shape).astype(y.dtype))

    return jax.jit(run)


def assert_close(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5 * np.abs(b).max())


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_equal_the_plain_convolution(case):
    ours, theirs, *sizes = CASES[case]
    assert_close(value_and_gradients(ours)(*data(*sizes)), value_and_gradients(theirs)(*data(*sizes)))


@pytest.mark.parametrize(
    "case", ["image", "many channels", "stride 2", "upsample", "insert", "valid", "transposed 5x5"]
)
def test_vmap_over_kernels_and_images_equals_one_call_each(case):
    ours, theirs, *sizes = CASES[case]
    many = [jnp.stack(a) for a in zip(*(data(*sizes, seed=s) for s in range(3)), strict=True)]
    one_each = [value_and_gradients(theirs)(x, k) for x, k in zip(*many, strict=True)]
    batched = jax.vmap(value_and_gradients(ours))(*many)
    assert_close(batched, [jnp.stack(a) for a in zip(*one_each, strict=True)])


@pytest.mark.parametrize(
    "case", ["image", "many channels", "stride 2", "upsample", "insert", "valid", "transposed 5x5"]
)
def test_learning_inside_a_scan_equals_learning_outside(case):
    ours, theirs, *sizes = CASES[case]
    x, kernel = data(*sizes)
    loss = lambda f: lambda k: jnp.square(f(x, k)).mean()  # noqa: E731
    step = lambda k, _: (k - 0.1 * jax.grad(loss(ours))(k), None)  # noqa: E731
    inside = jax.jit(lambda k: lax.scan(step, k, length=3)[0])(kernel)
    outside = kernel
    for _ in range(3):
        outside = outside - 0.1 * jax.grad(loss(theirs))(outside)
    assert_close([inside], [outside])


def test_kernel_gradient_over_many_chunks(monkeypatch):
    monkeypatch.setattr(conv, "CHUNK", 0)
    x, kernel = data((8, 16, 16, 20), 5, 4)
    program = jax.jit(lambda x, k: jax.vjp(conv.conv2d, x, k)[1](jnp.ones((8, 16, 16, 4))))
    assert "while" in program.lower(x, kernel).as_text()
    theirs = jax.vjp(plain("conv"), x, kernel)[1](jnp.ones((8, 16, 16, 4)))
    assert_close(program(x, kernel), theirs)


@pytest.mark.parametrize("case", ["valid", "transposed 5x5"])
def test_a_few_images_at_a_time(case, monkeypatch):
    ours, theirs, (_, *shape), *sizes = CASES[case]
    monkeypatch.setattr(conv_products, "PART", 5000)
    arguments = data((13, *shape), *sizes)
    assert "while" in value_and_gradients(ours).lower(*arguments).as_text()
    assert_close(value_and_gradients(ours)(*arguments), value_and_gradients(theirs)(*arguments))


def test_transposed_is_the_adjoint_of_valid():
    _, kernel = data((1, 1, 1, 6), 5, 4)
    x, y = (jnp.asarray(np.random.default_rng(1).normal(size=s), jnp.float32) for s in ((2, 3, 4, 6), (2, 9, 11, 4)))
    ours = (conv.transposed_conv2d(x, kernel) * y).sum()
    np.testing.assert_allclose(ours, (x * conv.valid_conv2d(y, kernel.swapaxes(2, 3))).sum(), rtol=1e-4)


def test_leading_axes_are_batch_axes():
    x, kernel = data((6, 8, 8, 3), 5, 4)
    assert_close(
        [conv.conv2d_pool(x.reshape(2, 3, 8, 8, 3), kernel)], [conv.conv2d_pool(x, kernel).reshape(2, 3, 4, 4, 4)]
    )


def test_bfloat16_stays_bfloat16():
    x, kernel = data((2, 8, 8, 3), 5, 4)
    outputs = value_and_gradients(conv.upsample_conv2d)(x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16))
    assert [a.dtype for a in outputs] == [jnp.bfloat16] * 3
    for a, b in zip(outputs, value_and_gradients(plain("upsample"))(x, kernel), strict=True):
        np.testing.assert_allclose(a.astype(jnp.float32), b, atol=0.03 * np.abs(b).max())


def test_pool_is_the_maximum_and_ties_share_its_gradient():
    def pooled(y):
        n, h, w, c = y.shape
        return y.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))

    y = jnp.asarray(np.random.default_rng(0).integers(0, 3, (2, 6, 8, 3)), jnp.float32)
    weights = jnp.cos(jnp.arange(2 * 3 * 4 * 3.0)).reshape(2, 3, 4, 3)
    ours, theirs = (jax.vjp(f, y) for f in (conv.max_pool, pooled))
    assert_close([ours[0], *ours[1](weights)], [theirs[0], *theirs[1](weights)])
    x, kernel = data((2, 8, 8, 3), 5, 4)
    together = value_and_gradients(lambda x, k: pooled(conv.PLAIN["conv"](x, k, 1)))
    assert_close(value_and_gradients(conv.conv2d_pool)(x, kernel), together(x, kernel))


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_accelerators_get_the_plain_convolution(platform):
    """Lowered for another platform on this machine: plain convolutions only, no blocks, no loop of patches."""
    ours, theirs, *sizes = CASES["image"]
    arguments = data(*sizes)

    def convolutions(f):
        text = value_and_gradients(f).trace(*arguments).lower(lowering_platforms=(platform,)).as_text()
        assert "while" not in text
        return sorted(line.split(" : ")[-1] for line in text.splitlines() if "stablehlo.convolution" in line)

    assert convolutions(ours) == convolutions(theirs)
    assert len(convolutions(ours)) == 3


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
def test_vmap_over_kernels_makes_no_grouped_convolution(platform):
    ours, _, *sizes = CASES["image"]
    many = [jnp.stack([a, a]) for a in data(*sizes)]
    program = jax.jit(jax.vmap(value_and_gradients(ours)))
    text = program.trace(*many).lower(lowering_platforms=(platform,)).as_text()
    groups = {
        line.split("feature_group_count = ")[1].split(" ")[0] for line in text.splitlines() if "group_count" in line
    }
    assert groups == {"1"}
