"""Masks: facts of the official sampler on the released settings, and settings that cannot be satisfied."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from papers.ijepa import masks
from papers.ijepa.config import MODELS, STRATEGIES, MaskConfig, block_size, block_sizes, paper
from repro.cli import main

GRID = (14, 14)
RELEASED = MaskConfig(group=4)


def drawn(config, grid=GRID, batch=8, index=0):
    size = jnp.asarray(masks.sizes(config, grid, index))
    return jax.jit(lambda key: masks.draw(config, grid, key, size, batch))(jax.random.key(index))


def lists(found, i):
    context = [set(np.asarray(c)[: int(found.context_count[i])].tolist()) for c in found.context[i]]
    return context, [set(np.asarray(t)[: int(found.target_count)].tolist()) for t in found.target[i]]


def test_sizes_of_the_released_settings():
    assert block_size(0.0, (0.15, 0.2), (0.75, 1.5), GRID) == (5, 6)
    assert block_size(1 - 2**-24, (0.15, 0.2), (0.75, 1.5), GRID) == (8, 5)
    assert block_sizes((0.85, 1.0), (1.0, 1.0), GRID) == [(13, 13)]
    assert {h * w for h, w in block_sizes((0.15, 0.2), (0.75, 1.5), GRID)} == {30, 35, 36, 40}
    assert block_sizes((0.85, 1.0), (1.0, 1.0), (8, 8)) == [(7, 7)]


def test_released_settings_never_touch_the_last_row_and_column_nor_mix_context_and_targets():
    alone = replace(RELEASED, group=1)
    for index in range(6):
        found = drawn(alone, index=index)
        for i in range(8):
            (context,), targets = lists(found, i)
            union = set().union(*targets)
            assert not context & union and len(context) > 10
            assert all(n % 14 < 13 and n < 13 * 14 for n in context | union)
            assert len(context) + len(union) == 169  # nothing is cut where an image is its own group


def test_contexts_are_cut_to_the_shortest_of_their_group_from_the_top():
    whole, cut = drawn(replace(RELEASED, group=1)), drawn(RELEASED)
    counts = np.asarray(whole.context_count).reshape(2, 4)
    np.testing.assert_array_equal(cut.context_count, np.repeat(counts.min(1), 4))
    for i in range(8):
        n = int(cut.context_count[i])
        np.testing.assert_array_equal(cut.context[i, 0, :n], whole.context[i, 0, :n])


def test_a_width_is_a_cap():
    config = replace(RELEASED, group=1, widths=(24, 32))
    assert masks.cap(config, GRID) == 32 and drawn(config).context.shape[-1] == 32
    assert int(drawn(config).context_count.max()) <= 32


def test_branches_hold_all_masks_and_save_most_of_the_padding():
    cost = lambda lengths: lengths.context + 4 * sum(lengths)  # noqa: E731
    found = masks.branches(RELEASED, GRID, 8, cost, masks.BRANCHES)
    assert len(found) == masks.BRANCHES and list(found) == sorted(found, key=cost)
    assert found[-1] == masks.bounds(RELEASED, GRID)
    needed, paid = [], []
    for index in range(1_000, 1_020):  # not those that the lengths were chosen by
        some = drawn(RELEASED, index=index)
        need = masks.Bounds(int(some.context_count.max()), int(some.target_count))
        fits = [cost(b) for b in found if b.context >= need.context and b.target >= need.target]
        needed.append(cost(need))
        paid.append(min(fits))
    assert sum(needed) < sum(paid) < 1.25 * sum(needed) < cost(found[-1]) * len(needed) / 1.5


@pytest.mark.parametrize("name", ["block", "random", "raster"])
def test_the_other_strategies_split_the_whole_grid(name):
    config = replace(STRATEGIES[name], group=1)
    for index in range(3):
        found = drawn(config, (8, 8), index=index)
        for i in range(8):
            (context,), targets = lists(found, i)
            together = list(context) + [n for t in targets for n in t]
            assert sorted(together) == list(range(64))
    share = float(found.context_count[0]) / 64
    assert share == {"block": share, "random": 25 / 64, "raster": 0.25}[name] and (name != "block" or 0.3 < share < 0.5)


def test_sizes_follow_the_official_sequence_of_seeds():
    np.testing.assert_allclose(masks.uniforms(0), (0.49625659, 0.7682218), atol=1e-7)
    np.testing.assert_allclose(masks.uniforms(2), (0.61469507, 0.38101286), atol=1e-7)


def test_released_sizes_have_the_published_parameters():
    from papers.ijepa import networks

    def count(shapes):
        return sum(int(np.prod(shape)) for shape in shapes.values())

    encoders = {
        "vit_tiny16": 5_486_400, "vit_small16": 21_589_632, "vit_base16": 85_646_592, "vit_large16": 303_098_880,
        "vit_huge14": 630_434_560, "vit_huge16": 630_664_960, "vit_giant16": 1_011_092_608, "vit_small4": 21_313_152,
    }  # fmt: skip
    assert {name: count(networks.encoder_shapes(MODELS[name])) for name in encoders} == encoders
    predictors = {
        "vit_base16": 11_238_912,
        "vit_large16": 22_082_560,
        "vit_huge14": 22_279_424,
        "vit_giant16": 29_475_712,
    }
    assert {name: count(networks.predictor_shapes(MODELS[name])) for name in predictors} == predictors


BAD = {
    "mask.min_keep=10": "min_keep=10 cannot be satisfied: a target block can be 3 x 3 patches",
    "mask.target_scale=0.3,0.2": "target_scale must be two numbers above 0, the smaller one first",
    "mask.widths=8,4": "widths must be ascending",
    "mask.group=48": "does not split into groups of mask.group=48",
    "strategy=blocks": "unknown strategy 'blocks'; did you mean: block",
    "model=vit_hug14": "unknown model 'vit_hug14'; did you mean: vit_huge14",
    "model.heads=5": "must be a multiple of 4 and of heads=5",
    "data.size=30": "data.size=30 is not a multiple of model.patch=4",
    "optim.accumulate=3": "does not split into accumulate=3 parts",
    "ema=1,0.9": "ema must be two numbers between 0 and 1",
}


@pytest.mark.parametrize("setting", BAD)
def test_a_mistake_in_the_settings_is_one_line(setting, capsys, tmp_path):
    code = main(["reproduce", "ijepa", "--preset", "cpu", "--out", str(tmp_path), "--set", setting])
    lines = capsys.readouterr().err.strip().splitlines()
    assert code == 2 and BAD[setting] in lines[-1] and len(lines) == 1


def test_every_task_has_a_paper_preset():
    from papers.ijepa import PAPER

    for suite, tasks in PAPER.suites.items():
        for task in tasks:
            for preset in PAPER.presets.values():
                assert preset.make(suite, task).suite == suite
    assert paper("imagenet1k_linear", "vit_h16_448").grid == (28, 28)
