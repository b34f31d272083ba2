"""How dangerous Take Cover is by the age of an episode, in the game and as M dreams it, for policies that do not look.

    python scripts/dream_dangers.py RUN [--episodes 256] [--seed 0]

RUN is the folder of a Take Cover run (`.cache/runs/world_models/...`). Real: the collected episodes of the run, and any
scores of records named with `--record FILE.json` (as `results/runs/.../ID.json`). Dreamed: the collecting policy, and
left and right in turn for 60 and for 100 steps each. Prints ends per 1,000 steps, for every 150 steps of age. The game
gets more dangerous as its monsters become more; a dream that does not is too easy for whoever survives its beginning.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from papers.world_models import dream, pipeline, policies
from papers.world_models.config import DOOM, Config, cpu
from repro import config as configuration
from repro.pipeline.artefacts import kept

WIDTH, BINS = 150, 10
SWEEPS = (60, 100)


def ends_by_age(lengths: Sequence[float] | np.ndarray, limit: int) -> list[float]:
    """Ends per 1,000 steps lived, for every `WIDTH` steps of age; an episode as long as the limit has not ended."""
    of, found = np.asarray(lengths, float), []
    for begin in range(0, WIDTH * BINS, WIDTH):
        lived = np.clip(of - begin, 0, WIDTH).sum()
        ended = ((of > begin) & (of <= begin + WIDTH) & (of < limit)).sum()
        found.append(1000 * ended / lived if lived else np.nan)
    return found


def blind(config: Config, episodes: int) -> dict[str, np.ndarray]:
    """Actions `[T, episodes, 1]` of the policies."""
    steps = np.arange(config.dream.max_steps)
    # Environments are numbered from 1,000 on: episodes that were not collected.
    held = [policies.episode_actions(config, config.collect, config.first_seed, 1000 + i, 0) for i in range(episodes)]
    found = {f"held for at most {config.collect.hold} frames": np.stack(held, 1)}
    for period in SWEEPS:
        sides = policies.sweep(steps, period).astype(np.float32)
        found[f"{period} steps to each side"] = np.broadcast_to(sides[:, None, None], (len(steps), episodes, 1))
    return found


def main() -> None:
    """Reads the options, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--episodes", type=int, default=256, help="dreams of every policy")
    parser.add_argument("--seed", type=int, help="seed of the run whose models dream (its first)")
    parser.add_argument("--record", type=Path, action="append", default=[], help="record of real or dreamed scores")
    args = parser.parse_args()
    if not (args.run / "run.json").is_file():
        parser.error(f"{args.run} is not the folder of a run, as .cache/runs/world_models/{DOOM}/take_cover/ID")
    stored = json.loads((args.run / "run.json").read_text())["config"]
    if stored["suite"] != DOOM:
        parser.error(f"{args.run} is a run of {stored['suite']}; dreams of {DOOM} alone end by themselves")
    config = configuration.from_json(cpu(DOOM, "take_cover"), stored)
    seed = config.first_seed if args.seed is None else args.seed
    found = kept(args.run, [f"seed{seed}/{name}" for name in ("collect", "vae", "encode", "rnn")])
    given, limit = pipeline.models(config, found, seed), config.dream.max_steps
    ages = " | ".join(f"{begin} to {begin + WIDTH}" for begin in range(0, WIDTH * BINS, WIDTH))
    print(f"| | mean length | {ages} |\n|{'---|' * (BINS + 2)}")
    kind = f"collected (only those of more than {config.collect.min_frames} frames are kept)"
    _print(kind, found[f"seed{seed}/collect"].arrays()["lengths"], config.env.time_limit or limit)
    for path in args.record:
        record = json.loads(path.read_text())
        if not all("length" in episodes for episodes in record["episodes"]):
            parser.error(f"{path} has no lengths of episodes; take a record of episode_return")
        lengths = np.concatenate([episodes["length"] for episodes in record["episodes"]])
        _print(f"{record['task']}, {record['method']}, {record['id']}", lengths, limit)
    for name, actions in blind(config, args.episodes).items():
        temperature, key = jnp.float32(config.dream.temperature), jax.random.key(seed)
        lengths = dream.lengths_under(given["rnn"], config.rnn, given["starts"], actions, temperature, key)
        _print(f"dreamed, {name}", np.asarray(lengths), limit)


def _print(name: str, lengths: np.ndarray, limit: int) -> None:
    ages = " | ".join("" if np.isnan(rate) else f"{rate:.1f}" for rate in ends_by_age(lengths, limit))
    print(f"| {name} | {lengths.mean():.0f} | {ages} |", flush=True)


if __name__ == "__main__":
    main()
