"""A page served on this machine where a person steers inside a learned model and, with the same keys, in the real task.

The page (`play.html`) is one file without anything from elsewhere. It asks for one step at a time, so the model never
runs ahead of the person.
"""

import base64
import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from repro.errors import UsageError

PAGE = Path(__file__).with_suffix(".html")


class Moment(NamedTuple):
    """What the two worlds show after a step."""

    dream: np.ndarray
    """uint8 `[H, W, 3]`."""
    real: np.ndarray
    """uint8 `[H, W, 3]`."""
    dream_over: bool
    real_over: bool


class Game(Protocol):
    """A model and the task it was learnt from. What is over stays as it is until `reset`."""

    title: str
    keys: Mapping[str, str]
    """Key (as browsers name it: "ArrowLeft") -> what it does."""
    toggles: frozenset[str]
    """Those that stay down until they are pressed again."""
    temperature: float
    """At the beginning."""

    def reset(self, seed: int) -> Moment:
        """Both worlds at the same first frame."""
        ...

    def step(self, keys: frozenset[str], temperature: float) -> Moment:
        """One step of both worlds with the keys that are held down."""
        ...

    def close(self) -> None:
        """Ends the real task."""
        ...


def serve(game: Game, port: int, rate: float = 30.0) -> ThreadingHTTPServer:
    """A server for the page on this machine alone; the caller runs `serve_forever`. Port 0 takes a free one.

    Raises `UsageError` where the port is taken.
    """
    about = {
        "title": game.title,
        "keys": dict(game.keys),
        "toggles": sorted(game.toggles),
        "temperature": game.temperature,
        "rate": rate,
    }
    page = PAGE.read_text().replace("/*ABOUT*/null", json.dumps(about).replace("<", "\\u003c")).encode()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path.split("?")[0] == "/":
                self._answer(200, page, "text/html; charset=utf-8")
            else:
                self._complain(404, f"nothing at {self.path}")

        def do_POST(self) -> None:
            try:
                asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
                with lock:
                    moment = self._play(asked)
            except (ValueError, TypeError, KeyError) as error:
                self._complain(400, " ".join(str(error).split()))
                return
            if moment is None:
                self._complain(404, f"nothing at {self.path}")
                return
            self._answer(200, json.dumps(_encoded(moment)).encode(), "application/json")

        def _play(self, asked: dict[str, Any]) -> Moment | None:
            if self.path == "/reset":
                return game.reset(int(asked["seed"]) % 2**31)
            if self.path == "/step":
                temperature = float(asked["temperature"])
                if not 0 < temperature < 100:
                    raise ValueError(f"temperature must be above 0 and below 100, not {temperature}")
                return game.step(frozenset(map(str, asked["keys"])), temperature)
            return None

        def _complain(self, status: int, line: str) -> None:
            self._answer(status, json.dumps({"error": line}).encode(), "application/json")

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Says nothing: a line a frame would bury all else."""

    try:
        return ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except (OSError, OverflowError) as error:
        raise UsageError(f"--port {port} cannot be used ({error}); give another one, or 0 for a free one") from error


def _encoded(moment: Moment) -> dict[str, Any]:
    found: dict[str, Any] = {"dream_over": bool(moment.dream_over), "real_over": bool(moment.real_over)}
    for name, image in (("dream", moment.dream), ("real", moment.real)):
        found[name] = base64.b64encode(np.ascontiguousarray(image, np.uint8).tobytes()).decode()
    found["height"], found["width"] = moment.dream.shape[:2]
    return found
