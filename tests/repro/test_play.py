"""The page to steer in: what the server answers, and the page itself in Chromium."""

import base64
import html
import json
import os
import re
import shutil
import subprocess
import threading
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from repro import play
from repro.cli import main
from repro.errors import UsageError

CHROMIUM = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome")) if p), None)


class Toy:
    """The dream shows the keys as red, the temperature as green; it is over after 8 steps, the real one after 12."""

    title = "Toy <dream>"
    keys = {"ArrowLeft": "left", "ArrowRight": "right", "c": "cruise"}
    toggles = frozenset({"c"})
    temperature = 0.5

    def __init__(self) -> None:
        self.asked: list = []

    def reset(self, seed: int) -> play.Moment:
        self.asked.append(("reset", seed))
        self.steps = 0
        return self._moment(frozenset(), 0.0)

    def step(self, keys: frozenset[str], temperature: float) -> play.Moment:
        self.asked.append((sorted(keys), temperature))
        self.steps += 1
        return self._moment(keys, temperature)

    def _moment(self, keys: frozenset[str], temperature: float) -> play.Moment:
        dream = np.zeros((4, 6, 3), np.uint8)
        dream[..., 0], dream[..., 1] = 100 * len(keys), round(100 * temperature)
        return play.Moment(dream, np.full((4, 6, 3), self.steps, np.uint8), self.steps >= 8, self.steps >= 12)

    def close(self) -> None:
        self.asked.append("closed")


@pytest.fixture
def served():
    game = Toy()
    server = play.serve(game, 0, rate=200)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield game, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def post(address: str, what: object) -> tuple[int, dict]:
    data = what if isinstance(what, bytes) else json.dumps(what).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(address, data), timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_steps_answer_with_both_images(served) -> None:
    game, address = served
    status, first = post(f"{address}/reset", {"seed": 3})
    assert (status, first["height"], first["width"], first["dream_over"]) == (200, 4, 6, False)
    status, moment = post(f"{address}/step", {"keys": ["ArrowLeft"], "temperature": 1.3})
    dream = np.frombuffer(base64.b64decode(moment["dream"]), np.uint8).reshape(4, 6, 3)
    assert (dream[..., 0] == 100).all() and (dream[..., 1] == 130).all()
    assert set(base64.b64decode(moment["real"])) == {1}
    assert game.asked == [("reset", 3), (["ArrowLeft"], 1.3)]


@pytest.mark.parametrize(
    ("path", "what", "status", "line"),
    [
        ("/step", {"keys": [], "temperature": 0}, 400, "temperature must be above 0"),
        ("/step", {"keys": [], "temperature": -1}, 400, "temperature must be above 0"),
        ("/step", {"keys": [], "temperature": "warm"}, 400, "could not convert"),
        ("/step", {"temperature": 1}, 400, "keys"),
        ("/reset", b"no json", 400, "Expecting value"),
        ("/reset", [1], 400, "list indices"),
        ("/nothing", {}, 404, "nothing at /nothing"),
    ],
)
def test_wrong_requests_get_one_line(served, path: str, what: object, status: int, line: str) -> None:
    code, answer = post(f"{served[1]}{path}", what)
    assert code == status and line in answer["error"] and "\n" not in answer["error"]


def test_the_page_is_one_file_and_knows_the_game(served) -> None:
    with urllib.request.urlopen(f"{served[1]}/") as answer:
        page = answer.read().decode()
    assert not re.search(r"https?://|<link|src=", page)
    about = json.loads(re.search(r"const about = (.*);", page)[1])  # type: ignore[index]
    assert about == {"title": "Toy <dream>", "keys": Toy.keys, "toggles": ["c"], "temperature": 0.5, "rate": 200}
    assert "<dream>" not in page


def test_a_taken_port_is_one_line(served) -> None:
    port = int(served[1].rsplit(":", 1)[1])
    with pytest.raises(UsageError, match=f"--port {port} cannot be used"):
        play.serve(Toy(), port)
    with pytest.raises(UsageError, match="--port 70000 cannot be used"):
        play.serve(Toy(), 70000)


CHECK = """
const log = [];
addEventListener("error", event => log.push("FAIL " + event.message));
const until = async test => { while (!test()) await new Promise(next => setTimeout(next, 5)); };
const key = (type, name) => dispatchEvent(new KeyboardEvent(type, { key: name }));
const pixel = () => document.querySelector("#dream canvas").getContext("2d").getImageData(0, 0, 1, 1).data;
(async () => {
  await until(() => steps.dream >= 2);
  key("keydown", "ArrowLeft"); key("keydown", "ArrowRight");
  await until(() => pixel()[0] === 200);
  key("keyup", "ArrowLeft");
  await until(() => pixel()[0] === 100);
  const slider = document.getElementById("temperature");
  slider.value = 1.5; slider.dispatchEvent(new Event("input"));
  await until(() => pixel()[1] === 150 || moment.dream_over);
  log.push("temperature " + document.getElementById("tau").textContent);
  await until(() => document.querySelectorAll("figure.over").length === 2);
  log.push("over " + steps.dream + " " + steps.real);
  key("keyup", "ArrowRight"); key("keydown", " ");
  await until(() => !moment.dream_over && steps.dream > 0);
  log.push("again " + document.querySelectorAll("figure.over").length);
  key("keydown", "c"); key("keyup", "c"); dispatchEvent(new Event("blur"));
  await until(() => pixel()[0] === 100);
  key("keydown", "c"); key("keyup", "c");
  await until(() => pixel()[0] === 0);
  log.push("stays");
  log.push("title " + document.title);
  document.body.dataset.check = log.join("; ");
})();
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
def test_keys_temperature_ends_and_restart_in_chromium(served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    game, _ = served
    page = tmp_path / "page.html"
    page.write_text(play.PAGE.read_text().replace("</script>", CHECK + "</script>"))
    monkeypatch.setattr(play, "PAGE", page)
    server = play.serve(game, 0, rate=50)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    assert CHROMIUM is not None
    try:
        done = subprocess.run(
            [
                CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
                "--virtual-time-budget=20000", "--dump-dom", f"http://127.0.0.1:{server.server_address[1]}/",
            ],
            capture_output=True, text=True, timeout=120, env={**os.environ, "HOME": str(tmp_path)},
        )  # fmt: skip
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    match = re.search(r'data-check="([^"]*)"', done.stdout)
    assert match, done.stderr[-2000:]
    assert html.unescape(match[1]) == "temperature 1.50; over 8 12; again 0; stays; title Toy <dream>"
    assert [kind for kind, _ in game.asked].count("reset") == 2
    assert (["ArrowLeft", "ArrowRight"], 0.5) in game.asked


def test_commands_that_cannot_be_are_one_line(
    capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPRO_CACHE", str(tmp_path))
    assert main(["play", "dyna"]) == 2
    assert "dyna has nothing to play" in capsys.readouterr().err
    assert main(["play", "world_models", "--rate", "0"]) == 2
    assert "--rate must be above 0" in capsys.readouterr().err
    assert main(["play", "world-models"]) == 2
    assert "no run of world_models on this machine; make one: repro reproduce" in capsys.readouterr().err
    assert main(["play", "world_models", "--run", str(tmp_path)]) == 2
    assert "no kept run for" in capsys.readouterr().err
