"""The parts of one DreamerV3 run: agent and environment."""

from collections.abc import Sequence

from papers.dreamerv3.algorithm import DreamerV3
from papers.dreamerv3.config import Config
from repro.envs import make
from repro.envs.base import HostEnv, JaxEnv


def build(config: Config, env_seeds: Sequence[int]) -> tuple[DreamerV3, HostEnv | JaxEnv]:
    """Algorithm and vector environment of a configuration, one environment per entry of `env_seeds`."""
    env = make(config.suite, config.task, env_seeds, config.env, prefer_jit=config.loop.driver == "fused")
    return DreamerV3(config.agent, env.obs_spaces, env.action_spaces), env
