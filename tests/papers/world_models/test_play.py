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

from papers.world_models import PAPER, mdnrnn, policies, report, vae
from papers.world_models.config import CAR, DOOM, Config
from papers.world_models.play import DreamGame, actions, open_run
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
