"""Facts of the paper and its code: sizes, parameter counts, losses, sampling, dreams, controllers."""

import json
from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from papers.world_models import config, controller, dream, evolve, jobs, mdnrnn, policies, vae
from papers.world_models.config import CAR, DOOM, ControllerConfig, MDNRNNConfig, VAEConfig
from repro.config import to_json
from repro.errors import RunError
from repro.paths import ROOT

SMALL = MDNRNNConfig(latent=4, action=1, hidden=8, predict_restart=True)


init_vae = jax.jit(vae.init, static_argnums=1)
init_rnn = jax.jit(mdnrnn.init, static_argnums=1)


def size(shapes):
    return sum(int(np.prod(s)) for s in shapes.values())


def test_parameter_counts_are_those_of_the_paper():
    car, doom = config.paper(CAR, "carracing_v0"), config.paper(DOOM, "take_cover")
    assert size(vae.shapes(car.vae)) == 4_348_547 and size(vae.shapes(doom.vae)) == 4_446_915
    assert size(mdnrnn.shapes(car.rnn)) == 422_368 and size(mdnrnn.shapes(doom.rnn)) == 1_678_785
    assert size(mdnrnn.shapes(MDNRNNConfig(layer_norm=True))) == 423_904
    assert controller.count(car.controller, car.rnn) == 867 and controller.count(doom.controller, doom.rnn) == 1_088
    assert controller.count(ControllerConfig("z"), car.rnn) == 99
    assert controller.count(ControllerConfig("z", hidden=40), car.rnn) == 1_443


def test_sizes_of_the_images_on_their_way():
    of = VAEConfig(latent=3, encoder_filters=(2, 2, 2, 2), decoder_width=5, decoder_filters=(2, 2, 2))
    params = init_vae(jax.random.key(0), of)
    assert {n: p.shape for n, p in params.items()} == vae.shapes(of)
    assert params["enc_fc_mu/kernel"].shape == (2 * 2 * 2, 3)  # 64 -> 31 -> 14 -> 6 -> 2
    assert jax.eval_shape(vae.decode, params, jnp.zeros((7, 3))).shape == (7, 64, 64, 3)


def test_initial_weights_fill_the_glorot_range():
    of = config.paper(CAR, "carracing_v0")
    for params, limits in (
        (init_vae(jax.random.key(0), of.vae), {"enc_conv1/kernel": 0.1035, "dec_deconv1/kernel": 0.0144}),
        (init_rnn(jax.random.key(0), of.rnn), {"lstm/kernel_h": 0.0675, "lstm/bias": 0.054, "head/kernel": 0.0903}),
    ):
        for name, limit in limits.items():
            assert float(jnp.abs(params[name]).max()) == pytest.approx(limit, rel=0.02), name


def test_the_floor_of_the_kl_holds_for_every_sample_and_stops_its_gradient():
    of = VAEConfig(latent=32, encoder_filters=(2, 2, 2, 2), decoder_width=4, decoder_filters=(2, 2, 2))
    params = init_vae(jax.random.key(0), of)
    images, normal = jnp.full((3, 64, 64, 3), 0.5), jnp.zeros((3, 32))
    losses = jax.jit(vae.loss)(params, images, normal, 0.5)
    assert float(losses.kl) == 16 and float(losses.kl_per_sample.max()) < 16
    gradient = jax.jit(jax.grad(lambda p: vae.loss(p, images, normal, 0.5).kl))(params)
    assert all(not g.any() for g in gradient.values())


def test_likelihood_of_a_standard_normal():
    mixture = mdnrnn.Mixture(*(jnp.zeros((1000, 5, 2)) for _ in range(3)))
    target = jax.random.normal(jax.random.key(0), (1000, 2))
    exact = 0.5 * np.log(2 * np.pi) + 0.5 * np.square(target).mean()
    assert float(-mdnrnn.log_likelihood(mixture, target).mean()) == pytest.approx(exact, rel=1e-5)
    zero = mdnrnn.log_likelihood(mixture, jnp.ones((1000, 2)))
    assert float(-zero.mean()) == pytest.approx(1.4189, abs=1e-4)
    shifted = mdnrnn.log_likelihood(mixture._replace(logits=mixture.logits + 3), jnp.ones((1000, 2)))
    np.testing.assert_allclose(zero, shifted, rtol=1e-6)


def test_the_forget_bias_is_one():
    params = {"lstm/kernel_h": jnp.zeros((8, 32))}
    c, _ = mdnrnn.cell(params, jnp.zeros((1, 32)), (jnp.ones((1, 8)), jnp.zeros((1, 8))))
    np.testing.assert_allclose(c, 0.731059, rtol=1e-5)


def test_unrolled_cell_and_its_gradient_by_hand_are_those_of_the_cell_step_by_step():
    of = MDNRNNConfig(latent=3, action=1, hidden=5)
    params, key = init_rnn(jax.random.key(0), of), jax.random.key(1)
    inputs, restart = jax.random.normal(key, (6, 2, 20)), (jnp.arange(12).reshape(6, 2) % 4 == 0).astype(jnp.float32)
    state, to = [tuple(jax.random.normal(jax.random.key(i), (2, 2, 5))) for i in (2, 3)]

    def plain(params, inputs, state, to):
        found = []
        for x, again in zip(inputs, restart, strict=True):
            state = tuple(jnp.where(again[:, None] > 0.5, new, old) for new, old in zip(to, state, strict=True))
            state = mdnrnn.cell(params, x, state)
            found.append(state[1])
        return jnp.stack(found), state

    unroll = lambda params, inputs, state, to: mdnrnn.unroll(params, inputs, state, restart, to)  # noqa: E731
    weigh = lambda h, last: (h * jnp.cos(jnp.arange(h.size)).reshape(h.shape)).sum() + last[0].sum()  # noqa: E731
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)  # noqa: E731
    arguments = (params, inputs, state, to)
    jax.tree.map(close, unroll(*arguments), plain(*arguments))
    ours, theirs = (jax.grad(lambda *a, f=f: weigh(*f(*a)), argnums=(0, 1, 2, 3))(*arguments) for f in (unroll, plain))
    jax.tree.map(close, ours, theirs)


def test_temperature():
    random = np.random.default_rng(0)
    mixture = mdnrnn.Mixture(*(jnp.asarray(random.normal(size=(1, 5, 3)), jnp.float32) for _ in range(3)))
    n = 20_000
    uniform, normal = jnp.asarray(random.random((n, 3))), jnp.asarray(random.standard_normal((n, 3)))
    draw = lambda tau, u, x: mdnrnn.sample(mixture, jnp.float32(tau), u, x)  # noqa: E731
    likeliest = np.take_along_axis(mixture.mean[0], np.argmax(mixture.logits[0], 0)[None], 0)
    np.testing.assert_allclose(draw(1e-4, uniform, 0 * normal), np.broadcast_to(likeliest, (n, 3)), rtol=1e-6)
    np.testing.assert_allclose(draw(1.0, jnp.full((1, 3), 1 - 1e-9), jnp.zeros((1, 3))), mixture.mean[:, -1], rtol=1e-6)
    for tau in (0.5, 1.3):
        weights = jax.nn.softmax(mixture.logits[0] / tau, 0)
        mean = (weights * mixture.mean[0]).sum(0)
        variance = (weights * (jnp.square(mixture.mean[0]) + tau * jnp.exp(2 * mixture.log_std[0]))).sum(0) - mean**2
        found = draw(tau, uniform, normal)
        np.testing.assert_allclose(found.mean(0), mean, atol=5 * np.sqrt(variance.max() / n))
        np.testing.assert_allclose(found.var(0), variance, rtol=0.1)


# ---- the dream ------------------------------------------------------------------------------------------------------


def dreams(bias, count=300, steps=40, key=0):
    params = init_rnn(jax.random.key(0), SMALL)
    params["head/bias"] = params["head/bias"].at[0].set(bias)
    first = jax.random.normal(jax.random.key(1), (2, 20, 4))
    controllers = jax.random.normal(jax.random.key(2), (count, 4 + 16))
    of = (params, SMALL, ControllerConfig("zch", bias=False), dream.starts(*first), controllers)
    return of, np.asarray(dream.lengths(*of, jnp.float32(1.0), jax.random.key(key), steps))


def test_the_restart_logit_alone_ends_a_dream():
    assert (dreams(-100.0)[1] == 40).all() and (dreams(100.0)[1] == 1).all()


def test_a_generation_in_one_program_has_the_lengths_of_single_dreams():
    """Moving live roll-outs together changes nothing but their random numbers: the lengths have one distribution."""
    of, found = dreams(0.0, count=600, steps=60)
    params, _, kind, starts, controllers = of
    key = jax.random.key(5)
    state = dream.reset(SMALL, starts, jax.random.randint(key, (600,), 0, 20), jax.random.normal(key, (600, 4)))
    alive, lengths = jnp.ones(600, bool), jnp.zeros(600, int)
    step = jax.jit(lambda state, action, u, n: dream.step(params, SMALL, state, action, jnp.float32(1.0), u, n))
    for t in range(60):
        a, b = jax.random.split(jax.random.key(100 + t))
        action = controller.act(kind, controllers, controller.features(kind, state.latent, state.cell, state.hidden), 1)
        state, done = step(state, action, jax.random.uniform(a, (600, 4)), jax.random.normal(b, (600, 4)))
        lengths, alive = lengths + alive, alive & ~done
    assert 1 < found.mean() < 59  # something to compare
    spread = np.sqrt((found.var() + lengths.var()) / 600)
    assert abs(found.mean() - lengths.mean()) < 4 * spread
    assert abs(np.sqrt(found).mean() - np.sqrt(lengths).mean()) < 4 * np.sqrt((np.sqrt(found).var() * 2) / 600)
    assert len(dream._sizes(600)) > 3  # they were moved


def test_each_controller_gets_its_own_result_back():
    params = init_rnn(jax.random.key(0), SMALL)
    # The restart logit is the action: M's cell passes it on, with a large weight and nothing else.
    params = jax.tree.map(jnp.zeros_like, params)
    params["lstm/kernel_x"] = params["lstm/kernel_x"].at[4, 8:16].set(50.0)
    params["lstm/bias"] = jnp.concatenate([jnp.full(8, 50.0), jnp.zeros(8), jnp.full(8, -50.0), jnp.full(8, 50.0)])
    params["head/kernel"] = params["head/kernel"].at[:, 0].set(1.0)
    starts = dream.Starts(jnp.full((1, 4), 10_000), jnp.full((1, 4), -1_000_000))
    ends = np.random.default_rng(0).permutation(np.arange(400) % 2 == 0)
    controllers = jnp.zeros((400, 20)).at[:, 0].set(jnp.where(ends, 5.0, -5.0))
    found = dream.lengths(
        params, SMALL, ControllerConfig("zch", bias=False), starts, controllers, jnp.float32(0.1), jax.random.key(0), 24
    )
    assert (np.asarray(found)[ends] == 1).all() and (np.asarray(found)[~ends] > 1).all()


def test_every_dream_can_have_its_own_temperature():
    of, same = dreams(0.0, steps=30)
    lengths = lambda tau: np.asarray(dream.lengths(*of, tau, jax.random.key(0), 30))  # noqa: E731
    np.testing.assert_array_equal(lengths(jnp.full(300, 1.0)), same)
    # Wide mixtures reach the end sooner than their means do: the two halves are those of the two temperatures.
    hot = jnp.where(jnp.arange(300) % 2, 400.0, 1e-3)
    halves = [lengths(hot)[i::2] for i in (0, 1)]
    whole = [lengths(jnp.float32(tau)) for tau in (1e-3, 400.0)]
    spread = max(x.std() for x in whole) / 150**0.5
    assert abs(whole[0].mean() - whole[1].mean()) > 4 * spread
    assert all(abs(half.mean() - both.mean()) < 4 * spread for half, both in zip(halves, whole, strict=True))


# ---- C and the policies ---------------------------------------------------------------------------------------------


def test_controllers_of_zero_and_their_limits():
    rnn, kind = MDNRNNConfig(), ControllerConfig()
    x = jax.random.normal(jax.random.key(0), (6, controller.width(kind, rnn)))
    rest = controller.controls(controller.act(kind, jnp.zeros(867), x, 3))
    np.testing.assert_array_equal(rest, np.broadcast_to([0, 0.5, 0], (6, 3)))
    wild = controller.controls(controller.act(kind, 3 * jax.random.normal(jax.random.key(1), (6, 867)), x, 3))
    assert (np.abs(wild[:, 0]) <= 1).all() and (wild[:, 1:] >= 0).all() and (wild[:, 1:] <= 1).all()


def test_a_controller_for_each_row_equals_one_at_a_time():
    rnn = MDNRNNConfig(latent=3, hidden=4)
    for kind in (ControllerConfig("zch", bias=False), ControllerConfig("z", hidden=5)):
        params = jax.random.normal(jax.random.key(0), (6, controller.count(kind, rnn)))
        x = jax.random.normal(jax.random.key(1), (6, controller.width(kind, rnn)))
        single = [controller.act(kind, p, row, 3) for p, row in zip(params, x, strict=True)]
        np.testing.assert_allclose(controller.act(kind, params, x, 3), single, rtol=1e-5)


def test_larger_weights_cost_less_by_the_released_sign():
    assert float(evolve.cost(jnp.ones((1, 4)), jnp.array([5.0]), 0.01)[0]) == pytest.approx(-5.01)


def test_the_random_agent_drives_at_half_throttle():
    of = config.paper(CAR, "carracing_v0")
    raw = np.stack([policies.episode_actions(of, of.collect, 0, 0, e) for e in range(40)])
    seen = policies.for_model(of, raw)
    assert raw.shape == (40, 1000, 3) and seen[..., 1].mean() == pytest.approx(0.5, abs=0.05)
    assert (seen[..., 2] >= 0).all() and abs(seen[..., 0].mean()) < 0.1
    again = policies.episode_actions(of, of.collect, 0, 0, 7)
    np.testing.assert_array_equal(raw[7], again)


def test_held_actions_change_in_three_frames_of_ten():
    of = config.paper(DOOM, "take_cover")
    actions = np.stack([policies.episode_actions(of, of.collect, 3, 1, e) for e in range(10)])[..., 0]
    changes = (np.diff(actions) != 0).mean()
    assert changes == pytest.approx(0.29, abs=0.02)
    assert (np.abs(actions) <= 1).all() and abs(actions.mean()) < 0.1


def test_a_share_of_the_roll_outs_sweeps_from_side_to_side():
    of = config.paper(DOOM, "take_cover")
    held, mixed, sweeps = (
        np.stack([policies.episode_actions(of, replace(of.collect, sweeps=share), 3, 1, e)[:, 0] for e in range(40)])
        for share in (0.0, 0.5, 1.0)
    )
    changes = np.array([(np.diff(actions) != 0).sum() for actions in mixed])
    # A sweeping player acts anew every 40 to 150 frames, another one every three or four.
    assert set(changes < 60) == {True, False} and 10 < (changes < 60).sum() < 30
    for actions in sweeps:
        moves = np.where(np.abs(actions) > policies.THIRD, np.sign(actions), 0)
        turns = np.flatnonzero(np.diff(moves)) + 1
        parts = [(moves[first], last - first) for first, last in zip(turns[:-1], turns[1:], strict=True)]
        sides = [side for side, _ in parts if side]
        assert all(side == -before for before, side in zip(sides[:-1], sides[1:], strict=True))
        assert all(48 <= count < 144 if side else count <= 30 for side, count in parts)
    assert (sweeps[:, 0] < 0).any() and (sweeps[:, 0] > 0).any() and (np.abs(sweeps) <= 1).all()
    # Nothing is drawn for a share of 0: roll-outs of earlier runs stay what they were.
    generator = np.random.default_rng([3, 1, 0])
    draws = policies.new_action_frames(generator.integers(1, of.collect.hold + 1, held.shape[1] + 1), held.shape[1])
    assert set(np.flatnonzero(np.diff(held[0]))) == set(np.flatnonzero(draws[1:]))


@pytest.mark.parametrize(("suite", "task", "share"), [(DOOM, "take_cover", 1.5), (CAR, "carracing_v0", 0.5)])
def test_shares_that_make_no_sense(suite, task, share):
    with pytest.raises(ValueError, match="sweeps"):
        replace(config.paper(suite, task).collect, sweeps=share)


def test_the_fast_preset_has_the_settings_of_the_run_that_solves_take_cover():
    record = ROOT / "results/runs/world_models" / DOOM / "take_cover/2bd2f2f14d2e.json"
    recorded = json.loads(record.read_text())["config"]
    fast = json.loads(json.dumps(to_json(config.fast(DOOM, "take_cover"))))
    assert {name for name in fast if fast[name] != recorded[name]} == {"preset", "stages"}


def test_frames_for_v_are_drawn_once_and_are_all_there():
    frames = np.arange(40, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    one, again, other = (jobs.drawn(25, seed, frames)[:, 0, 0, 0] for seed in (0, 0, 1))
    assert len(set(one)) == 25 and (np.diff(one.astype(int)) > 0).all()
    assert (one == again).all() and set(one) != set(other)
    assert jobs.drawn(0, 0, frames) is frames
    with pytest.raises(RunError, match="40 frames were collected, fewer than vae.frames=41"):
        jobs.drawn(41, 0, frames)
    with pytest.raises(ValueError, match="at least batch"):
        config.VAEConfig(frames=99)


def test_m_of_several_seeds_in_one_program_learns_what_each_learns_alone():
    of = config.MDNRNNConfig(
        latent=4, action=1, hidden=8, mixtures=2, predict_restart=True, batch=3, length=5, updates=4
    )
    full = replace(config.paper(DOOM, "take_cover"), rnn=of, vae=VAEConfig(latent=of.latent))

    def job(seed):
        random = np.random.default_rng(seed)
        lengths = random.integers(8, 20, 9 + seed)
        size = (lengths.sum(), of.latent)
        series = {name: random.standard_normal(size).astype(np.float16) for name in ("mu", "logvar")}
        actions = random.uniform(-1, 1, (size[0], 1)).astype(np.float16)
        return jobs.TrainRNN(full, seed, {"lengths": lengths, "actions": actions}, series)

    alone, together = [job(0), job(1)], jobs.TrainRNNs([job(0), job(1)])
    # Epochs of different lengths: each seed starts its own anew.
    assert alone[0].per_epoch != alone[1].per_epoch
    for number in range(2 * max(one.per_epoch for one in alone)):
        losses = [one.step(number)["loss"] for one in alone]
        np.testing.assert_allclose(together.step(number)["loss"], losses, rtol=1e-4)
    for seed, one in enumerate(alone):
        state = jax.tree.map(lambda x, seed=seed: x[seed], together.state)
        chex.assert_trees_all_close(state, one.state, rtol=1e-4, atol=1e-6)


def test_pieces_follow_one_another_in_rows():
    lengths = np.array([7, 12, 5])
    first = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    rows = jobs.pieces(first, lengths, np.array([2, 0, 1]), batch=2, length=4)
    assert rows.shape == (3, 2, 4)
    joined = np.concatenate([np.arange(19, 24), np.arange(7), np.arange(7, 19)])[:24].reshape(2, 12)
    np.testing.assert_array_equal(rows.swapaxes(0, 1).reshape(2, 12), joined)


def test_learning_rate_of_the_doom_model():
    of = config.paper(DOOM, "take_cover").rnn
    assert float(mdnrnn.learning_rate(of, jnp.float32(24_380))) == pytest.approx(7.8577e-4, rel=1e-4)
    assert float(mdnrnn.learning_rate(config.paper(CAR, "carracing_v0").rnn, jnp.float32(3_999))) == pytest.approx(1e-3)
