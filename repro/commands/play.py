"""`repro play`: a page where a person steers inside a learned model, beside the real task."""

import argparse
import json
import webbrowser
from pathlib import Path

from repro import paths, registry
from repro.errors import UsageError

HELP = "steer inside a learned model, in the browser, beside the real task"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("paper", metavar="PAPER")
    parser.add_argument("--run", metavar="RUN", help="run folder, record file or record id (default: the newest run)")
    parser.add_argument("--port", type=int, default=8765, help="of the page on this machine; 0: a free one")
    parser.add_argument("--rate", type=float, default=30.0, metavar="FPS", help="frames per second (default 30)")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")


def run(args: argparse.Namespace) -> int:
    """Serves the page until interrupted; returns the exit code."""
    paper = registry.find(args.paper)
    if not paper.play:
        able = [name for name, other in registry.papers().items() if other.play]
        raise UsageError(f"{paper.name} has nothing to play; papers that do: {', '.join(able) or 'none'}")
    if not 0 < args.rate <= 1000:
        raise UsageError(f"--rate must be above 0 and at most 1000, got {args.rate:g}")
    folder = _folder(paper.name, args.run)

    from repro import platform
    from repro.play import serve

    platform.configure_jax()
    print(f"opening {folder} ...", flush=True)
    game = registry.load(paper.play)(folder)
    try:
        with serve(game, args.port, args.rate) as server:
            address = f"http://127.0.0.1:{server.server_address[1]}/"
            print(f"{game.title}: {address} (Ctrl-C ends it)", flush=True)
            if not args.no_browser:
                webbrowser.open(address)
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                print()
    finally:
        game.close()
    return 0


def _folder(paper: str, name: str | None) -> Path:
    """The folder of the run that is named, or of the paper's newest one."""
    if name is not None:
        from repro.pipeline.evaluate import find_run

        folder = find_run(name)
        found = json.loads((folder / "run.json").read_text())["paper"]
        if found != paper:
            raise UsageError(f"{folder} is a run of {found}, not of {paper}")
        return folder
    runs = (paths.cache() / "runs" / paper).glob("*/*/*/run.json")
    newest = max(runs, key=lambda file: file.stat().st_mtime, default=None)
    if newest is None:
        raise UsageError(
            f"no run of {paper} on this machine; make one: repro reproduce {paper}, or name one: --run RUN"
        )
    return newest.parent
