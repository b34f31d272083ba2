"""The two ways a command can fail, each shown to the user as one line without a traceback."""

import difflib
from collections.abc import Iterable


class UsageError(Exception):
    """The user asked for something that cannot be done; the message says what would be right. Exit code 2."""


class RunError(Exception):
    """A run failed (NaN, full disk, dead environment, damaged checkpoint). Exit code 1."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """A `UsageError` for an unknown name that lists the nearest known names (or all of them if few).

    >>> str(unknown("task", "pogn", ["pong", "boxing"]))
    "unknown task 'pogn'; did you mean: pong? (repro list shows all)"
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        hint = f"did you mean: {', '.join(near)}? (repro list shows all)"
    elif len(known) <= 12:
        hint = f"known: {', '.join(known)}"
    else:
        hint = "repro list shows all"
    return UsageError(f"unknown {kind} {name!r}; {hint}")
