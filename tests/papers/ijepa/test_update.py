"""One update: what it may depend on, what moves, and that parts, widths, seeds and devices change nothing."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from papers.ijepa import algorithm, losses, masks, networks
from papers.ijepa.config import CIFAR10, IMAGENET, MaskConfig, paper
from papers.ijepa.program import Program
from repro.data.transforms import normalise
from repro.nn import vit

sys.path.insert(0, str(Path(__file__).parent))
import small  # noqa: E402

ONE = small.config(seeds=1)
IMAGES = np.random.default_rng(0).integers(0, 256, (1, 8, 32, 32, 3), np.uint8)


def masks_of(config, index=0):
    size = jnp.asarray(masks.sizes(config.mask, config.grid, index))
    return masks.draw(config.mask, config.grid, jax.random.key(3), size, config.optim.batch)


def state_of(config, target_shift=0.1):
    state = algorithm.init(config, jax.random.key(0))
    online = {name: 4 * p if p.ndim > 1 else p for name, p in state.online.items()}
    return state._replace(online=online, target={n: p + target_shift for n, p in vit.under(online, "encoder").items()})


def step(config, index=1, seeds=(0,)):
    program = Program(config, list(seeds))
    images = np.repeat(IMAGES, len(seeds), 0)
    return program.jitted()(program.init(), images, algorithm.moment(config, 6, index), jnp.int32(index))


def essence(result):
    """What two updates are compared by: Adam makes a whole step of a gradient that is nothing but rounding, so
    gradients are compared, not parameters."""
    state, metrics = result
    return state.mu, metrics["loss"], metrics["gradient_norm"]


def same(a, b, tolerance=1e-5):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, atol=tolerance, rtol=tolerance)


def test_smooth_l1_of_normal_targets_against_nothing():
    normal = np.random.default_rng(0).normal(size=200_000)
    assert float(losses.smooth_l1(jnp.asarray(normal, jnp.float32)).mean()) == pytest.approx(0.42466, abs=2e-3)


def test_the_first_loss_is_that_of_normal_targets():
    _, metrics = step(ONE, 0)
    assert 0.41 < float(metrics["loss"][0]) < 0.47


def test_the_target_encoder_gets_no_gradient_and_moves_towards_the_updated_encoder():
    state = state_of(ONE)
    of_target = jax.grad(lambda t: algorithm.loss(state.online, t, ONE, normalise(IMAGES[0]), masks_of(ONE))[0])
    assert all(not g.any() for g in jax.tree.leaves(jax.jit(of_target)(state.target)))
    now = algorithm.moment(ONE, 6, 4)
    after, _ = jax.jit(partial(algorithm.update, config=ONE))(state, images=IMAGES[0], drawn=masks_of(ONE), now=now)
    for name, p in after.target.items():
        moved = state.target[name] + now.ema_rate * (after.online[f"encoder/{name}"] - state.target[name])
        np.testing.assert_allclose(p, moved, atol=1e-6)


def test_padding_does_not_change_the_loss():
    drawn, state = masks_of(ONE), state_of(ONE)
    images = normalise(jnp.asarray(IMAGES[0]))
    loss = jax.jit(lambda drawn: algorithm.loss(state.online, state.target, ONE, images, drawn)[0])
    longest, asked = int(drawn.context_count.max()), int(drawn.target_count)
    tight = drawn._replace(context=drawn.context[..., :longest], target=drawn.target[..., :asked])
    padded = drawn._replace(
        context=jnp.pad(tight.context, ((0, 0), (0, 0), (0, 5)), constant_values=7),
        target=jnp.pad(tight.target, ((0, 0), (0, 0), (0, 3)), constant_values=9),
    )
    assert float(loss(padded)) == pytest.approx(float(loss(tight)), abs=1e-6)


def test_predictions_follow_their_patches():
    """Context tokens in another order, with their numbers, change nothing; targets in another order turn with it."""
    drawn, state = masks_of(replace(ONE, mask=MaskConfig(min_keep=4, group=8))), state_of(ONE)
    tight = drawn._replace(
        context=drawn.context[..., : int(drawn.context_count[0])], target=drawn.target[..., : int(drawn.target_count)]
    )
    params = vit.under(state.online, "predictor")
    context = jax.random.normal(jax.random.key(5), (*tight.context.shape, ONE.model.width))
    predict = jax.jit(lambda context, drawn: networks.predict(params, ONE.model, ONE.grid, context, drawn))
    expected = predict(context, tight)
    assert expected.shape == (*tight.target.shape[:2], 1, tight.target.shape[2], ONE.model.width)
    turned = tight._replace(context=tight.context[..., ::-1])
    np.testing.assert_allclose(predict(context[:, :, ::-1], turned), expected, atol=1e-5)
    turned = tight._replace(target=tight.target[..., ::-1])
    np.testing.assert_allclose(predict(context, turned), expected[..., ::-1, :], atol=1e-5)


def test_a_context_of_all_patches_is_the_whole_image():
    state = state_of(ONE)
    every = jnp.tile(jnp.arange(64, dtype=jnp.int32), (8, 1, 1))
    drawn = masks.Masks(every, jnp.full(8, 64), every, jnp.int32(64))
    images = normalise(jnp.asarray(IMAGES[0]))
    whole = networks.encode(state.target, ONE.model, ONE.grid, images)
    found = networks.encode_contexts(state.target, ONE.model, ONE.grid, images, drawn)
    np.testing.assert_allclose(found[:, 0], whole, atol=1e-5)
    *_, last = networks.block_outputs(state.target, ONE.model, ONE.grid, images)
    np.testing.assert_allclose(last, whole, atol=1e-5)


def test_decay_holds_for_matrices_and_the_mask_token_alone():
    names = algorithm.init(ONE, jax.random.key(0)).online
    kept = {name for name in names if not algorithm.decayed(name)}
    assert kept == {n for n in names if n.endswith(("bias", "scale", "offset"))}
    assert algorithm.decayed("predictor/mask_token")


def test_schedules_at_their_ends():
    optim = paper("imagenet1k_linear", "vit_h14").optim
    per_epoch, last = 625, 300 * 625
    assert algorithm.learning_rate(optim, per_epoch, 1) == pytest.approx(2e-4 + 8e-4 / 25_000)
    assert algorithm.learning_rate(optim, per_epoch, 25_000) == pytest.approx(1e-3)
    assert algorithm.learning_rate(optim, per_epoch, last) == pytest.approx(1e-6)
    assert algorithm.weight_decay(optim, per_epoch, last) == pytest.approx(0.4)
    assert algorithm.momentum(optim, per_epoch, 1) == 0.996
    assert 1 - algorithm.momentum(optim, per_epoch, last) == pytest.approx(0.004 / last, rel=1e-3)


def test_two_parts_of_a_batch_give_the_gradient_of_the_whole():
    # One group, so that both parts have the same number of targets and of context tokens.
    whole = step(ONE)
    parts = step(replace(ONE, optim=replace(ONE.optim, accumulate=2)))
    same(essence(whole), essence(parts), 2e-5)


@pytest.mark.parametrize("widths", [(8, 16, 24, 49), ()])
def test_a_narrower_branch_gives_the_same_update(widths, monkeypatch):
    monkeypatch.setattr(masks, "BRANCHES", 3)
    several = replace(ONE, mask=replace(ONE.mask, widths=widths))
    program = Program(several, [0])
    taken = program.branches[int(program.branch(jax.tree.map(lambda x: x[None], masks_of(several))))]
    assert len(program.branches) >= 3 and sum(taken) < sum(program.branches[-1])
    same(essence(step(ONE)), essence(step(several)), 2e-5)


def test_a_long_run_on_a_cpu_has_more_branches_and_less_padding():
    released = paper(IMAGENET, "vit_b16")
    released = replace(released, mask=replace(released.mask, group=16))

    def padded(epochs, platform):
        config = replace(released, optim=replace(released.optim, batch=16, epochs=epochs))
        program = Program(config, [0], None, platform)
        assert list(program.branches) == sorted(program.branches, key=program._cost)
        needed = masks._needed(config.mask, config.grid, 16)
        paid = (min(program._cost(b) for b in program.branches if b.holds(*need)) for need in needed)
        return len(program.branches), sum(paid)

    (few, dear), (many, cheap) = padded(1, "cpu"), padded(300, "cpu")
    assert few == masks.BRANCHES < many == masks.MORE_BRANCHES and cheap < 0.98 * dear
    assert padded(300, "gpu") == (few, dear)  # one program holds all branches there


def test_lists_longer_than_any_mask_change_nothing():
    program = Program(ONE, [0])
    now, number = algorithm.moment(ONE, 6, 1), jnp.int32(1)
    drawn, update = program.draw(now, number), jax.jit(program.step_at, static_argnums=0)
    longer = masks.Bounds(*(-(-of // 8) * 8 for of in program.branches[0]))
    assert longer.context > drawn.context.shape[-1] and longer.target > drawn.target.shape[-1]
    found = (update(of, program.init(), IMAGES, now, drawn) for of in (program.branches[0], longer))
    same(*map(essence, found), 2e-5)


def test_lengths_are_multiples_of_eight_where_attention_is_fused():
    model = replace(ONE.model, fused_attention=True)
    one, two = (Program(replace(ONE, model=model), seeds, None, "gpu") for seeds in ([0], [0, 1]))
    assert all(of.context % 8 == of.target % 8 == 0 for of in one.branches)
    assert all(any(b.holds(*of) for b in one.branches) for of in Program(ONE, [0]).branches)
    # Several seeds are vmapped, which cuDNN's attention does not bear with a mask.
    assert two.branches == Program(ONE, [0, 1]).branches and not two.config.model.fused_attention


@pytest.mark.parametrize(
    ("suite", "task", "fused"), [("imagenet1k_linear", "vit_l16", True), (CIFAR10, "cifar10", False)]
)
def test_attention_is_fused_where_there_are_many_patches(suite, task, fused):
    config = paper(suite, task)
    assert config.for_platform("gpu").model.fused_attention == fused
    assert config.for_platform("gpu").model.compute_dtype == "bfloat16" and config.for_platform("cpu") == config


def test_the_host_takes_the_branches_of_the_switch_and_compiles_them_when_needed(monkeypatch):
    program, traced, taken = Program(replace(ONE, mask=replace(ONE.mask, widths=(16, 49))), [0]), [], []
    switched = program.jitted().lower(*program.arguments(6)).compile()
    branch = jax.jit(lambda now, index: program.branch(program.draw(now, index)))
    plain = program.step_at
    monkeypatch.setattr(program, "step_at", lambda lengths, *of: traced.append(lengths) or plain(lengths, *of))
    chosen = program.compiled(6)
    state, other = program.init(), program.init()
    for index in range(4):
        now, number = algorithm.moment(ONE, 6, index), jnp.int32(index)
        taken.append(program.branches[int(branch(now, number))])
        state, metrics = switched(state, IMAGES, now, number)
        other, of_other = chosen(other, IMAGES, now, number)
        same(essence((state, metrics)), essence((other, of_other)))
        assert traced == list(dict.fromkeys(taken))
    assert len(traced) == 2


@pytest.mark.parametrize("how", ["map", "vmap"])
def test_seeds_together_equal_seeds_alone(how):
    together = step(replace(ONE, seeds=2, run=replace(ONE.run, seeds_map=how)), seeds=(0, 1))
    alone = step(ONE, seeds=(1,))
    same(essence(jax.tree.map(lambda x: x[1:], together)), essence(alone), 2e-5)


def test_clipping_limits_the_gradient():
    clipped = replace(ONE, optim=replace(ONE.optim, clip=1e-3))
    state, metrics = step(clipped)
    assert float(metrics["gradient_norm"][0]) > 1e-3
    norm = np.sqrt(sum(float(jnp.square(m).sum()) for m in state.mu.values())) / 0.1
    assert norm == pytest.approx(1e-3, rel=1e-3)


@pytest.fixture(scope="module")
def on_eight_devices(tmp_path_factory):
    # The devices wait for one another: with as few threads as cores they may all wait.
    threads = {"NPROC": "64"}
    environment = (
        os.environ
        | threads
        | {
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8",
        }
    )
    script = Path(__file__).with_name("eight_devices.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("layout", ["data", "sharded"])
def test_eight_devices_give_the_update_of_one(on_eight_devices, layout):
    found = on_eight_devices[layout]
    assert found["devices"] == 8 and found["loss"] < 1e-5 and found["state"] < 1e-4
    assert "all-reduce" in found["collectives"]
    # Fully sharded: a device holds about an eighth of the parameters and their moments.
    assert found["share"] < 0.2 if layout == "sharded" else found["share"] == 1
    assert layout == "data" or "all-gather" in found["collectives"]
