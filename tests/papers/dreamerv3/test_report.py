"""Open-loop videos."""

import jax
import numpy as np

from papers.dreamerv3.report import GIVEN, PREDICTED, open_loop_video
from repro.envs.base import Space
from tests.papers.dreamerv3.agents import batch, tiny


def test_a_video_shows_truth_model_and_error_with_the_border_of_what_was_seen():
    agent = tiny()
    state, data = agent.init(jax.random.key(0)), batch(agent, size=3, length=7)
    video = jax.jit(lambda *a: open_loop_video(agent, *a, sequences=2))(state, data, jax.random.key(1))["image"]
    assert video.shape == (6, 3 * 20, 2 * 20, 3) and video.dtype == np.uint8
    video = np.asarray(video)
    np.testing.assert_array_equal(video[:3, 0, 0], np.tile(GIVEN, (3, 1)))
    np.testing.assert_array_equal(video[3:, 0, 0], np.tile(PREDICTED, (3, 1)))
    truth = data.obs["image"][:, 1:]
    np.testing.assert_array_equal(video[:, 2:18, 22:38], truth[1])
    model, error = (video[:, 20 * i + 2 : 20 * i + 18, 2:18].astype(int) for i in (1, 2))
    np.testing.assert_array_equal(error, (model - truth[0] + 255) // 2)


def test_the_predicted_half_does_not_depend_on_its_images():
    agent = tiny()
    state, data = agent.init(jax.random.key(0)), batch(agent, length=7)
    other = data._replace(
        obs=data.obs | {"image": np.where(np.arange(7)[None, :, None, None, None] < 4, data.obs["image"], 0)}
    )
    make = jax.jit(lambda d: open_loop_video(agent, state, d, jax.random.key(1))["image"][:, 20:40])
    np.testing.assert_array_equal(make(data), make(other))


def test_without_images_there_is_no_video():
    agent = tiny({"speed": Space((2,))}, {"stick": Space((2,))})
    assert open_loop_video(agent, agent.init(jax.random.key(0)), batch(agent), jax.random.key(1)) == {}
