"""Progress for the person at the terminal; metrics for TensorBoard and as JSON lines."""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np


def duration(seconds: float) -> str:
    """Short reading of a time span: `45 s`, `12 min`, `3 h 20 min`."""
    seconds = max(0, round(seconds))
    if seconds < 100:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


class Logger:
    """`metrics.jsonl` and TensorBoard events in `folder`; progress lines on standard error unless `quiet`."""

    def __init__(self, folder: Path, quiet: bool = False) -> None:
        self.folder, self.quiet = folder, quiet
        folder.mkdir(parents=True, exist_ok=True)
        self._lines = (folder / "metrics.jsonl").open("a")
        self._writer = None

    def say(self, text: str) -> None:
        """One line for the terminal."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        """Scalars at a step; None is left out."""
        kept = {name: float(value) for name, value in values.items() if value is not None}
        self._lines.write(json.dumps({"step": step, "time": time.time(), **kept}) + "\n")
        self._lines.flush()
        for name, value in kept.items():
            self._tensorboard().add_scalar(name, value, step)

    def video(self, step: int, name: str, frames: np.ndarray) -> Path:
        """Frames uint8 `[T, H, W, C]` as a GIF file and as an animated image in TensorBoard; returns the file."""
        from tensorboardX.proto.summary_pb2 import Summary

        from repro.evaluation.video import write_gif

        path = self.folder / f"{name.replace('/', '_')}_{step}.gif"
        write_gif(path, frames)
        height, width, channels = frames.shape[1:]
        image = Summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=path.read_bytes())
        self._tensorboard().file_writer.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)
        return path

    def _tensorboard(self):  # type: ignore[no-untyped-def]
        if self._writer is None:
            from tensorboardX import SummaryWriter  # 0.3 s, only when something is written

            self._writer = SummaryWriter(str(self.folder))
        return self._writer

    def close(self) -> None:
        """Flushes and closes all files."""
        self._lines.close()
        if self._writer is not None:
            self._writer.close()


class Progress:
    """Turns "done of total" into a line with the time left; says something at most every `seconds`."""

    def __init__(self, total: int, seconds: float, unit: str = "steps") -> None:
        self.total, self.seconds, self.unit = total, seconds, unit
        self._begin: tuple[float, int] | None = None
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether it is time for another line."""
        return time.monotonic() - self._last >= self.seconds

    def line(self, done: int, detail: str) -> str:
        """The line; the rate is measured from the first call on (compilation does not count)."""
        now = time.monotonic()
        self._last = now
        if self._begin is None:
            self._begin = (now, done)
        elapsed, moved = now - self._begin[0], done - self._begin[1]
        left = f"{duration(elapsed / moved * (self.total - done))} left" if moved else "estimating time left"
        rate = f"  {moved / elapsed:.3g} {self.unit}/s" if moved and elapsed else ""
        return f"{done:>9,}/{self.total:,} {self.unit} ({done / self.total:4.0%})  {detail}{rate}  {left}"
