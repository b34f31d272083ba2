"""ProcGen against the library, where the module `procgen` is installed."""

import sys

import numpy as np
import pytest
from PIL import Image

from repro.envs import EnvSettings, make
from repro.errors import UsageError


def test_missing_package_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "procgen", None)
    with pytest.raises(UsageError, match="needs the package procgen; run: pip install .*procgen-mirror"):
        make("procgen_hard", "coinrun", [0])


@pytest.mark.parametrize("size", [(96, 96), (64, 64)])
def test_steps_equal_the_library_and_restore_exactly(size: tuple[int, int]) -> None:
    procgen = pytest.importorskip("procgen")
    settings = EnvSettings(size=size)
    seeds = [3, 4]
    env = make("procgen_hard", "fruitbot", seeds, settings)
    options = {"distribution_mode": "hard", "render_mode": "rgb_array"}
    plain = [procgen.ProcgenGym3Env(1, "fruitbot", rand_seed=seed, **options) for seed in seeds]

    def picture(p: object) -> np.ndarray:
        if size == (64, 64):
            return p.observe()[1]["rgb"][0]
        return np.asarray(Image.fromarray(p.get_info()[0]["rgb"]).resize(size, Image.Resampling.BILINEAR))

    actions = np.random.default_rng(0).integers(0, 15, (150, 2)).astype(np.int32)
    timestep, ends = env.reset(), 0
    images = [picture(p) for p in plain]
    for t, action in enumerate(actions):
        if t == 100:
            again = make("procgen_hard", "fruitbot", [8, 9], settings)
            np.testing.assert_array_equal(again.restore(env.state()).obs["image"], timestep.obs["image"])
        was_last = timestep.is_last
        timestep = env.step({"action": action})
        if t >= 100:
            np.testing.assert_array_equal(again.step({"action": action}).obs["image"], timestep.obs["image"])
        for i, p in enumerate(plain):
            assert timestep.is_first[i] == was_last[i]
            if was_last[i]:
                images[i] = picture(p)
            else:
                p.act(action[i : i + 1])
                reward, _, first = p.observe()
                assert timestep.reward[i] == reward[0]
                assert timestep.is_last[i] == timestep.is_terminal[i] == first[0]
                images[i] = images[i] if first[0] else picture(p)
                ends += first[0]
            np.testing.assert_array_equal(timestep.obs["image"][i], images[i])
    assert ends > 1
