"""bsuite against the package, where it is installed (`pip install -e .[bsuite]`)."""

import sys

import numpy as np
import pytest

from repro.envs import make
from repro.errors import UsageError


def test_missing_package_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [m for m in sys.modules if m.split(".")[0] == "bsuite"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "bsuite", None)
    with pytest.raises(UsageError, match=r"needs the package bsuite; run: pip install -e \.\[bsuite\]"):
        make("bsuite", "catch", [0])


def load(bsuite, task: str, options: dict, seed: int):
    if not task.startswith("deep_sea"):
        return bsuite.load(task.split("/")[0], {**options, "seed": seed})
    env = bsuite.load(task.split("/")[0], options)  # takes no seed
    env._rng.seed(seed)
    return env


@pytest.mark.parametrize("task", ["catch/0", "cartpole_noise/3", "deep_sea_stochastic/0", "memory_len/5"])
def test_steps_equal_the_package_and_restore_exactly(task: str) -> None:
    bsuite = pytest.importorskip("bsuite.bsuite")
    from bsuite import sweep

    seeds = [3, 4]
    env = make("bsuite", task, seeds)
    plain = [load(bsuite, task, sweep.SETTINGS[task], seed) for seed in seeds]
    actions = np.random.default_rng(0).integers(0, env.action_spaces["action"].classes, (80, 2)).astype(np.int32)
    timestep, ends = env.reset(), 0
    steps = [p.reset() for p in plain]
    for t, action in enumerate(actions):
        if t == 50:
            again = make("bsuite", task, [8, 9])
            np.testing.assert_array_equal(again.restore(env.state()).obs["vector"], timestep.obs["vector"])
        timestep = env.step({"action": action})
        if t >= 50:
            other = again.step({"action": action})
            np.testing.assert_array_equal(other.obs["vector"], timestep.obs["vector"])
            np.testing.assert_array_equal(other.reward, timestep.reward)
        for i, p in enumerate(plain):
            assert timestep.is_first[i] == steps[i].last()
            steps[i] = p.step(int(action[i]))  # restarts by itself after an end
            assert timestep.reward[i] == np.float32(steps[i].reward or 0)
            assert timestep.is_last[i] == steps[i].last()
            assert timestep.is_terminal[i] == (steps[i].last() and steps[i].discount == 0)
            np.testing.assert_array_equal(timestep.obs["vector"][i], np.float32(steps[i].observation).ravel())
            ends += steps[i].last()
    assert ends > 0 or task.startswith("cartpole")


def test_index_that_does_not_exist() -> None:
    pytest.importorskip("bsuite")
    with pytest.raises(UsageError, match="catch goes from catch/0 to catch/19"):
        make("bsuite", "catch/99", [0])
