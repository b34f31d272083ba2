"""Facts of the recurrent model, the encoder and the heads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from papers.dreamerv3.agent_config import EncoderConfig, HeadConfig, RSSMConfig, size
from papers.dreamerv3.networks import RSSM, Actor, ContinueHead, ScalarHead
from papers.dreamerv3.observations import Encoder
from repro.envs.base import Space
from repro.nn.params import Definition
from tests.papers.dreamerv3.agents import perturbed

CONFIG = RSSMConfig(deter=16, hidden=4, stoch=3, classes=4, blocks=4)
RSSM_DEFINITION = Definition(lambda draw: RSSM(CONFIG, 2, 5, draw=draw))
PARAMS = perturbed(RSSM_DEFINITION.init(jax.random.key(0)))
KEYS = jax.random.split(jax.random.key(1), 4)
DETER = jax.random.uniform(KEYS[0], (6, 16), minval=-1.0)
STOCH = jax.nn.one_hot(jax.random.randint(KEYS[1], (6, 3), 0, 4), 4).reshape(6, 12)
TOKENS = jax.random.normal(KEYS[2], (6, 7, 5))
NOISE = jax.random.uniform(KEYS[3], (6, 7, 3))


@jax.jit
def observe(deter, action, reset):
    return RSSM_DEFINITION.bind(PARAMS).observe((deter, STOCH), TOKENS, action, reset, NOISE)


@jax.jit
def core(action):
    rssm = RSSM_DEFINITION.bind(PARAMS)
    return rssm.core(DETER, STOCH, rssm.action_part(action))


def test_after_a_reset_neither_earlier_state_nor_action_matters():
    reset = jnp.zeros((6, 7), bool).at[:, 3].set(True)
    one = observe(DETER, jnp.ones((6, 7, 2)), reset)
    two = observe(-DETER, jnp.ones((6, 7, 2)).at[:, :4].set(-0.5), reset)
    assert not np.allclose(one.deter[:, 2], two.deter[:, 2])
    np.testing.assert_array_equal(one.deter[:, 3:], two.deter[:, 3:])


def test_actions_count_up_to_one():
    np.testing.assert_allclose(core(jnp.full((6, 2), 3.7)), core(jnp.ones((6, 2))), rtol=1e-5, atol=1e-6)
    assert not np.allclose(core(jnp.full((6, 2), 0.5)), core(jnp.ones((6, 2))))


def test_recurrent_units_stay_between_minus_one_and_one():
    out = observe(DETER, jnp.ones((6, 7, 2)), jnp.zeros((6, 7), bool))
    assert float(abs(out.deter).max()) < 1


def test_the_sampled_latents_are_one_hot_and_match_their_indices():
    out = observe(DETER, jnp.ones((6, 7, 2)), jnp.zeros((6, 7), bool))
    stoch = np.asarray(out.stoch).reshape(6, 7, 3, 4)
    np.testing.assert_array_equal(stoch.argmax(-1), out.index)
    np.testing.assert_allclose(stoch, np.eye(4)[np.asarray(out.index)], atol=1e-6)


def test_filtering_a_sequence_is_filtering_its_steps():
    reset = jnp.zeros((6, 7), bool).at[2, 4].set(True)
    action = jax.random.normal(jax.random.key(7), (6, 7, 2))
    together = observe(DETER, action, reset)
    rssm, carry = RSSM_DEFINITION.bind(PARAMS), (DETER, STOCH)
    for t in range(7):
        step = rssm.observe_step(carry, TOKENS[:, t], action[:, t], reset[:, t], NOISE[:, t])
        carry = (step.deter, step.stoch)
        np.testing.assert_allclose(step.deter, together.deter[:, t], rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(step.index, together.index[:, t])


@pytest.mark.parametrize(("name", "image", "tokens"), [("1M", 64, 16 * 4 * 4), ("12M", 96, 36 * 4 * 16)])
def test_encoder_output_is_the_last_map(name, image, tokens):
    space = {"image": Space((image, image, 3), "uint8")}
    made = []
    Definition(lambda draw: made.append(Encoder(size(name).encoder, space, draw=draw)) or made[0])
    assert made[0].size == tokens


def test_encoder_concatenates_vectors_before_images_and_squashes_them():
    spaces = {"a_image": Space((16, 16, 1), "uint8"), "v": Space((2,))}
    config = EncoderConfig(units=3, depth=1, mults=(1, 2))
    definition = Definition(lambda draw: Encoder(config, spaces, draw=draw))
    encoder = definition.bind(definition.init(jax.random.key(0)))
    obs = {"a_image": jnp.zeros((2, 16, 16, 1), jnp.uint8), "v": jnp.array([[1e30, 0.0], [1.0, -2.0]])}
    tokens = encoder(obs, jnp.float32)
    assert tokens.shape == (2, 3 + 4 * 4 * 2)
    # Two rows of one product need not be summed in the same order.
    np.testing.assert_allclose(tokens[0, 3:], tokens[1, 3:], rtol=1e-5)
    assert np.isfinite(np.asarray(tokens)).all() and not np.allclose(tokens[0, :3], tokens[1, :3])


def test_fresh_heads_predict_exactly_zero_and_near_uniform_actions():
    features = (jax.random.normal(KEYS[0], (50, 16)), jax.random.normal(KEYS[1], (50, 12)))
    for layers in (1, 3):
        config = HeadConfig(layers=layers, units=8, outscale=0.0)
        definition = Definition(lambda draw, config=config: ScalarHead(config, 28, draw=draw))
        head = definition.bind(definition.init(jax.random.key(2)))(features)
        np.testing.assert_array_equal(head.mean(), 0.0)
        np.testing.assert_allclose(head.loss(jnp.linspace(-9, 9, 50)), 5.5413, atol=1e-4)
    spaces = {"button": Space((), "int32", 18), "stick": Space((2,))}
    definition = Definition(lambda draw: Actor(size("1M").actor, 28, spaces, draw=draw))
    policy = definition.bind(definition.init(jax.random.key(3)))(features)
    np.testing.assert_allclose(policy["button"].entropy(), np.log(18), atol=1e-3)
    np.testing.assert_allclose(policy["stick"].mean, 0.0, atol=0.1)
    np.testing.assert_allclose(policy["stick"].std, 0.8927, atol=0.01)


def test_the_continue_head_is_a_probability_per_state():
    definition = Definition(lambda draw: ContinueHead(HeadConfig(layers=1, units=4), 28, draw=draw))
    head = definition.bind(definition.init(jax.random.key(2)))((DETER, STOCH))
    assert head.prob().shape == (6,)
