"""The replay buffer of the suite: storage on the device or on the host, samplers as parts."""

from repro.replay.device import DeviceReplay, ReplayState
from repro.replay.ratio import UpdateRatio
from repro.replay.samplers import Ids, Newest, Rings, Sampler, Uniform
from repro.replay.sequences import mark_boundaries

__all__ = [
    "DeviceReplay",
    "Ids",
    "Newest",
    "ReplayState",
    "Rings",
    "Sampler",
    "Uniform",
    "UpdateRatio",
    "mark_boundaries",
]
