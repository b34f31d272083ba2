"""Names and files of the official code (danijar/dreamerv3, e3f0224): weights, configuration, checkpoints."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np

from papers.dreamerv3 import agent_config as ours
from papers.dreamerv3.algorithm import AgentState, DreamerV3
from papers.dreamerv3.losses import Norms
from repro.errors import UsageError
from repro.interop import pickles

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


def moments(params: Mapping[str, Any]) -> tuple[Any, list[dict[str, Any]]]:
    """Update count and the two moments (of squared and of normalised gradients) of the official optimiser."""
    stages = ("opt/state/1/1/", "opt/state/2/1/")
    trees = [{our_name(k.removeprefix(s)): v for k, v in params.items() if k.startswith(s)} for s in stages]
    return params["opt/state/1/0"], trees


def with_moments(state: Any, count: Any, nu: Any, mu: Any) -> Any:
    """The state of our optimiser chain with given count and moments."""
    laprop, schedule = state[1]._replace(step=count, nu=nu, mu=mu), state[-1]._replace(count=count)
    return (state[0], laprop, *state[2:-1], schedule)


NORMS = {"returns": "retnorm", "values": "valnorm", "advantages": "advnorm"}
"""Our normalisers and their official names."""
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


# Checkpoints: a log directory has `config.yaml` and `ckpt/`; `ckpt/latest` names a folder; that holds `agent.pkl`, a
# pickle of {"params": {name: array}, "counters": {...}}.


def import_checkpoint(file: Path, out: Path) -> str:
    """Converts an official checkpoint; writes `out/params.npz` and `out/meta.json` and says what it found.

    `file` is a log directory, its `ckpt` folder, one checkpoint in that, or an `agent.pkl`. The archive holds the
    arrays of an `AgentState` by name (`params/...`, `slow_critic/...`, `optimizer/...`, `norms/...`, `updates`), the
    other file the agent's configuration: that of the log directory's `config.yaml` or, without one, the released
    settings with sizes read off the shapes. Raises `UsageError` for anything else than such a checkpoint.
    """
    source = agent_file(file)
    data = pickles.read(source)
    weights = data.get("params") if isinstance(data, dict) else None
    if not isinstance(weights, dict) or not any(k.startswith("dyn/") for k in weights):
        raise UsageError(f"{source}: no DreamerV3 parameters in it (expected params/dyn/...)")
    described = next((p / "config.yaml" for p in source.parents[:3] if (p / "config.yaml").is_file()), None)
    config = agent_config(read_config(described)) if described else config_of_shapes(weights)
    params = trained(weights)
    arrays = {f"params/{k}": v for k, v in params.items()}
    arrays |= {f"slow_critic/{k}": v for k, v in slow_critic(weights).items()}
    arrays |= {f"norms/{ours}/{k}": v for ours, name in NORMS.items() for k, v in norm_state(weights, name).items()}
    arrays["updates"] = np.asarray(weights.get("slowval_count/value", 0), np.int32)
    if "opt/state/1/0" in weights:
        count, (nu, mu) = moments(weights)
        arrays |= {f"optimizer/nu/{k}": v for k, v in nu.items()} | {f"optimizer/mu/{k}": v for k, v in mu.items()}
        arrays["optimizer/count"] = np.asarray(count, np.int32)
    meta = {
        "format": 1,
        "paper": "dreamerv3",
        "source": file.name,
        "config_from": described.name if described else "shapes",
        "agent": asdict(config),
        "counters": {k: int(v) for k, v in data.get("counters", {}).items()},
        "parameters": int(sum(np.size(v) for v in params.values())),
    }
    out.mkdir(parents=True, exist_ok=True)
    np.savez(out / "params.npz", **{k: np.asarray(v) for k, v in arrays.items()})  # type: ignore[arg-type]
    (out / "meta.json").write_text(json.dumps(meta, indent=1))
    optimizer = "with" if "optimizer/count" in arrays else "without"
    return f"{meta['parameters']:,} parameters, {int(arrays['updates']):,} updates, {optimizer} optimiser state"


def agent_file(file: Path) -> Path:
    """The `agent.pkl` that `file` stands for."""
    if file.is_dir():
        folder = file / "ckpt" if (file / "ckpt").is_dir() else file
        if (folder / "latest").is_file():
            folder = folder / (folder / "latest").read_text().strip()
        file = folder / "agent.pkl"
    if not file.is_file():
        raise UsageError(f"{file}: no such file; expected an official log directory, checkpoint folder or agent.pkl")
    return file


def read_config(path: Path) -> dict[str, Any]:
    """The `agent` section of an official `config.yaml`, as the code behaves."""
    import yaml

    def number(value: Any) -> Any:
        # YAML 1.1 takes 4e-5, without a dot, for a string.
        if isinstance(value, dict):
            return {k: number(v) for k, v in value.items()}
        if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?e[-+]?\d+", value):
            return float(value)
        return value

    try:
        agent = number(yaml.safe_load(path.read_text())["agent"])
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: not an official configuration ({type(error).__name__}: {error})") from None
    # The policy's unimix is configured but never applied.
    return agent | {"policy": agent.get("policy", {}) | {"unimix": 0.0}}


def config_of_shapes(weights: Mapping[str, Any]) -> ours.AgentConfig:
    """The released agent with the sizes of `weights`; 32 latents, as all official sizes have."""

    def layers(pattern: str) -> int:
        return len([k for k in weights if re.fullmatch(pattern, k)])

    def units(prefix: str) -> dict[str, int]:
        return {"units": weights[f"{prefix}0/kernel"].shape[1], "layers": layers(prefix + r"\d+/kernel")}

    deter, hidden = weights["dyn/dynin0/kernel"].shape
    stoch, flat = ours.RSSMConfig().stoch, weights["dyn/dynin1/kernel"].shape[0]
    if flat % stoch:
        raise UsageError(f"{flat} latent inputs are not a multiple of {stoch}; put the log's config.yaml beside it")
    rssm = {
        "deter": deter,
        "hidden": hidden,
        "classes": flat // stoch,
        "blocks": weights["dyn/dynhid0/kernel"].shape[0],
        "imglayers": layers(r"dyn/prior\d+/kernel"),
        "obslayers": layers(r"dyn/obs\d+/kernel"),
        "dynlayers": layers(r"dyn/dynhid\d+/kernel"),
    }
    encoder: dict[str, Any] = units("enc/mlp") if "enc/mlp0/kernel" in weights else {"units": hidden}
    decoder: dict[str, Any] = units("dec/mlp/linear") if "dec/mlp/linear0/kernel" in weights else {"units": hidden}
    if "enc/cnn0/kernel" in weights:
        channels = [weights[f"enc/cnn{i}/kernel"].shape[3] for i in range(layers(r"enc/cnn\d+/kernel"))]
        depth = math.gcd(*channels)
        maps = {"depth": depth, "mults": [c // depth for c in channels], "kernel": weights["enc/cnn0/kernel"].shape[0]}
        encoder |= maps
        decoder |= maps | {
            "bspace": weights["dec/sp0/kernel"].shape[0],
            "units": weights["dec/sp1/kernel"].shape[1] // 2,
        }
    heads = {
        name: units(f"{prefix}/mlp/linear")
        for name, prefix in [("rewhead", "rew"), ("conhead", "con"), ("policy", "pol"), ("value", "val")]
    }
    return agent_config({"rssm": rssm, "enc": encoder, "dec": decoder} | heads)


def load_imported(folder: Path, agent: DreamerV3) -> AgentState:
    """The state that `import_checkpoint` wrote; `UsageError` where it does not fit the agent."""
    with np.load(folder / "params.npz", allow_pickle=False) as archive:
        arrays = {k: archive[k] for k in archive.files}

    def under(prefix: str) -> dict[str, Any]:
        return {k.removeprefix(prefix): jnp.asarray(v) for k, v in arrays.items() if k.startswith(prefix)}

    params = under("params/")
    for name, shape in agent.networks.shapes.items():
        if name not in params or params[name].shape != shape.shape:
            found = params[name].shape if name in params else "missing"
            raise UsageError(f"{folder}: {name} is {found}, the agent has {shape.shape}; other sizes or spaces?")
    if extra := sorted(params.keys() - agent.networks.shapes.keys()):
        raise UsageError(f"{folder}: the agent has no {extra[0]}; other sizes or spaces?")
    optimizer = agent.optimizer.init(params)
    if "optimizer/count" in arrays:
        optimizer = with_moments(
            optimizer, jnp.asarray(arrays["optimizer/count"]), under("optimizer/nu/"), under("optimizer/mu/")
        )
    norms = Norms(*(under(f"norms/{name}/") for name in NORMS))
    return AgentState(params, under("slow_critic/"), optimizer, norms, jnp.asarray(arrays["updates"]))
