"""The release's JSON weights become ours and back; `repro import world_models`."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from papers.world_models import mdnrnn, official, vae
from papers.world_models.config import CAR, DOOM, MDNRNNConfig, paper
from repro.cli import main


def whole_numbers(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {name: random.integers(-5_000, 5_000, shape) for name, shape in shapes.items()}


def written(folder: Path, suite: str) -> dict[str, dict[str, np.ndarray]]:
    """A folder as the release leaves it, and its weights in our layout."""
    of = paper(suite, "")
    ours = {"vae": whole_numbers(vae.shapes(of.vae), 0), "rnn": whole_numbers(mdnrnn.shapes(of.rnn), 1)}
    theirs = {"vae": official.vae_to_official(ours["vae"]), "rnn": official.rnn_to_official(ours["rnn"], of.rnn)}
    # The release lists tensors in the order of their creation, which for M differs between its two programs.
    for name, weights in theirs.items():
        tensors = list(weights.values())[:: -1 if (name, suite) == ("rnn", CAR) else 1]
        (folder / f"{name}.json").write_text(json.dumps([t.tolist() for t in tensors]))
    controller = np.random.default_rng(2).normal(size=867 if suite == CAR else 1088).round(4)
    (folder / "run.cma.16.64.best.json").write_text(json.dumps([controller.tolist(), 900.4]))
    (folder / "run.cma.16.64.hist.json").write_text(json.dumps([[1, 2.0, 3.0], [2, 3.0, 4.0]]))
    return {
        **{k: {n: a / 10_000 for n, a in w.items()} for k, w in ours.items()},
        "controller": {"controller": controller},
    }


@pytest.mark.parametrize("suite", [CAR, DOOM])
def test_a_folder_of_the_release_is_read(suite: str, tmp_path: Path, capsys: Any) -> None:
    source = tmp_path / "log"
    source.mkdir()
    expected = written(source, suite)
    if suite == DOOM:
        latents = np.random.default_rng(3).integers(-9_000, 9_000, (2, 10, 64))
        (source / "initial_z.json").write_text(json.dumps(latents.tolist()))
    assert main(["import", "world_models", str(source), "--out", str(tmp_path / "ours")]) == 0
    assert f"World Models, {suite}: " in capsys.readouterr().out
    for name, arrays in expected.items():
        with np.load(tmp_path / "ours" / f"{name}.npz") as found:
            assert set(found.files) == set(arrays)
            for key, array in arrays.items():
                np.testing.assert_allclose(found[key], array, atol=1e-7)
    if suite == DOOM:
        with np.load(tmp_path / "ours" / "starts.npz") as found:
            np.testing.assert_array_equal(found["mu"], latents[0])


@pytest.mark.parametrize("config", [MDNRNNConfig(3, 2, 4, 5), MDNRNNConfig(3, 1, 4, 2, predict_restart=True)])
def test_the_head_in_our_order_of_columns_means_the_same(config: MDNRNNConfig) -> None:
    params = {n: np.asarray(p) for n, p in mdnrnn.init(jax.random.key(0), config).items()}
    theirs = official.rnn_to_official(params, config)
    again = official.rnn_from_official(theirs, config)
    assert all(np.array_equal(params[n], again[n]) for n in params) and set(params) == set(again)
    h = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    y = (h @ theirs["RNN.output_w"] + theirs["RNN.output_b"])[:, int(config.predict_restart) :]
    logits, mean, log_std = np.split(y.reshape(2, config.latent, -1), 3, -1)
    mixture, _ = mdnrnn.head(jax.tree.map(jnp.asarray, params), config, jnp.asarray(h))
    for ours, official_part in zip(mixture, (logits, mean, log_std), strict=True):
        np.testing.assert_allclose(ours.swapaxes(1, 2), official_part, rtol=1e-5, atol=1e-6)


def test_other_files_are_refused_in_one_line(tmp_path: Path, capsys: Any) -> None:
    for name, text in (("a.json", "[[1, 2], [3]]"), ("b.json", "{"), ("c.json", '{"a": 1}')):
        (tmp_path / name).write_text(text)
        assert main(["import", "world_models", str(tmp_path / name), "--out", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and name in error
