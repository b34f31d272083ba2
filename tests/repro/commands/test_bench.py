"""`repro bench`: what is measured is consistent with itself, and mistakes are explained."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from repro.cli import main
from repro.pipeline import bench

TINY = (
    "envs=2 batch_size=2 batch_length=8 train_ratio=4 rssm.deter=32 rssm.hidden=8 rssm.classes=4 rssm.stoch=4 "
    "encoder.units=8 decoder.units=8 actor.units=8 agent.critic.units=8 agent.reward.units=8 "
    "agent.continuation.units=8 imagination_length=3 env.pixels=false"
).split()


def test_figures_belong_together(capsys: Any) -> None:
    sets = [word for assignment in TINY for word in ("--set", assignment)]
    command = ["bench", "dreamerv3", "--task", "catch/catch", "--seeds", "2", "--seconds", "0.05", "--json", *sets]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    update, act = found["update_seconds"], found["act_seconds"]
    assert update["min"] <= update["median"] <= update["max"] and update["repetitions"] >= 3
    assert found["updates_per_s"] == pytest.approx(2 / update["median"])
    assert found["acting_steps_per_s"] == pytest.approx(4 / act["median"])
    # Ratio 4 at batch 2 x 8: one update per four agent steps of a seed, that is per two steps of its two environments.
    assert found["iteration"] == {"vector_steps": 2, "updates": 1}
    assert found["update_gflop"] > 0 and 0 < found["fraction_of_matmul_rate"] < 1
    assert found["dtype"] == "float32" and found["peak_memory_gib"] > 0
    text = bench.render(found)
    assert "2 seeds, 4 environments, batch 2 x 8, float32" in text


def test_pieces_of_a_paper_that_is_no_agent(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    part = bench.Part({"median": 0.5, "min": 0.4, "max": 0.6, "repetitions": 3}, 20, "steps", "two sizes")
    monkeypatch.setattr("papers.world_models.bench.measure", lambda config, seconds: {"piece": part})
    assert main(["bench", "world_models", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parts"]["piece"]["per_s"] == 40
    assert main(["bench", "world_models"]) == 0
    assert "piece                     40.0 steps/s   0.5 s (0.4 to 0.6, 3 times); two sizes" in capsys.readouterr().out


def test_repetitions_and_a_known_product() -> None:
    calls: list[int] = []
    figure = bench.repeat(lambda: calls.append(1), seconds=0.0, most=9)
    assert figure["repetitions"] == 3 and len(calls) == 4, "one warm-up that is not counted"
    assert bench.matmul_rate("float32", 64) > 0
    assert bench.peak_memory() > 2**20
    assert jax.block_until_ready(jnp.ones(2)).sum() == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dreamerv3", "--chips", "2"], "--chips goes with --target"),
        (["dreamerv3", "--seconds", "0"], "--seconds must be above 0"),
        (["dreamerv3", "--target", "v9"], "v9"),
        (["dreamerv3", "--preset", "huge"], "unknown preset of dreamerv3 'huge'"),
        (["dyna"], "dyna has no update to time"),
    ],
)
def test_mistakes_are_one_line(words: list[str], message: str, capsys: Any) -> None:
    assert main(["bench", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
