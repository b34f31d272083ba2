"""Parts of the vision transformer: facts of the official one, and that ways to compute change nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repro.nn import vit
from repro.nn.vit import Compute

SHAPES = vit.block_shapes(8, 3, 16)
PARAMS = {name: 5 * p for name, p in vit.init(jax.random.key(0), SHAPES).items()}
TOKENS = jax.random.normal(jax.random.key(1), (2, 5, 8))


def run(compute: Compute, valid=None):
    return jax.jit(lambda p, x: vit.blocks(p, x, 2, valid, compute))(PARAMS, TOKENS)


def test_the_table_encodes_the_column_first_then_the_row_sines_before_cosines():
    second = vit.sincos_table((4, 4), 16)[1]  # row 0, column 1
    angles = 10_000.0 ** (-np.arange(4) / 4)
    expected = np.concatenate([np.sin(angles), np.cos(angles), np.zeros(4), np.ones(4)])
    np.testing.assert_allclose(second, expected, atol=1e-7)
    with pytest.raises(ValueError, match="multiple of 4, not 6"):
        vit.sincos_table((2, 2), 6)


def test_patches_are_row_major_and_whole():
    image = np.arange(4 * 6 * 3).reshape(1, 4, 6, 3)
    cut = np.asarray(vit.patches(jnp.asarray(image), 2))
    assert cut.shape == (1, 6, 12)
    np.testing.assert_array_equal(cut[0, 4].reshape(2, 2, 3), image[0, 2:4, 2:4])


def test_every_kernel_starts_with_the_same_spread_whatever_its_depth():
    params = vit.init(jax.random.key(0), vit.block_shapes(64, 4, 256))
    for name, p in params.items():
        if name.endswith("kernel"):
            np.testing.assert_allclose(p.std((1, 2)), 0.02, rtol=0.05)
        else:
            assert (p == name.endswith("scale")).all()


def test_a_constant_in_the_bias_of_the_keys_changes_nothing():
    shifted = PARAMS | {"qkv/bias": PARAMS["qkv/bias"].at[:, 8:16].add(3.0)}
    other = vit.blocks(shifted, TOKENS, 2, None, Compute())
    np.testing.assert_allclose(run(Compute()), other, atol=2e-5)


def test_padding_is_never_attended_to():
    valid = jnp.array([[True] * 3 + [False] * 2] * 2)
    short = jax.jit(lambda p, x: vit.blocks(p, x, 2, None, Compute()))(PARAMS, TOKENS[:, :3])
    np.testing.assert_allclose(run(Compute(), valid)[:, :3], short, atol=1e-5)


@pytest.mark.parametrize(
    ("compute", "tolerance"),
    [
        (Compute(remat=True), 1e-5),
        (Compute(unroll=0), 1e-5),
        (Compute(factors=jnp.bfloat16), 0.03),
        (Compute(jnp.bfloat16, jnp.bfloat16), 0.06),
    ],
)
def test_other_ways_to_compute_give_the_same_output_and_gradient(compute, tolerance):
    def loss(params, compute):
        return jnp.square(vit.blocks(params, TOKENS, 2, None, compute)).mean()

    expected = jax.jit(jax.value_and_grad(loss), static_argnums=1)(PARAMS, Compute())
    found = jax.jit(jax.value_and_grad(loss), static_argnums=1)(PARAMS, compute)
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        assert b.dtype == jnp.float32
        assert np.abs(a - b).max() <= tolerance * max(1e-2, np.abs(a).max())


def test_outputs_end_where_blocks_end():
    *_, last = vit.outputs(PARAMS, TOKENS, 2, Compute())
    np.testing.assert_allclose(last, run(Compute()), atol=1e-5)


@pytest.mark.parametrize("compute", [Compute(), Compute(remat=True)])
def test_the_last_tokens_alone_are_those_of_all(compute):
    valid = jnp.array([[1, 1, 0, 1, 1], [1, 1, 1, 1, 1]], bool)

    def of(last):
        loss = lambda p, x: jnp.square(vit.blocks(p, x, 2, valid, compute, last)[:, -2:]).sum()  # noqa: E731
        return jax.jit(jax.value_and_grad(loss, (0, 1)))(PARAMS, TOKENS)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), of(2), of(None))


@pytest.mark.parametrize(("depth", "last", "remat"), [(1, None, False), (1, 2, False), (3, None, True), (3, 2, False)])
def test_queries_keys_and_values_of_the_first_block_may_be_given(depth, last, remat):
    params, compute = {name: p[:depth] for name, p in PARAMS.items()}, Compute(remat=remat)

    def of(given):
        def loss(p, x):
            first = vit.first_queries_keys_values(p, x, 2, compute) if given else None
            return jnp.square(vit.blocks(p, x, 2, None, compute, last, first)).sum()

        return jax.jit(jax.value_and_grad(loss, (0, 1)))(params, TOKENS)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), of(True), of(False))


@pytest.mark.parametrize(
    ("compute", "tolerance"),
    [(Compute(), 1e-5), (Compute(jnp.bfloat16), 0.02), (Compute(jnp.bfloat16, jnp.bfloat16), 0.02)],
)
def test_gelu_before_a_product_and_its_gradients_are_those_of_the_plain_formulas(compute, tolerance):
    x, kernel = 2 * TOKENS[0].astype(compute.products), PARAMS["fc1/kernel"][0]
    plain = lambda x, kernel: jax.nn.gelu(x.astype(jnp.float32), approximate=False) @ kernel  # noqa: E731
    ours, pull = jax.vjp(lambda x, kernel: vit.gelu_linear(x, kernel, compute), x, kernel)
    theirs, pull_plain = jax.vjp(plain, x, kernel)
    upstream = jnp.cos(jnp.arange(theirs.size, dtype=jnp.float32)).reshape(theirs.shape)
    pairs = [(ours, theirs), *zip(pull(upstream.astype(ours.dtype)), pull_plain(upstream), strict=True)]
    for a, b in pairs:
        assert np.abs(np.float32(a) - np.float32(b)).max() <= tolerance * np.abs(np.float32(b)).max()


def test_gradients_by_hand_are_those_of_the_plain_formulas():
    def normed(x):
        y = x - x.mean(-1, keepdims=True)
        return y / jnp.sqrt(jnp.square(y).mean(-1, keepdims=True) + 1e-6)

    kernel, weight = PARAMS["fc1/kernel"][0], jnp.cos(jnp.arange(8.0))
    pairs = [
        (vit.gelu, lambda x: jax.nn.gelu(x, approximate=False)),
        (vit.layer_norm, normed),
        (lambda x: vit.product(x[0], kernel)[:, :8], lambda x: (x[0] @ kernel)[:, :8]),
    ]
    for ours, plain in pairs:
        found, expected = (jax.grad(lambda x, f=f: (f(x) * weight).sum())(TOKENS) for f in (ours, plain))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_and_its_gradient_by_hand_are_those_of_softmax(masked):
    of_q, of_k, of_v, of_g = jax.random.split(jax.random.key(5), 4)
    q, k = 3 * jax.random.normal(of_q, (2, 4, 3, 8)), jax.random.normal(of_k, (2, 6, 3, 8))
    v, upstream = jax.random.normal(of_v, (2, 6, 3, 5)), jax.random.normal(of_g, (2, 4, 3, 5))
    valid = jnp.arange(6) < jnp.array([[4], [6]]) if masked else None

    def plain(q, k, v):
        logits = jnp.einsum("bmad,bnad->bamn", q, k) / 8**0.5
        weights = jax.nn.softmax(logits if valid is None else jnp.where(valid[:, None, None], logits, -jnp.inf), -1)
        return jnp.einsum("bamn,bnad->bmad", weights, v)

    ours, pull = jax.vjp(lambda *x: vit.attend(*x, valid), q, k, v)
    theirs, pull_plain = jax.vjp(plain, q, k, v)
    np.testing.assert_allclose(ours, theirs, atol=2e-6)
    for a, b in zip(pull(upstream), pull_plain(upstream), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    if masked:
        assert not np.asarray(pull(upstream)[2][0, 4:]).any()
