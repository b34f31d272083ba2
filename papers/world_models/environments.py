"""What random policies score in today's environments, by the settings in which they differ from 2018's.

`python -m papers.world_models.environments` measures the tables of ENVIRONMENTS.md.
"""

import argparse
import importlib
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from papers.world_models import policies
from repro.envs import as_host, make
from repro.envs import settings as environments
from repro.envs.carracing import controls
from repro.envs.settings import EnvSettings
from repro.envs.vizdoom import thirds

Policy = Callable[[np.random.Generator], Callable[[int], np.ndarray]]
"""From a generator, for one episode: step -> action."""

CHEAP = (240, 320)
"""Random policies do not look at the screen."""

SWEEPS = (30, 60, 100, 150)
"""Steps to each side of players that look at nothing."""


def held(random: np.random.Generator) -> Callable[[int], np.ndarray]:
    """Take Cover's data collection: a uniform action, drawn anew at multiples of a number that is drawn anew then."""
    memory = {"repeat": 1, "action": 0.0}

    def act(step: int) -> np.ndarray:
        if step % memory["repeat"] == 0:
            memory.update(action=random.uniform(-1, 1), repeat=int(random.integers(1, 11)))
        return thirds(np.float64(memory["action"]))

    return act


def independent(random: np.random.Generator) -> Callable[[int], np.ndarray]:
    """Take Cover: one of the three actions, drawn anew at every step."""
    return lambda step: thirds(random.uniform(-1, 1))


def sweep(period: int, random: np.random.Generator) -> Callable[[int], np.ndarray]:
    """Take Cover: left and right in turn, `period` steps each."""
    return lambda step: thirds(policies.sweep(step, period))


def sweeping(random: np.random.Generator) -> Callable[[int], np.ndarray]:
    """Take Cover's other data collection (`collect.sweeps`)."""
    actions = policies.sweeping(random, environments.world_models_doom().time_limit or 0)[:, 0]
    return lambda step: thirds(actions[step])


def random_agent(random: np.random.Generator) -> Callable[[int], np.ndarray]:
    """CarRacing's data collection: a linear controller with Cauchy weights on latents that are pure noise."""
    scale = random.uniform(0, 0.01)
    weights, bias = scale * random.standard_cauchy((32, 3)), scale * random.standard_cauchy(3)
    return lambda step: np.tanh(random.standard_normal(32) @ weights + bias)


def uniform(random: np.random.Generator) -> Callable[[int], np.ndarray]:
    """CarRacing: steering, gas and brake uniform over their ranges, drawn anew at every step."""

    def act(step: int) -> np.ndarray:
        action = random.uniform(-1, 1, 3)
        return np.array([action[0], action[1], (action[2] + 1) / 2])

    return act


def returns(suite: str, task: str, settings: EnvSettings, policy: Policy, episodes: int, envs: int = 4) -> np.ndarray:
    """Returns of `episodes` episodes, equally many from each of `envs` environments."""
    env = as_host(make(suite, task, list(range(envs)), settings))
    generators = [np.random.default_rng((1, i)) for i in range(envs)]
    acts = [policy(random) for random in generators]
    steps, totals = np.zeros(envs, int), np.zeros(envs)
    found: list[list[float]] = [[] for _ in range(envs)]
    timestep = env.reset()
    while min(map(len, found)) < episodes // envs:
        space = env.action_spaces["action"]
        actions = np.array([act(step) for act, step in zip(acts, steps, strict=True)], space.dtype)
        timestep = env.step({"action": actions})
        totals, steps = totals + timestep.reward, steps + 1
        for i in np.flatnonzero(timestep.is_last):
            found[i].append(totals[i])
            acts[i] = policy(generators[i])
        totals[timestep.is_last], steps[timestep.is_last] = 0.0, -1  # the step that restarts does not count
    env.close()
    return np.array([value for row in found for value in row[: episodes // envs]])


def returns_2018(folder: Path, policy: Policy, episodes: int, steps: int = 1000) -> np.ndarray:
    """Returns in gym 0.9.4's own CarRacing-v0, its drawing (which needs a screen) left out.

    `folder` holds that release unpacked. What of gym its file imports is replaced, for the release does not run on
    today's Python; track, physics and rewards are the file's.
    """
    env = _original(folder)
    random = np.random.default_rng(1)
    found = []
    for _ in range(episodes):
        act, total = policy(random), 0.0
        env._reset()
        for step in range(steps):
            _, reward, done, _ = env._step(controls(act(step)))
            total += reward
            if done:
                break
        found.append(total)
    return np.array(found)


def _original(folder: Path) -> Any:
    names = ("gym", "gym.spaces", "gym.utils", "gym.envs", "gym.envs.box2d", "pyglet", "pyglet.gl")
    stubs: dict[str, Any] = {name: ModuleType(name) for name in names}
    stubs["gym.envs.box2d"].__path__ = [str(folder / "gym" / "envs" / "box2d")]
    stubs["gym"].Env, stubs["gym"].spaces = object, stubs["gym.spaces"]
    stubs["gym.spaces"].Box = lambda *args, **kwargs: None
    stubs["gym.utils"].colorize, stubs["pyglet"].gl = None, stubs["pyglet.gl"]
    seeded = lambda seed: (np.random.RandomState(0), 0)  # noqa: E731
    stubs["gym.utils"].seeding = SimpleNamespace(np_random=seeded)
    sys.modules.update(stubs)
    env = importlib.import_module("gym.envs.box2d.car_racing").CarRacing()
    env._render = lambda *args, **kwargs: None
    return env


def speeds(steps: int = 400) -> list[tuple[str, int, float]]:
    """What, environments at once, steps per second with images; the package's own CarRacing first."""
    from gymnasium.envs.box2d.car_racing import CarRacing

    random = np.random.default_rng(0)
    drive = [np.array([0.1, 0.0, -0.3]) + 0.1 * random.standard_normal(3) for _ in range(steps)]
    package = CarRacing()
    package.reset(seed=0)
    found = [("CarRacing-v3 of gymnasium", 1, _rate(lambda t: package.step(controls(drive[t])), steps))]
    doom, car = environments.world_models_doom(), environments.world_models_car()
    for name, suite, task, settings in (
        ("CarRacing-v3", "carracing", "carracing_v0", environments.carracing_v3()),
        ("CarRacing, 2018's view and frame map", "carracing", "carracing_v0", car),
        ("Take Cover, 480 x 640", "vizdoom_takecover", "take_cover", doom),
        ("Take Cover, 240 x 320", "vizdoom_takecover", "take_cover", replace(doom, screen=CHEAP)),
    ):
        for envs in (1, 2):
            env = as_host(make(suite, task, list(range(envs)), settings))
            env.reset()
            still = np.zeros((envs, *env.action_spaces["action"].shape), env.action_spaces["action"].dtype)
            acts = [still + (drive[t].astype(np.float32) if suite == "carracing" else t % 3) for t in range(steps)]
            stepped = partial(_step, env, [act.astype(still.dtype) for act in acts])
            found.append((name, envs, envs * _rate(stepped, steps)))
            env.close()
    return found


def _step(env: Any, actions: list[np.ndarray], t: int) -> None:
    env.step({"action": actions[t]})


def _rate(step: Callable[[int], Any], steps: int) -> float:
    for t in range(steps // 10):
        step(t)
    begun = time.perf_counter()
    for t in range(steps // 10, steps):
        step(t)
    return (steps - steps // 10) / (time.perf_counter() - begun)


def variants() -> list[tuple[str, str, str, EnvSettings, str, Policy]]:
    """Suite, task, name of the settings, settings, name of the policy, policy."""
    doom, car = ("vizdoom_takecover", "take_cover"), ("carracing", "carracing_v0")
    paper = replace(environments.world_models_doom(), screen=CHEAP)
    today = replace(paper, start_tic=1, hud=False, weapon=True, crosshair=False, decals=True, particles=True)
    games: dict[str, EnvSettings] = {
        "2018": paper,
        "start at tic 1 (today's default)": replace(paper, start_tic=1),
        "all defaults of today's library, limit 2,100": today,
        "skill 5": replace(paper, skill=5),
    }
    v0 = environments.world_models_car()
    cars: dict[str, EnvSettings] = {
        "lap rule of 2018": v0,
        "lap rule of v3": replace(v0, lap_fraction=0.95),
    }
    rows: list[tuple[str, str, str, EnvSettings, str, Policy]] = []
    for name, settings in games.items():
        rows += [(*doom, name, settings, "held", held), (*doom, name, settings, "independent", independent)]
    # What is worth knowing before a trained score is admired: how long an agent lasts that looks at nothing.
    for period in SWEEPS:
        rows.append((*doom, "2018", paper, f"{period} steps to each side", partial(sweep, period)))
    rows.append((*doom, "2018", paper, "sweeping, collect.sweeps", sweeping))
    for name, settings in cars.items():
        rows += [(*car, name, settings, "random agent", random_agent), (*car, name, settings, "uniform", uniform)]
    return rows


def main() -> None:
    """Prints one row of Markdown for every setting and policy: mean, standard deviation, standard error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=100, help="of each row (a multiple of 4)")
    parser.add_argument("--suite", choices=("vizdoom_takecover", "carracing"), help="one of the two alone")
    parser.add_argument("--gym-0.9.4", dest="gym", type=Path, help="folder of that release: its CarRacing-v0 alone")
    parser.add_argument("--speed", action="store_true", help="environment steps per second instead")
    args = parser.parse_args()
    if args.speed:
        print("| environment | at once | steps/s |\n|---|---|---|")
        for name, envs, rate in speeds():
            print(f"| {name} | {envs} | {rate:,.0f} |", flush=True)
        return
    print("| environment | settings | policy | return | standard error | episodes |\n|---|---|---|---|---|---|")
    if args.gym:
        for original_policy in (random_agent, uniform):
            found = returns_2018(args.gym, original_policy, args.episodes)
            print(row("carracing", "gym 0.9.4 itself", original_policy.__name__, found), flush=True)
        return
    for suite, task, name, settings, policy_name, policy in variants():
        if args.suite in (None, suite):
            print(row(suite, name, policy_name, returns(suite, task, settings, policy, args.episodes)), flush=True)


def row(suite: str, settings: str, policy: str, found: np.ndarray) -> str:
    """One line of the table."""
    error = found.std() / len(found) ** 0.5
    return f"| {suite} | {settings} | {policy} | {found.mean():.1f} ± {found.std():.1f} | {error:.1f} | {len(found)} |"


if __name__ == "__main__":
    main()
