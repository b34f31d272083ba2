"""I-JEPA equals the official code on every recorded case."""

from pathlib import Path

import pytest

from papers.ijepa.parity import CASES
from repro.interop import parity

GOLDEN = parity.Golden(Path(__file__).parents[2] / "golden" / "ijepa")


@pytest.mark.parametrize("name", GOLDEN.names)
def test_equals_the_official_code_within_the_stated_tolerance(name):
    result = parity.check(GOLDEN.load(name), CASES)
    assert result.passed, f"{result.worst} {result.message}: {result.error:.3g} of the tolerance"


def test_every_implementation_has_a_case():
    assert all(any(name.startswith(case) for name in GOLDEN.names) for case in CASES)
