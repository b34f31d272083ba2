"""Official checkpoints: read, converted, loaded."""

import json
import pickle
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

from papers.dreamerv3 import official
from papers.dreamerv3.algorithm import DreamerV3
from papers.dreamerv3.parity import agent_state
from papers.dreamerv3.parity_modules import spaces, under
from repro import cli
from repro.errors import UsageError
from repro.interop import parity

GOLDEN = parity.Golden(Path(__file__).parents[2] / "golden" / "dreamerv3")
CASE = GOLDEN.load("train_step_continuous")


def log_directory(folder: Path, config: bool = True) -> Path:
    """What the official code would have written for the agent of a golden case."""
    weights = {k.removeprefix("params0/"): v for k, v in CASE.weights.items()}
    weights |= {k.removeprefix("optstate0/"): v for k, v in CASE.inputs.items() if k.startswith("optstate0/")}
    checkpoint = folder / "ckpt" / "20250101T000000F000000-000000000100"
    checkpoint.mkdir(parents=True)
    data = {"params": weights, "counters": {"updates": 3, "batches": 3, "actions": 7}}
    (checkpoint / "agent.pkl").write_bytes(pickle.dumps(data))
    (checkpoint / "done").write_bytes(b"")
    (folder / "ckpt" / "latest").write_text(checkpoint.name)
    if config:
        agent = dict(CASE.config["agent"])
        agent |= {"dyn": {"typ": "rssm", "rssm": agent.pop("rssm")}}
        agent |= {k: {"typ": "simple", "simple": agent[k]} for k in ("enc", "dec")}
        (folder / "config.yaml").write_text(yaml.safe_dump({"agent": agent, "seed": 0}))
    return folder


def agent_of_case() -> DreamerV3:
    config = CASE.config
    return DreamerV3(official.agent_config(config["agent"]), spaces(config["obs_space"]), spaces(config["act_space"]))


def test_an_imported_agent_is_the_official_one(tmp_path, capsys):
    assert cli.main(["import", "dreamerv3", str(log_directory(tmp_path / "log")), "--out", str(tmp_path / "ours")]) == 0
    assert "8,539 parameters" in capsys.readouterr().out
    agent = agent_of_case()
    found = official.load_imported(tmp_path / "ours", agent)
    expected = agent_state(agent, under(CASE.weights, "params0/"), under(CASE.inputs, "optstate0/"))
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    meta = json.loads((tmp_path / "ours" / "meta.json").read_text())
    assert meta["counters"]["updates"] == 3 and meta["config_from"] == "config.yaml"
    assert meta["agent"]["rssm"]["deter"] == 16 and meta["agent"]["optimizer"]["lr"] == 0.001
    # Same outputs: the recorded posterior of the first batch, from the imported weights.
    inputs = under(CASE.inputs, "step0/")
    nets = agent.bind(found.params)
    data = under(inputs, "data/")
    tokens = nets.encoder({k: data[k][:, 1:2] for k in agent.obs_spaces}, jnp.float32)
    start = (data["dyn/deter"][:, 0], data["dyn/stoch"][:, 0].reshape(2, -1))
    out = nets.rssm.observe_step(
        start, tokens[:, 0], data["action"][:, 0], data["is_first"][:, 1], jnp.full((2, 4), 0.5)
    )
    np.testing.assert_allclose(out.deter, CASE.outputs["step0/post_deter"].reference[:, 0], rtol=1e-5, atol=1e-5)


def test_every_way_to_name_a_checkpoint_finds_it(tmp_path):
    folder = log_directory(tmp_path)
    file = official.agent_file(folder)
    for name in (folder / "ckpt", file.parent, file):
        assert official.agent_file(name) == file


def test_sizes_are_read_off_the_shapes_where_there_is_no_configuration():
    weights = {
        "dyn/dynin0/kernel": np.zeros((64, 16)),
        "dyn/dynin1/kernel": np.zeros((64, 16)),
        "dyn/dynhid0/kernel": np.zeros((4, 64, 16)),
        **{f"dyn/{k}{i}/kernel": np.zeros((16, 16)) for k, n in [("prior", 2), ("obs", 1)] for i in range(n)},
        **{f"enc/cnn{i}/kernel": np.zeros((5, 5, 3, c)) for i, c in enumerate((8, 12, 16, 16))},
        "dec/sp0/kernel": np.zeros((8, 8, 32)),
        "dec/sp1/kernel": np.zeros((64, 24)),
        **{f"{h}/mlp/linear{i}/kernel": np.zeros((128, 20)) for h in ("rew", "con", "pol", "val") for i in range(2)},
    }
    config = official.config_of_shapes(weights)
    assert (config.rssm.deter, config.rssm.hidden, config.rssm.classes, config.rssm.blocks) == (64, 16, 2, 4)
    assert (config.encoder.depth, config.encoder.mults, config.decoder.units) == (4, (2, 3, 4, 4), 12)
    assert (config.actor.units, config.critic.layers) == (20, 2)
    assert config.reward.outscale == 0.0 and config.critic.outscale == 0.0


def test_numbers_that_yaml_takes_for_text_are_numbers(tmp_path):
    (tmp_path / "config.yaml").write_text("agent: {opt: {lr: 4e-5, eps: 1e-20}, policy: {unimix: 0.01}}")
    config = official.agent_config(official.read_config(tmp_path / "config.yaml"))
    assert config.optimizer.lr == 4e-5 and config.optimizer.eps == 1e-20
    assert config.actor.unimix == 0.0  # configured, but the official code never applies it


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: official.agent_file(p).unlink(), "no such file"),
        (lambda p: official.agent_file(p).write_bytes(b"\x80\x04torn"), "not a readable pickle"),
        (lambda p: official.agent_file(p).write_bytes(pickle.dumps({"x": 1})), "no DreamerV3 parameters"),
        (lambda p: (p / "config.yaml").write_text("nothing: here"), "not an official configuration"),
        (lambda p: (p / "config.yaml").write_text("agent: {rssm: {norm: layer}}"), "norm 'layer' is not implemented"),
    ],
)
def test_a_bad_checkpoint_is_one_clear_line_and_nothing_is_written(tmp_path, capsys, spoil, message):
    folder = log_directory(tmp_path / "log")
    spoil(folder)
    assert cli.main(["import", "dreamerv3", str(folder), "--out", str(tmp_path / "ours")]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1
    assert not (tmp_path / "ours").exists()


def test_a_checkpoint_of_another_agent_is_refused(tmp_path):
    official.import_checkpoint(log_directory(tmp_path / "log"), tmp_path / "ours")
    config = official.agent_config({k: v for k, v in CASE.config["agent"].items() if k != "rssm"})
    other = DreamerV3(config, spaces(CASE.config["obs_space"]), spaces(CASE.config["act_space"]))
    with pytest.raises(UsageError, match="other sizes or spaces"):
        official.load_imported(tmp_path / "ours", other)


def test_an_unknown_official_name_is_refused():
    with pytest.raises(UsageError, match="dyn/extra/kernel"):
        official.our_name("dyn/extra/kernel")


def test_an_existing_output_directory_is_kept(tmp_path, capsys):
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "precious").write_text("")
    folder = log_directory(tmp_path / "log")
    assert cli.main(["import", "dreamerv3", str(folder), "--out", str(tmp_path / "ours")]) == 2
    assert "exists already" in capsys.readouterr().err
