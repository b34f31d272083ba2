"""Crafter against the package with the same ordering of its creatures, and reproducibility across processes."""

import collections
import hashlib
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from repro.envs import make
from repro.envs import settings as sets
from repro.envs.crafter import OrderedSet
from repro.errors import UsageError

crafter = pytest.importorskip("crafter")


def actions(steps: int, envs: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 17, (steps, envs)).astype(np.int32)


def digest(seed: int, steps: int) -> str:
    env = make("crafter", "reward", [seed])
    frames = [env.reset(), *(env.step({"action": a}) for a in actions(steps))]
    return hashlib.sha256(b"".join(f.obs["image"].tobytes() for f in frames)).hexdigest()


def test_every_frame_and_reward_equals_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    reset = crafter.engine.World.reset

    def ordered(self, *args, **kwargs) -> None:
        reset(self, *args, **kwargs)
        self._chunks = collections.defaultdict(OrderedSet)

    env = make("crafter", "reward", [3])
    timestep = env.reset()
    monkeypatch.setattr(crafter.engine.World, "reset", ordered)
    plain = crafter.Env(seed=3)
    np.testing.assert_array_equal(timestep.obs["image"][0], plain.reset())
    nights = 0
    for action in actions(200):
        timestep = env.step({"action": action})
        image, reward, done, info = plain.step(int(action[0]))
        np.testing.assert_array_equal(timestep.obs["image"][0], image)
        assert timestep.reward[0] == np.float32(reward)
        assert timestep.is_last[0] == done and timestep.is_terminal[0] == (info["discount"] == 0)
        nights += plain._world.daylight < 0.5
        if done:
            np.testing.assert_array_equal(env.step({"action": action}).obs["image"][0], plain.reset())
    assert nights > 20  # the noise of the night is drawn from the world's generator


def test_reproducible_in_one_process_and_across_processes() -> None:
    here = digest(5, 40)
    keep = [object() for _ in range(1000)]  # other memory addresses
    assert digest(5, 40) == here and keep
    assert digest(6, 40) != here
    folder = os.path.dirname(__file__)
    code = f"import sys; sys.path.insert(0, {folder!r}); import test_crafter as t; print(t.digest(5, 40))"
    environment = {**os.environ, "PYTHONHASHSEED": "123", "PYTHONPATH": os.getcwd()}
    other = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == here


def test_limit_death_and_restart() -> None:
    env = make("crafter", "reward", [0], replace(sets.crafter(), time_limit=3))
    env.reset()
    steps = [env.step({"action": np.zeros(1, np.int32)}) for _ in range(5)]
    assert [bool(s.is_last[0]) for s in steps] == [False, False, True, False, False]
    assert [bool(s.is_first[0]) for s in steps] == [False, False, False, True, False]
    assert not any(s.is_terminal[0] for s in steps)
    env._envs[0]._env._player.health = 0
    assert env.step({"action": np.zeros(1, np.int32)}).is_terminal[0]


def test_restored_environment_continues_exactly_also_at_night() -> None:
    env = make("crafter", "reward", [3, 4])
    env.reset()
    played = actions(190, 2)
    for action in played[:170]:
        timestep = env.step({"action": action})
    again = make("crafter", "reward", [3, 4])
    resumed = again.restore(env.state())
    np.testing.assert_array_equal(resumed.obs["image"], timestep.obs["image"])
    for action in played[170:]:
        a, b = env.step({"action": action}), again.step({"action": action})
        np.testing.assert_array_equal(a.obs["image"], b.obs["image"])
        np.testing.assert_array_equal(a.reward, b.reward)
    single = make("crafter", "reward", [4])
    timestep = single.reset()
    for action in played:
        timestep = single.step({"action": action[1:]})
    np.testing.assert_array_equal(timestep.obs["image"][0], a.obs["image"][1])


def test_the_package_itself_stays_as_it_is_and_spaces_follow_the_size() -> None:
    env = make("crafter", "reward", [0], replace(sets.crafter(), size=(32, 48)))
    assert env.obs_spaces["image"].shape == (32, 48, 3)
    assert env.reset().obs["image"].shape == (1, 32, 48, 3)
    assert env.action_spaces["action"].classes == 17
    assert env.info().package_versions["crafter"]
    assert isinstance(crafter.Env(seed=0)._world._chunks[0], set)


def test_missing_package_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "crafter", None)
    with pytest.raises(UsageError, match=r"needs the package crafter; run: pip install -e \.\[crafter\]"):
        make("crafter", "reward", [0])
