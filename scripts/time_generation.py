"""Times a whole generation of C's training in the dream, with the M and around the controller of a finished run.

    python scripts/time_generation.py RUN [--out FILE.npz]

RUN is the folder of a Take Cover run (`.cache/runs/world_models/...`). The population is the run's controller with the
deviation that its CMA-ES ended with; dreams begin at first frames of collected episodes and end as M says, at the
latest after 2,100 steps. Prints one JSON object a kind of products: steps of dreams that were not over yet, a second;
median of five generations. `--out` keeps the generation for `time_dream_torch.py`.
"""

import argparse
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from papers.world_models import controller, dream, mdnrnn, pipeline
from papers.world_models.config import DOOM, cpu
from repro import config as configuration
from repro.pipeline.artefacts import kept


def main() -> None:
    """Reads the options, prints the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    config = configuration.from_json(cpu(DOOM, "take_cover"), json.loads((args.run / "run.json").read_text())["config"])
    seed, tau = config.first_seed, config.dream.temperature
    names = ("collect", "vae", "encode", "rnn", f"controller_tau{tau:.2f}")
    found = kept(args.run, [f"seed{seed}/{name}" for name in names])
    given, trained = pipeline.models(config, found, seed), found[f"seed{seed}/{names[-1]}"].arrays()
    es, mean = config.es, jnp.asarray(trained["controller"])
    sigma = float(trained["history"][-1, -1])
    population = mean + sigma * jax.random.normal(jax.random.key(0), (es.population, len(mean)))
    controllers = jnp.repeat(controller.rounded(population), es.rollouts, 0)
    steps, temperature = config.dream.max_steps, jnp.float32(tau)
    if args.out:
        key = jax.random.key(1)
        index = jax.random.randint(key, (len(controllers),), 0, len(given["starts"].mu))
        begin = dream.reset(config.rnn, given["starts"], index, jax.random.normal(key, (len(index), config.rnn.latent)))
        arrays = {name: np.asarray(value) for name, value in given["rnn"].items()}
        more = {"controllers": controllers, "latent": begin.latent, "max_steps": steps, "temperature": tau}
        np.savez(args.out, **arrays, **{name: np.asarray(value) for name, value in more.items()})
    for products, params in (("float32", given["rnn"]), ("bfloat16", mdnrnn.rounded(given["rnn"]))):
        seconds, rates, means = [], [], []
        for i in range(6):
            start = time.perf_counter()
            key = jax.random.key(i)
            lengths = np.asarray(
                dream.lengths(
                    params, config.rnn, config.controller, given["starts"], controllers, temperature, key, steps
                )
            )
            seconds.append(time.perf_counter() - start)
            rates.append(lengths.sum() / seconds[-1])
            means.append(lengths.mean())
        found_here = {
            "products": products,
            "steps_a_second": round(sorted(rates[1:])[2]),
            "seconds": [round(s, 3) for s in seconds],
            "mean_length": round(float(np.mean(means)), 1),
        }
        print(json.dumps(found_here))


if __name__ == "__main__":
    main()
