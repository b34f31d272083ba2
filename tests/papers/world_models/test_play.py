"""The dream steered by hand and its videos, with a small untrained model."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("vizdoom")
pytest.importorskip("numba")

from papers.world_models import PAPER, controller, mdnrnn, policies, real, report, vae
from papers.world_models.config import CAR, DOOM, Config
from papers.world_models.game import DreamGame, actions, film, write_film
from papers.world_models.play import open_run
from repro.envs.make import as_host, make
from repro.errors import UsageError


def small(suite: str, task: str) -> Config:
    config = PAPER.presets["cpu"].make(suite, task)
    filters = {"encoder_filters": (2, 2, 2, 4), "decoder_width": 4, "decoder_filters": (2, 2, 2), "latent": 3}
    rnn = replace(config.rnn, latent=3, hidden=5)
    return replace(config, vae=replace(config.vae, **filters), rnn=rnn)


def models(config: Config, restart_bias: float = 0.0) -> report.Models:
    rnn = mdnrnn.init(jax.random.key(1), config.rnn)
    rnn = {**rnn, "head/bias": rnn["head/bias"].at[0].add(restart_bias)} if config.doom else rnn
    return vae.init(jax.random.key(0), config.vae), rnn


@pytest.fixture(scope="module")
def doom() -> Config:
    return small(DOOM, "take_cover")


def test_dream_and_game_begin_together_and_end_each_for_itself(doom: Config) -> None:
    game = DreamGame(doom, *models(doom, restart_bias=100.0))  # M says "over" at once
    first = game.reset(7)
    assert first.dream.shape == first.real.shape == (64, 64, 3) and not (first.dream_over or first.real_over)
    second = game.step(frozenset(), 1.0)
    assert second.dream_over and not second.real_over
    third = game.step(frozenset({"ArrowLeft"}), 1.0)
    np.testing.assert_array_equal(third.dream, second.dream)  # stays as it was
    assert (third.real != second.real).any()
    while not game.moment.real_over:
        game.step(frozenset(), 1.0)
    last = game.moment
    np.testing.assert_array_equal(game.step(frozenset(), 1.0).real, last.real)
    assert not game.reset(7).real_over
    np.testing.assert_array_equal(game.moment.real, first.real)
    np.testing.assert_array_equal(game.moment.dream, first.dream)
    game.close()


def test_keys_and_temperature_change_the_dream_and_a_seed_repeats_it(doom: Config) -> None:
    game = DreamGame(doom, *models(doom, restart_bias=-100.0))

    def latents(keys: str, temperature: float) -> np.ndarray:
        game.reset(1)
        for _ in range(5):
            game.step(frozenset(keys.split()), temperature)
        return np.asarray(game.state.latent)

    still = latents("", 1.0)
    np.testing.assert_array_equal(latents("", 1.0), still)
    assert (latents("ArrowRight", 1.0) != still).any()
    assert (latents("", 0.1) != still).any()
    game.close()


@pytest.mark.parametrize("suite", [DOOM, CAR])
def test_c_steers_each_world_by_what_it_sees_there_while_its_key_is_down(suite: str) -> None:
    config = small(suite, "take_cover" if suite == DOOM else "carracing_v0")
    given = models(config, restart_bias=-100.0)
    weights = np.random.default_rng(0).normal(size=controller.count(config.controller, config.rnn))
    game = DreamGame(config, *given, weights)
    assert game.keys["c"] == "let C steer" and game.toggles == {"c"}
    game.reset(3)
    agent = real.Agent(config, *given)
    memory, timestep, rewards = agent.start(1), game.real, np.zeros(2)
    env = as_host(make(config.suite, config.task, [3], config.env))
    env.reset()
    for step in range(1, 7):
        keys = frozenset({"c"}) if step % 3 else frozenset({"ArrowLeft"})
        chosen = np.full((1, config.rnn.action), np.nan) if "c" in keys else actions(config, keys)
        before = game.state
        game.step(keys, 1.0)
        # The real side is what evaluation does, with the same memory.
        image, first = timestep.obs["image"], timestep.is_first
        action, memory = agent(controller.rounded(weights), memory, image, first, game.key, step, chosen)
        np.testing.assert_array_equal(action[~np.isnan(chosen)], chosen[~np.isnan(chosen)])
        timestep = env.step(policies.for_environment(config, action))
        np.testing.assert_array_equal(timestep.obs["image"][0], game.moment.real)
        rewards += [timestep.reward[0], game.real.reward[0]]
        # The dream is M under what C says of the dream.
        seen = controller.features(config.controller, before.latent, before.cell, before.hidden)
        own = controller.act(config.controller, controller.rounded(weights), seen, config.rnn.action)
        taken = policies.for_model(config, np.asarray(own) if "c" in keys else chosen.astype(np.float32))
        parts = [before.latent, taken, *([before.restart[:, None]] if config.doom else [])]
        cell, hidden = mdnrnn.step(given[1], (before.cell, before.hidden), *parts)
        np.testing.assert_allclose(game.state.hidden, hidden, rtol=1e-5, atol=1e-6)
    assert rewards[0] == rewards[1]
    env.close()
    game.close()


def test_a_film_shows_c_in_both_worlds_and_black_after_the_end(tmp_path: Path) -> None:
    doom = small(DOOM, "take_cover")
    weights = np.zeros(controller.count(doom.controller, doom.rnn))
    game = DreamGame(doom, *models(doom, restart_bias=100.0), weights)  # M says "over" at once
    frames = film(game, 5, 6)
    assert frames.shape == (6, 128, 64, 3) and frames.dtype == np.uint8
    assert frames[:2, 64:].any((1, 2, 3)).all() and not frames[2:, 64:].any()
    assert frames[:, :64].any((1, 2, 3)).all() and (frames[0, :64] != frames[5, :64]).any()
    with Image.open(write_film(game, tmp_path, 5, count=2, steps=12)) as gif:
        assert gif.size == (128, 128) and 1 < gif.n_frames <= 6  # equal frames are one
    game.close()


def test_keys_are_outputs_of_the_controller() -> None:
    doom, car = small(DOOM, "take_cover"), small(CAR, "carracing_v0")
    for keys, chosen in (("ArrowLeft", 2), ("ArrowRight", 1), ("", 0), ("ArrowLeft ArrowRight", 0)):
        action = actions(doom, frozenset(keys.split()))
        assert policies.for_environment(doom, action)["action"].tolist() == [chosen]
    np.testing.assert_allclose(policies.for_model(car, actions(car, frozenset())), [[0, 0, 0]])
    held = frozenset({"ArrowLeft", "ArrowUp", "ArrowDown"})
    np.testing.assert_allclose(policies.for_model(car, actions(car, held)), [[-1, 1, 0.8]])


def test_a_video_holds_real_frames_above_dreams_of_the_same_actions(doom: Config, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (30, 64, 64, 3), dtype=np.uint8)
    chosen = random.uniform(-1, 1, (30, 1)).astype(np.float32)
    video = report.rollout(doom, models(doom, -100.0), frames[:12], chosen[:12], jax.random.key(0))
    assert video.shape == (12, 128, 64, 3)
    np.testing.assert_array_equal(video[:, :64], frames[:12])
    other = report.rollout(doom, models(doom, -100.0), frames[:12], -chosen[:12], jax.random.key(0))
    np.testing.assert_array_equal(video[0], other[0])
    assert (video[1:, 64:] != other[1:, 64:]).any()
    ended = report.rollout(doom, models(doom, 100.0), frames[:4], chosen[:4], jax.random.key(0))
    assert ended[:2, 64:].any() and not ended[2:, 64:].any()
    collected = {"frames": frames, "actions": chosen, "lengths": [12, 5, 13]}
    path = report.write_rollouts(doom, models(doom, -100.0), collected, tmp_path, seed=0, count=2, steps=50)
    with Image.open(path) as gif:
        assert gif.size == (128, 128) and gif.n_frames == 6


def test_a_run_that_is_not_finished_is_one_line(doom: Config, tmp_path: Path) -> None:
    from repro import config as configuration

    (tmp_path / "run.json").write_text(json.dumps({"paper": "world_models", "config": configuration.to_json(doom)}))
    with pytest.raises(UsageError, match="has no finished stage seed0/vae; finish it"):
        open_run(tmp_path)
