"""From images to records: the stages, resumption, imported weights, bad input."""

import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from papers.ijepa import algorithm, config, jobs, networks, official, pipeline
from papers.ijepa.config import MODELS
from repro.cli import main
from repro.interop import torch_files
from repro.nn import vit
from repro.tracker import records

sys.path.insert(0, str(Path(__file__).parent))
import small  # noqa: E402

SETTINGS = {
    "model.width": 8, "model.depth": 4, "model.heads": 2, "model.hidden": 16, "predictor_width": 8,
    "predictor_depth": 1, "optim.batch": 16, "optim.epochs": 2, "warmup_epochs": 0.5, "mask.widths": 24,
    "probe.epochs": 1, "snapshots": 2, "mask.group": 4,
}  # fmt: skip


@pytest.fixture(autouse=True)
def images(monkeypatch, tmp_path):
    (tmp_path / "data").mkdir()
    small.write_set(tmp_path / "data")
    monkeypatch.setenv("REPRO_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("REPRO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(jobs, "ENCODED", 16)


def go(folder, *more, **of):
    settings = [f"{name}={value}" for name, value in {**SETTINGS, **of}.items()]
    options = [word for setting in settings for word in ("--set", setting)]
    words = ["reproduce", "ijepa", "--preset", "cpu", "--seeds", "2", "--out", str(folder), "--quiet", *options, *more]
    return main(words)


def found(folder):
    return {(r["suite"], r["method"]): r for r in records.load_all(folder, "ijepa")}


def test_one_epoch_is_a_part_of_the_budget_and_what_is_not_trained_has_none():
    settings = config.cpu("cifar10_linear", "cifar10")
    assert settings.optim.epochs == 1
    arrays = {f"seed0/{name}/linear": np.array(30.0) for name in ("epoch1", "random_encoder", "raw_pixels")}
    run = SimpleNamespace(seeds=[0], reference=config.paper("cifar10_linear", "cifar10"))
    found = {"probe": SimpleNamespace(arrays=lambda: arrays)}
    budgets = {r.method: (r.budget_used, r.budget_paper) for r in pipeline.results(settings, run, found, {})}
    assert budgets == {"ijepa_looped_jepa_v3": (1, 300), "random_encoder": (1, 1), "raw_pixels": (1, 1)}


def test_cifar_from_images_to_records(tmp_path, capsys):
    assert go(tmp_path / "out") == 0
    made = found(tmp_path / "out")
    methods = {
        "cifar10_linear": ["ijepa_looped_jepa_v3", "random_encoder", "raw_pixels"],
        "cifar10_knn": ["ijepa_vit_tiny_simulusion", "random_encoder", "raw_pixels"],
    }
    assert set(made) == {(suite, method) for suite, names in methods.items() for method in names}
    record = made["cifar10_linear", "ijepa_looped_jepa_v3"]
    assert record["seeds"] == [0, 1] and [e["step"] for e in record["episodes"]] == [[1.0, 2.0]] * 2
    assert record["scores"] == [e["return"][-1] for e in record["episodes"]]
    assert record["budget"] == {"used": 2, "paper": 300, "unit": "epochs"} and record["metric"] == "top1_accuracy"
    assert record["deviations"]["optim.epochs"] == {"paper": 300, "used": 2}
    assert not any(name.startswith(("run", "data.location")) for name in record["deviations"])
    assert set(record["extra"]["sweep"]) == {f"seed{s}/epoch{e}/sweep" for s in (0, 1) for e in (1, 2)}
    # Ten classes that differ in colour: any encoder tells them apart, if images and labels arrive in the same order.
    assert np.mean(made["cifar10_knn", "random_encoder"]["scores"]) > 60
    assert (
        made["cifar10_knn", "raw_pixels"]["scores"][0] > 10 and made["cifar10_knn", "raw_pixels"]["scores"][1] is None
    )
    assert "partial" in capsys.readouterr().out
    assert list(records.pictures(record, tmp_path / "out"))[0].startswith("images, contexts, targets")
    assert main(["evaluate", record["id"]]) == 0
    seeds = [f"seed {seed}: {score:.1f}" for seed, score in enumerate(record["scores"])]
    assert capsys.readouterr().out.splitlines()[1:] == seeds
    assert next((tmp_path / "cache").rglob("pictures.png")).stat().st_size > 1000


def test_a_run_stopped_in_both_stages_ends_with_the_same_numbers(tmp_path, monkeypatch, capsys):
    more = {"probe.baselines": "false", "knn": "false"}
    assert go(tmp_path / "whole", **more) == 0
    stopped = []
    for kind, at in ((jobs.Pretrain, 3), (jobs.Probe, 1)):
        plain = kind.step

        def step(self, index, plain=plain, at=at, kind=kind):
            metrics = plain(self, index)
            if index == at and kind not in stopped:
                stopped.append(kind)
                os.kill(os.getpid(), signal.SIGTERM)
            return metrics

        monkeypatch.setattr(kind, "step", step)
    monkeypatch.setenv("REPRO_CACHE", str(tmp_path / "other"))
    codes = [go(tmp_path / "cut", **more)]
    while codes[-1] != 0 and len(codes) < 4:
        codes.append(go(tmp_path / "cut", "--resume", **more))
    assert codes == [1, 1, 0]
    whole, cut = found(tmp_path / "whole"), found(tmp_path / "cut")
    assert whole and {k: r["episodes"] for k, r in whole.items()} == {k: r["episodes"] for k, r in cut.items()}


def test_another_strategy_is_a_method_of_its_own(tmp_path):
    assert go(tmp_path / "out", strategy="raster", **{"probe.baselines": "false", "knn": "false", "snapshots": 1}) == 0
    assert set(found(tmp_path / "out")) == {("cifar10_linear", "ijepa_raster")}


def test_official_weights_are_imported_probed_and_exported(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(official.HEADS, (8, 4), 2)
    config = small.config(seeds=1)
    state = algorithm.init(config, jax.random.key(0))
    groups = {
        "encoder": official.to_official(vit.under(state.online, "encoder"), "encoder"),
        "predictor": official.to_official(vit.under(state.online, "predictor"), "predictor"),
        "target_encoder": official.to_official({k: p + 1 for k, p in state.target.items()}, "encoder"),
    }
    tables = official.tables(config.model, config.grid)
    for name, of in (("encoder", "encoder"), ("predictor", "predictor"), ("target_encoder", "encoder")):
        groups[name] = {f"module.{k}": v for k, v in (groups[name] | tables[of]).items()}
    torch_files.write(tmp_path / "jepa.pth.tar", groups)
    assert main(["import", "ijepa", str(tmp_path / "jepa.pth.tar"), "--out", str(tmp_path / "ours")]) == 0
    assert "at 32 pixels: target encoder of" in capsys.readouterr().out
    with np.load(tmp_path / "ours" / "params.npz") as arrays:
        given = {k.removeprefix("target/"): arrays[k] for k in arrays.files if k.startswith("target/")}
    images = jax.random.normal(jax.random.key(1), (2, 32, 32, 3))
    expected = networks.encode({k: p + 1 for k, p in state.target.items()}, config.model, config.grid, images)
    np.testing.assert_allclose(networks.encode(given, config.model, config.grid, images), expected, atol=1e-5)
    exported = torch_files.read(tmp_path / "ours" / "official.pth.tar")
    for name, weights in groups.items():
        assert {f"module.{k}" for k in exported[name]} == set(weights)
        for key, value in weights.items():
            np.testing.assert_array_equal(exported[name][key.removeprefix("module.")].read(), value)
    more = {"weights": tmp_path / "ours", "probe.baselines": "false", "knn": "false", "snapshots": 1}
    assert go(tmp_path / "out", "--seeds", "1", **more) == 0
    assert found(tmp_path / "out")["cifar10_linear", "ijepa_looped_jepa_v3"]["budget"]["used"] == 2


def test_official_names_of_every_size_are_those_of_the_release():
    model = MODELS["vit_base16"]
    shapes = networks.encoder_shapes(model)
    theirs = official.to_official({n: np.zeros(s, np.int8) for n, s in shapes.items()}, "encoder")
    assert theirs["patch_embed.proj.weight"].shape == (768, 3, 16, 16)
    assert theirs["blocks.11.attn.qkv.weight"].shape == (2304, 768) and theirs["norm.bias"].shape == (768,)
    assert len(theirs) == 2 + 12 * 12 + 2


BAD = {
    "data.name=cifar1": "unknown data set 'cifar1'",
    "data.location=nowhere": "cifar10 is not at nowhere",
    "weights=nowhere": "no params.npz there",
    "run.reuse=nowhere": "no stages there",
    "probe.protocol=tiny": "unknown linear probe 'tiny'",
    "optim.batch=4096": "a batch of 4096 is more than the 48 images",
    "run.data_parallel=64": "use at most that many",
}


@pytest.mark.parametrize("setting", BAD)
def test_a_mistake_is_one_line(setting, tmp_path, capsys):
    more = ["--set", setting, "--seeds", "1"]
    assert go(tmp_path, *more, **{"mask.group": 1}) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert BAD[setting] in lines[-1] and "Traceback" not in "\n".join(lines)


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, capsys):
    torch_files.write(tmp_path / "a.pth.tar", {"model": {"w": np.zeros(3)}})
    assert main(["import", "ijepa", str(tmp_path / "a.pth.tar"), "--out", str(tmp_path / "o")]) == 2
    assert "it holds model, not encoder, predictor, target_encoder" in capsys.readouterr().err
