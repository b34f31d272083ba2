"""What the official code (danijar/dreamerv2) calls things: schedules as text, weights by name."""

import re
from pathlib import Path

from papers.dreamerv2.names import NAMES
from repro.errors import UsageError
from repro.interop import weights


def schedule(text: str, step: float) -> float:
    """Value of an official schedule such as `linear(3e-3,3e-4,2.5e6)` after `step` agent steps."""
    match = re.fullmatch(r"(linear|warmup|exp|horizon)\((.+)\)", text.replace(" ", ""))
    if not match:
        return float(text)
    kind, a, *rest = match[1], *map(float, match[2].split(","))
    if kind == "warmup":  # steps, value
        return rest[0] * min(max(step / a, 0.0), 1.0)
    if kind == "exp":  # start, end, half-life
        return (a - rest[0]) * 0.5 ** (step / rest[1]) + rest[0]
    done = min(max(step / rest[1], 0.0), 1.0)
    value = (1 - done) * a + done * rest[0]
    return 1 - 1 / value if kind == "horizon" else value


def import_checkpoint(file: Path, out: Path) -> str:
    """Converts official weights; `file` is an `.npz` archive or a pickled dict of arrays under the official names.

    The official `variables.pkl` is a list without names, in the order of creation: write it out by name first (in the
    official code `{v.name: v.numpy() for v in agent.variables}`).
    """
    arrays = {normal(k): v for k, v in weights.read_named(file).items()}
    target = {k.removeprefix("target_"): v for k, v in arrays.items() if k.startswith("target_critic/")}
    rest = {k: v for k, v in arrays.items() if not k.startswith("target_critic/")}
    if not any(k.startswith("rssm/") for k in rest):
        raise UsageError(f"{file}: no DreamerV2 weights in it (expected names such as rssm/img_in/kernel)")
    groups = {"params": NAMES.ours(rest), "target_critic": NAMES.ours(target)}
    return weights.write_converted(out, "dreamerv2", file, groups)


def normal(name: str) -> str:
    """An official variable's name without what surrounds the path of modules."""
    name = re.sub(r"^weights/|:0$", "", name)
    return re.sub(r"^(?:agent/)?(?:wm|world_model|_task_behavior|task_behavior)/", "", name)
