"""Small parts of the pipeline: seeds axis, episode returns, progress, finding a kept run."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repro.errors import UsageError
from repro.pipeline import evaluate
from repro.pipeline import seeds as seeding
from repro.pipeline.episodes import EpisodeLog
from repro.pipeline.log import Logger, Progress, duration


def test_unrolled_and_vmapped_seeds_give_the_same_numbers() -> None:
    def f(a: dict[str, jax.Array], key: jax.Array) -> tuple[jax.Array, jax.Array]:
        return a["w"] @ a["w"].T, jax.random.normal(key, (2,))

    arguments = ({"w": jnp.arange(24.0).reshape(3, 2, 4)}, seeding.keys([5, 6, 7], "act", 3))
    for a, b in zip(
        seeding.over_seeds(f, "vmap")(*arguments), seeding.over_seeds(f, "unroll")(*arguments), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_keys_depend_on_seed_purpose_and_counter_and_on_nothing_else() -> None:
    data = lambda *a: np.asarray(jax.random.key_data(seeding.keys(*a)))  # noqa: E731
    together = data([0, 1, 2], "learn", 9)
    np.testing.assert_array_equal(together[1], data([1], "learn", 9)[0])
    different = [together[1], together[2], data([1], "act", 9)[0], data([1], "learn", 10)[0]]
    assert len({tuple(d) for d in different}) == 4


def test_episode_returns_lengths_and_steps() -> None:
    log = EpisodeLog(seeds=2, envs=1, step_scale=4)
    no, yes = np.array([False, False]), np.array([True, False])
    log.add(1, np.array([0.0, 0.0]), np.array([True, True]), no)
    log.add(2, np.array([1.0, 5.0]), no, no)
    log.add(3, np.array([2.0, 5.0]), no, yes)  # the first seed's episode ends
    log.add(4, np.array([0.0, 5.0]), yes, no)  # its next one begins: rewards before do not count
    log.add(5, np.array([7.0, 0.0]), no, yes)
    assert log.finished[0] == {"step": [12, 20], "return": [3.0, 7.0], "length": [2, 1]}
    assert log.finished[1]["step"] == [] and log.recent() == [5.0, None]
    again = EpisodeLog(2, 1, 4)
    again.restore(json.loads(json.dumps(log.state())))
    again.add(6, np.array([0.0, 1.0]), no, np.array([False, True]))
    assert again.finished[1] == {"step": [24], "return": [16.0], "length": [5]}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (45.2, "45 s"), (600, "10 min"), (12_000, "3 h 20 min"), (3600 * 30, "30 h 00 min")],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_progress_counts_time_from_its_first_line(monkeypatch: Any) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = Progress(1000, seconds=10)
    assert not progress.due()
    now[0] = 111
    assert progress.due() and "estimating time left" in progress.line(100, "x")
    now[0] = 131
    assert progress.line(300, "x") == "      300/1,000 steps ( 30%)  x  10 steps/s  70 s left"


def test_videos_become_gif_files_and_tensorboard_images(tmp_path: Path) -> None:
    from PIL import Image

    log = Logger(tmp_path, quiet=True)
    frames = np.random.default_rng(0).integers(0, 255, (5, 12, 16, 3), np.uint8)
    with Image.open(log.video(7, "open_loop/image", frames)) as gif:
        assert gif.size == (16, 12) and gif.n_frames == 5
    log.close()
    assert b"open_loop/image" in next(tmp_path.glob("events.out.tfevents*")).read_bytes()


def test_a_run_that_is_not_kept_is_explained(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("REPRO_CACHE", str(tmp_path))
    with pytest.raises(UsageError, match="no kept run for 'abc': give a run folder"):
        evaluate.find_run("abc")
