from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from repro.replay import mark_boundaries


class Flags(NamedTuple):
    is_first: Any
    is_last: Any


@pytest.mark.parametrize("xp", [np, jnp])
def test_first_step_is_first_and_abandoned_episodes_end(xp):
    batch = Flags(
        xp.array([[0, 0, 1, 0], [1, 0, 0, 0]], bool),
        xp.array([[0, 0, 0, 1], [0, 0, 1, 0]], bool),
    )
    marked = mark_boundaries(batch)
    np.testing.assert_array_equal(marked.is_first, [[1, 0, 1, 0], [1, 0, 0, 0]])
    np.testing.assert_array_equal(marked.is_last, [[0, 1, 0, 1], [0, 0, 1, 0]])
    assert isinstance(marked.is_first, type(batch.is_first))


def test_forced_first_flag_does_not_end_anything_and_seeds_axis_is_kept():
    quiet = np.zeros((2, 3, 4), bool)
    marked = mark_boundaries(Flags(quiet, quiet))
    assert marked.is_first.shape == (2, 3, 4) and marked.is_first[..., 0].all() and not marked.is_first[..., 1:].any()
    assert not marked.is_last.any()
    assert not quiet.any()
