"""Names and files of the official code (danijar/dreamerv3, e3f0224): weights, configuration, checkpoints."""

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from papers.dreamerv3 import agent_config as ours
from repro.errors import UsageError

C = TypeVar("C")

NAMES = [
    (r"enc/mlp(\d+)/(.+)", r"encoder/mlp/layers/\1/linear/\2"),
    (r"enc/mlp(\d+)norm/(.+)", r"encoder/mlp/layers/\1/norm/\2"),
    (r"enc/cnn(\d+)/(.+)", r"encoder/cnn/\1/conv/\2"),
    (r"enc/cnn(\d+)norm/(.+)", r"encoder/cnn/\1/norm/\2"),
    (r"dyn/dynin0/(.+)", r"rssm/deter_embed/linear/\1"),
    (r"dyn/dynin0norm/(.+)", r"rssm/deter_embed/norm/\1"),
    (r"dyn/dynin1/(.+)", r"rssm/stoch_embed/linear/\1"),
    (r"dyn/dynin1norm/(.+)", r"rssm/stoch_embed/norm/\1"),
    (r"dyn/dynin2/(.+)", r"rssm/action_embed/linear/\1"),
    (r"dyn/dynin2norm/(.+)", r"rssm/action_embed/norm/\1"),
    (r"dyn/dynhid(\d+)/(.+)", r"rssm/core_linear/\1/\2"),
    (r"dyn/dynhid(\d+)norm/(.+)", r"rssm/core_norm/\1/\2"),
    (r"dyn/dyngru/(.+)", r"rssm/gates/\1"),
    (r"dyn/obs(\d+)/(.+)", r"rssm/posterior/layers/\1/linear/\2"),
    (r"dyn/obs(\d+)norm/(.+)", r"rssm/posterior/layers/\1/norm/\2"),
    (r"dyn/obslogit/(.+)", r"rssm/posterior_logits/\1"),
    (r"dyn/prior(\d+)/(.+)", r"rssm/prior/layers/\1/linear/\2"),
    (r"dyn/prior(\d+)norm/(.+)", r"rssm/prior/layers/\1/norm/\2"),
    (r"dyn/priorlogit/(.+)", r"rssm/prior_logits/\1"),
    (r"dec/mlp/linear(\d+)/(.+)", r"decoder/mlp/layers/\1/linear/\2"),
    (r"dec/mlp/norm(\d+)/(.+)", r"decoder/mlp/layers/\1/norm/\2"),
    (r"dec/vec/(.+)/(?:pred|logits)/(.+)", r"decoder/vector/\1/\2"),
    (r"dec/sp0/(.+)", r"decoder/deter_map/\1"),
    (r"dec/sp1/(.+)", r"decoder/stoch_hidden/linear/\1"),
    (r"dec/sp1norm/(.+)", r"decoder/stoch_hidden/norm/\1"),
    (r"dec/sp2/(.+)", r"decoder/stoch_map/\1"),
    (r"dec/spnorm/(.+)", r"decoder/map_norm/\1"),
    (r"dec/conv(\d+)/(.+)", r"decoder/cnn/\1/conv/\2"),
    (r"dec/conv(\d+)norm/(.+)", r"decoder/cnn/\1/norm/\2"),
    (r"dec/imgout/(.+)", r"decoder/image/\1"),
    (r"pol/head/(.+)/stddev/(.+)", r"actor/heads/\1/std/\2"),
    (r"pol/head/(.+)", r"actor/heads/\1"),
    (r"(rew|con|pol|val)/mlp/linear(\d+)/(.+)", r"\1/mlp/layers/\2/linear/\3"),
    (r"(rew|con|pol|val)/mlp/norm(\d+)/(.+)", r"\1/mlp/layers/\2/norm/\3"),
    (r"(rew|con|val)/head/logits?/(.+)", r"\1/out/\2"),
]
"""Official name -> ours, with the head's official prefix still in place."""

HEADS = {"rew/": "reward/", "con/": "continuation/", "pol/": "actor/", "val/": "critic/"}


def our_name(official: str) -> str:
    """Our name of an official parameter; `UsageError` if it has none. Shapes and layouts are the same."""
    for pattern, replacement in NAMES:
        if match := re.fullmatch(pattern, official):
            name = match.expand(replacement)
            return HEADS[name[:4]] + name[4:] if name[:4] in HEADS else name
    raise UsageError(f"no place for the official parameter {official!r}")


MODULES = ("enc", "dyn", "dec", "rew", "con", "pol", "val")
"""Modules that the optimiser trains."""


def trained(params: Mapping[str, Any]) -> dict[str, Any]:
    """The trained parameters of an official agent under our names."""
    return {our_name(k): v for k, v in params.items() if k.split("/")[0] in MODULES}


def slow_critic(params: Mapping[str, Any]) -> dict[str, Any]:
    """Its slow critic under our names."""
    start = "slowval/"
    return {our_name("val/" + k.removeprefix(start)): v for k, v in params.items() if k.startswith(start)}


def optimizer_state(fresh: Any, params: Mapping[str, Any]) -> Any:
    """State of our optimiser chain with the official counts and moments; `fresh` is its initial state."""
    moments = []
    for stage in ("opt/state/1/1/", "opt/state/2/1/"):
        moments.append({our_name(k.removeprefix(stage)): v for k, v in params.items() if k.startswith(stage)})
    laprop = fresh[1]._replace(count=params["opt/state/1/0"], nu=moments[0], mu=moments[1])
    schedule = fresh[-1]._replace(count=params["opt/state/3/count"])
    return (fresh[0], laprop, *fresh[2:-1], schedule)


NORM_STATE = {"lo": "low", "hi": "high", "mean": "mean", "sqrs": "square", "corr": "correction"}


def norm_state(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """State of the official normaliser `name` (`retnorm`, `valnorm`, `advnorm`) for ours."""
    return {ours: values[f"{name}/{k}/value"] for k, ours in NORM_STATE.items() if f"{name}/{k}/value" in values}


RENAMED = {
    "imglayers": "prior_layers",
    "obslayers": "posterior_layers",
    "dynlayers": "core_layers",
    "bspace": "blocks",
    "minstd": "min_std",
    "maxstd": "max_std",
    "agc": "clip",
    "pmin": "min_norm",
    "wd": "weight_decay",
    "wdregex": "weight_decay_pattern",
    "lr_end": "end",
    "impl": "kind",
    "perclo": "low",
    "perchi": "high",
    "slowreg": "slow_regularizer",
    "slowtar": "slow_target",
    "rec": "reconstruction",
    "rew": "reward",
    "con": "continuation",
    "dyn": "dynamics",
    "rep": "representation",
    "policy": "actor",
    "value": "critic",
    "repval": "replay_critic",
    "contdisc": "continuation_discounts",
    "imag_last": "imagine_from_last",
    "imag_length": "imagination_length",
    "ac_grads": "actor_gradients",
    "reward_grad": "reward_gradients",
    "repval_loss": "replay_critic",
    "repval_grad": "replay_critic_gradients",
}


def section(cls: type[C], official: Mapping[str, Any], **defaults: Any) -> C:
    """A part of our configuration from the official one of the same meaning; what is missing keeps its default."""
    if official.get("norm", "rms") != "rms":
        raise UsageError(f"norm {official['norm']!r} is not implemented; only 'rms' is")
    names = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    found = {RENAMED.get(k, k): v for k, v in official.items()}
    found = {k: tuple(v) if isinstance(v, list) else v for k, v in found.items() if k in names}
    return cls(**defaults | found)


def norm_config(official: Mapping[str, Any]) -> ours.NormalizerConfig:
    """Settings of a normaliser."""
    kinds = {"perc": "percentile", "meanstd": "mean_std", "none": "none"}
    if official.get("impl") not in kinds:
        raise UsageError(f"normaliser {official.get('impl')!r} is not implemented; known: {', '.join(kinds)}")
    return section(ours.NormalizerConfig, dict(official) | {"impl": kinds[official["impl"]]})


def optimizer_config(official: Mapping[str, Any]) -> ours.OptimizerConfig:
    """Settings of the optimiser."""
    config = section(ours.OptimizerConfig, official)
    if config.schedule == "cosine" and config.end is None:
        # The official code passes the end as a share of the rate to a function that multiplies by the rate.
        return replace(config, end=0.1 * config.lr * config.lr)
    return config


def agent_config(official: Mapping[str, Any], **overrides: Any) -> ours.AgentConfig:
    """Our configuration from the official `agent` section; `overrides` are fields of `AgentConfig`."""
    default = ours.AgentConfig()
    rssm = official.get("rssm") or official.get("dyn", {}).get("rssm", {})
    encoder, decoder = (official.get(k, {}) for k in ("enc", "dec"))
    heads = {k: dict(official.get(k, {})) for k in ("rewhead", "conhead", "policy", "value")}
    twohot = official.get("twohot", {})
    limit = {"bin_limit": float(twohot["high"])} if "high" in twohot else {}
    imagined = official.get("imag_loss", {})
    slow = official.get("slowvalue", {})
    norms = {
        ours_name: norm_config(official[k]) if k in official else getattr(default, ours_name)
        for ours_name, k in [("return_norm", "retnorm"), ("value_norm", "valnorm"), ("advantage_norm", "advnorm")]
    }
    scalars = {RENAMED.get(k, k): v for k, v in official.items() if not isinstance(v, Mapping)}
    names = {f.name for f in fields(ours.AgentConfig)}
    return ours.AgentConfig(
        **{k: v for k, v in scalars.items() if k in names}
        | {
            "rssm": section(ours.RSSMConfig, rssm),
            "encoder": section(ours.EncoderConfig, encoder.get("simple", encoder)),
            "decoder": section(ours.DecoderConfig, decoder.get("simple", decoder)),
            "reward": section(ours.HeadConfig, heads["rewhead"], layers=1, outscale=0.0, **limit),
            "continuation": section(ours.HeadConfig, heads["conhead"], layers=1),
            "actor": section(ours.ActorConfig, heads["policy"]),
            "critic": section(ours.HeadConfig, heads["value"], layers=3, outscale=0.0, **limit),
            "scales": section(ours.LossScales, official.get("loss_scales", {})),
            "optimizer": optimizer_config(official.get("opt", {})),
            "imagined": section(ours.CriticTargetConfig, imagined),
            "replayed": section(ours.CriticTargetConfig, official.get("repl_loss", {})),
            "actor_entropy": imagined.get("actent", default.actor_entropy),
            "slow_critic_rate": slow.get("rate", default.slow_critic_rate),
            "slow_critic_every": slow.get("every", default.slow_critic_every),
            "compute_dtype": "float32",
        }
        | norms
        | overrides
    )
