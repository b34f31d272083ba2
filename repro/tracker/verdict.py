"""Does our number agree with the published one? The rule, in one function.

Both numbers are means over independent training runs with 95 % intervals: Student's for a single task, the stratified
bootstrap's for an aggregate over tasks (Agarwal et al. 2021 show that its percentiles are too narrow for a handful of
runs of one task). "The same" means within an equivalence margin that the suite declares beforehand (Schuirmann 1987;
Lakens, Soc. Psychol. Pers. Sci. 8 (2017)). Two 95 % intervals that do not meet are evidence at well below 5 %
(Schenker & Gentleman, Am. Stat. 55 (2001)), so chance hardly ever contradicts a faithful reproduction of many tasks.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from repro.evaluation.statistics import Difference, Estimate, difference

MIN_SEEDS = 3
"""Below this no number of ours is called reproduced, above or below."""

MAX_WIDTH = 2.0
"""Our interval may be this many times as wide as the published one, or as the margin where that is wider."""

Label = Literal["reproduced", "above", "below", "inconclusive", "partial", "untested", "unpublished", "not judged"]
LABELS: tuple[Label, ...] = (
    "reproduced", "above", "below", "inconclusive", "partial", "untested", "unpublished", "not judged",
)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What `decide` found; `str()` of it is what a table shows."""

    label: Label
    reason: str
    outcome: Label | None = None
    """How the numbers compare: the label itself, or for a partial run the comparison at the same step."""
    changed: Mapping[str, Any] = field(default_factory=dict)
    """Settings that differ from the paper's; a run with any is never shown as a plain reproduction."""
    ours: Estimate | None = None
    published: Estimate | None = None
    difference: Difference | None = None
    margin: float = 0.0
    step: float | None = None
    """For a partial run the step at which both were compared."""

    @property
    def contradicts(self) -> bool:
        """Whether a full run with the paper's settings came out above or below the published number."""
        return self.label in ("above", "below") and not self.changed

    def __str__(self) -> str:
        text: str = self.label
        if self.label == "partial" and self.outcome:
            text += f": {self.outcome}" + (f" at {self.step:,.0f}" if self.step is not None else "")
        return text + (", changed settings" if self.changed else "")


def decide(
    ours: Estimate | None,
    published: Estimate | None,
    margin: float,
    *,
    fraction: float = 1.0,
    step: float | None = None,
    changed: Mapping[str, Any] | None = None,
    recorded: bool = True,
) -> Verdict:
    """The verdict on our number against the published one.

    - `untested`: nothing recorded. `unpublished`: nothing to compare with.
    - `partial`: `fraction` of the paper's budget below 1, whatever the numbers say; `ours` and `published` are then
      the scores at the same `step` (None where no curve is published) and `outcome` tells how they compare.
    - `inconclusive`: fewer than three seeds; or an interval more than twice as wide as the published one and the
      margin; or a difference beyond the margin that the intervals do not confirm.
    - `reproduced`: the difference is within the margin. (Were the intervals apart, the margin says that such a
      difference does not matter.) The equivalence test's p-value says how firmly that is shown.
    - `above`, `below`: the difference is beyond the margin and the intervals do not meet. Where the spread of the
      published number is unknown, the margin around it takes the interval's place.
    """
    changed = dict(changed or {})
    partial = fraction < 1.0
    if not recorded:
        return Verdict("untested", "no record", published=published, margin=margin)
    if ours is None or published is None:
        reason = "no seed has a score" if ours is None else "no published number to compare with"
        if partial:
            reason = f"{fraction:.2%} of the budget; " + (
                "no score yet by the protocol" if ours is None else "no published learning curve at this step"
            )
            return Verdict("partial", reason, changed=changed, ours=ours, published=published, margin=margin)
        label: Label = "inconclusive" if ours is None else "unpublished"
        return Verdict(label, reason, changed=changed, ours=ours, published=published, margin=margin)
    outcome, reason = compare(ours, published, margin)
    return Verdict(
        label="partial" if partial else outcome,
        reason=f"{fraction:.2%} of the budget; {reason}" if partial else reason,
        outcome=outcome,
        changed=changed,
        ours=ours,
        published=published,
        difference=difference(ours, published, margin),
        margin=margin,
        step=step if partial else None,
    )


def compare(ours: Estimate, published: Estimate, margin: float) -> tuple[Label, str]:
    """The rule of `decide` for two numbers that may be compared, and the reason in words."""
    gap = ours.value - published.value
    within = abs(gap) <= margin * (1 + 1e-9) + 1e-12
    known = math.isfinite(published.half_width)
    low, high = (published.low, published.high) if known else (published.value - margin, published.value + margin)
    side: Label = "above" if gap > 0 else "below"
    if ours.seeds < MIN_SEEDS:
        return "inconclusive", f"{ours.seeds} seed{'s' if ours.seeds != 1 else ''}; {MIN_SEEDS} or more are needed"
    allowed = MAX_WIDTH * max(published.half_width if known else 0.0, margin)
    if within and ours.half_width > allowed * (1 + 1e-9) + 1e-12:
        return "inconclusive", f"our interval of ±{ours.half_width:.4g} is too wide (±{allowed:.4g} would do)"
    if within:
        return "reproduced", f"the difference of {gap:+.4g} is within the margin of {margin:.4g}"
    if ours.low > high or ours.high < low:
        return side, f"the difference of {gap:+.4g} is beyond the margin of {margin:.4g} and the intervals do not meet"
    return "inconclusive", f"the difference of {gap:+.4g} is beyond the margin of {margin:.4g}, but the intervals meet"


def decide_claim(ours: Estimate | None, low: float, high: float, *, recorded: bool = True) -> Verdict:
    """The verdict on a published statement "between `low` and `high`" (either may be infinite, e.g. "A beats B").

    `reproduced` where our interval lies inside, `above` or `below` where it lies outside; with a range that has two
    ends it is enough that our number lies inside and the interval is no wider than twice the range.
    """
    if not recorded:
        return Verdict("untested", "no record")
    if ours is None:
        return Verdict("inconclusive", "no seed has a score")
    claim = (
        f"the statement is {low:g} to {high:g}" if math.isfinite(high - low) else f"the statement is {_side(low, high)}"
    )
    if ours.seeds < MIN_SEEDS:
        return Verdict("inconclusive", f"{ours.seeds} seeds; {MIN_SEEDS} or more are needed", ours=ours)
    inside = low <= ours.low and ours.high <= high
    if math.isfinite(high - low):
        inside = low <= ours.value <= high and ours.half_width <= high - low
    label: Label = (
        "reproduced" if inside else "above" if ours.low > high else "below" if ours.high < low else "inconclusive"
    )
    return Verdict(label, f"{claim}; ours is {ours.value:.4g} ({ours.low:.4g} to {ours.high:.4g})", label, ours=ours)


def _side(low: float, high: float) -> str:
    return f"above {low:g}" if math.isfinite(low) else f"below {high:g}"


def contradictions(verdicts: Sequence[Verdict]) -> int:
    """How many of the verdicts contradict the paper."""
    return sum(verdict.contradicts for verdict in verdicts)
