"""The parts of one DreamerV2 run: agent and environment."""

from collections.abc import Sequence

from papers.dreamerv2.algorithm import DreamerV2
from papers.dreamerv2.config import Config
from repro.envs import make
from repro.envs.base import HostEnv, JaxEnv


def build(config: Config, env_seeds: Sequence[int]) -> tuple[DreamerV2, HostEnv | JaxEnv]:
    """Algorithm and vector environment of a configuration, one environment per entry of `env_seeds`."""
    env = make(config.suite, config.task, env_seeds, config.env, prefer_jit=config.loop.driver == "fused")
    try:
        return DreamerV2(config.agent, env.obs_spaces, env.action_spaces), env
    except BaseException:
        env.close()
        raise
