"""`repro data` on the command line."""

import json

import numpy as np
import pytest

from repro.cli import main


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("REPRO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("REPRO_DATA", raising=False)


def test_list_says_what_is_here_and_how_to_get_the_rest(tmp_path, capsys, monkeypatch):
    np.savez(tmp_path / "cifar10_jpeg.npz", x=np.zeros(1))
    monkeypatch.setenv("REPRO_DATA", str(tmp_path))
    assert main(["data", "list"]) == 0
    text = capsys.readouterr().out
    assert f"here: {tmp_path}/cifar10_jpeg.npz" in text and "`repro data get fashion_mnist` fetches it" in text
    assert max(map(len, text.splitlines())) <= 100
    assert main(["data", "list", "--json"]) == 0
    found = {of["name"]: of for of in json.loads(capsys.readouterr().out)}
    assert found["cifar10"]["at"] == f"{tmp_path}/cifar10_jpeg.npz" and found["stl10"]["at"] is None
    assert found["imagenet1k"]["classes"] == 1000 and found["cifar10"]["megabytes"] == 139


def test_a_location_counts_for_the_sets_named_in_it(tmp_path, capsys):
    (tmp_path / "stl10_binary").mkdir()
    assert main(["data", "list", "--location", str(tmp_path), "--json"]) == 0
    here = [of["name"] for of in json.loads(capsys.readouterr().out) if of["at"]]
    assert here == ["stl10"]


@pytest.mark.parametrize(
    "words, message",
    [
        (["get", "cifar"], "did you mean: cifar10"),
        (["get", "imagenet1k"], "is in no package registry"),
        (["fetch"], "see repro data --help"),
    ],
)
def test_mistakes_are_one_line(words, message, capsys):
    assert main(["data", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
