"""The replay buffer of the suite: storage on the device or on the host, samplers as parts."""

from repro.replay.device import DeviceReplay, ReplayState
from repro.replay.episodes import Episodes, padded_left, padded_right, within
from repro.replay.host import HostReplay
from repro.replay.prioritised import Prioritised
from repro.replay.ratio import UpdateRatio
from repro.replay.samplers import Ids, Newest, Rings, Sampler, Uniform
from repro.replay.sequences import mark_boundaries

__all__ = [
    "DeviceReplay",
    "Episodes",
    "HostReplay",
    "Ids",
    "Newest",
    "Prioritised",
    "ReplayState",
    "Rings",
    "Sampler",
    "Uniform",
    "UpdateRatio",
    "mark_boundaries",
    "padded_left",
    "padded_right",
    "within",
]
