"""Ends of episodes by age, as `scripts/dream_dangers.py` prints them."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "dream_dangers.py"


@pytest.fixture(scope="module")
def ends_by_age():
    spec = importlib.util.spec_from_file_location("dream_dangers", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ends_by_age


def test_a_constant_danger_is_found_at_every_age(ends_by_age):
    lengths = np.random.default_rng(0).geometric(0.002, 200_000)
    found = ends_by_age(lengths, 10**9)
    # Standard error at the last age: 2 / sqrt(200,000 * P(longer than 1,350) * 0.26) = 0.03.
    np.testing.assert_allclose(found, 2.0, atol=0.12)


def test_steps_and_ends_are_counted_where_they_lie(ends_by_age):
    # 150 steps and an end in the first part; 150 and 50 with an end in the second one; the limit is not an end.
    found = ends_by_age([150, 200, 300], limit=300)
    assert found[:2] == [1000 / 450, 1000 / 200]
    assert np.isnan(found[2])
