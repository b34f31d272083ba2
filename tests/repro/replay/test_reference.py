import json
from pathlib import Path

import numpy as np
import pytest

from repro.errors import UsageError
from repro.replay.reference import ReferenceReplay, flag_rules, parity_replay

GOLDEN = Path(__file__).parents[2] / "golden" / "dreamerv3"


def test_reference_reproduces_the_official_buffer_and_ratio_exactly():
    config = json.loads((GOLDEN / "cases.json").read_text())["cases"]["replay"]["config"]
    ours = parity_replay(config)
    with np.load(GOLDEN / "replay.npz") as official:
        compared = [name for name in official if not name.endswith("/cfg")]
        assert sorted(compared) == sorted(ours)
        for name in compared:
            np.testing.assert_array_equal(ours[name], official[name], err_msg=name)


def test_removed_item_is_replaced_by_the_last_of_the_list():
    replay = ReferenceReplay(streams=1, length=1, items=3)
    for t in range(4):
        replay.add(0, t)
    assert replay.items == [(0, 2), (0, 1), (0, 3)]


def test_ring_of_a_stream_forgets_only_its_own_items():
    replay = ReferenceReplay(streams=2, length=2, steps=3)
    replay.add(1, "b0")
    replay.add(1, "b1")
    for t in range(5):
        replay.add(0, f"a{t}")
    assert sorted(replay.items) == [(0, 2), (0, 3), (1, 0)]
    assert [replay.stored(0, t) for t in range(6)] == [False, False, True, True, True, False]


@pytest.mark.parametrize("text", ["worker 0: sometimes", "worker 0: never", "worker 0: never, worker 2: never"])
def test_unreadable_rules_are_named(text):
    with pytest.raises(UsageError, match="worker"):
        flag_rules(text, workers=2)
