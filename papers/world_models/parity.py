"""The recorded cases of the official networks, batches and frames; those of C and its training are in
`parity_evolution`. Sizes come from the recorded arrays, so other widths run too."""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from papers.world_models import dream, jobs, mdnrnn, official, policies, vae
from papers.world_models.config import MDNRNNConfig, paper
from papers.world_models.parity_evolution import CASES as OF_EVOLUTION
from repro.interop.parity import Case, Implementation
from repro.optim.adam import adam_tf

Outputs = dict[str, Any]


def _weights(case: Case) -> dict[str, np.ndarray]:
    return {name[2:]: value for name, value in case.weights.items() if name.startswith("w.")}


def _norm(gradients: Any) -> jax.Array:
    return optax.tree.norm(gradients)


def _recipe(case: Case, variant: str) -> dict[str, np.ndarray]:
    """Weights from a seed: standard normal numbers times a scale, tensor by tensor."""
    random = np.random.RandomState(int(case.inputs[f"{variant}_seed"]))
    tensors = json.loads(str(case.inputs[f"{variant}_recipe_json"]))
    return {name: (random.standard_normal(shape) * scale).astype(np.float32) for name, shape, scale in tensors}


# ---- frames ---------------------------------------------------------------------------------------------------------


def frame_process(case: Case) -> Outputs:
    """Crop, contrast, resize, minus one."""
    from repro.envs import frame_map

    size = tuple(case.config["size"])
    found = {}
    for task in ("car", "doom"):
        top, bottom = case.config[task]["rows"]
        frames = [frame_map.world_models(frame[top:bottom], size) for frame in case.inputs[f"{task}_in"]]
        found[f"{task}_out"] = np.stack(frames)
    return {**found, "car_imresize": found["car_out"] + np.uint8(1)}  # the last step, undone


# ---- V --------------------------------------------------------------------------------------------------------------


def _vae_forward(params: vae.Params, images: Any, normal: Any, tolerance: float) -> Outputs:
    pixels = jnp.asarray(images, jnp.float32) / 255
    mu, logvar, z, y = _vae_outputs(params, pixels, normal)
    losses, gradients = _vae_gradients(params, pixels, normal, tolerance)
    return {
        "mu": mu, "logvar": logvar, "z": z, "y": y, "r_loss": losses.reconstruction,
        "kl_loss": losses.kl, "loss": losses.total, "kl_per_sample": losses.kl_per_sample,
        "grad_global_norm": _norm(gradients), "gradients": gradients,
    }  # fmt: skip


@jax.jit
def _vae_outputs(params: vae.Params, pixels: jax.Array, normal: jax.Array) -> tuple[jax.Array, ...]:
    mu, logvar = vae.encode(params, pixels)
    z = vae.sample(mu, logvar, normal)
    return mu, logvar, z, vae.decode(params, z)


@jax.jit
def _vae_gradients(params: vae.Params, pixels: jax.Array, normal: jax.Array, tolerance: float) -> Any:
    def objective(params: vae.Params) -> Any:
        losses = vae.loss(params, pixels, normal, tolerance)
        return losses.total, losses

    gradients, losses = jax.grad(objective, has_aux=True)(params)
    return losses, gradients


def vae_small(case: Case) -> Outputs:
    """Forward, losses, gradients, three updates, and the losses with another head for the mean."""
    weights, inputs = _weights(case), case.inputs
    tolerance = float(inputs["kl_tolerance"])
    params = jax.tree.map(jnp.asarray, official.vae_from_official(weights))
    images, normal = inputs["x_uint8"], inputs["eps"]
    found = _vae_forward(params, images[0], normal[0], tolerance)
    found |= {f"g.{n}": g for n, g in official.vae_to_official(found.pop("gradients")).items()}
    other = params | {"enc_fc_mu/kernel": case.weights["b_mu_kernel"], "enc_fc_mu/bias": case.weights["b_mu_bias"]}
    found |= {f"b_{n}": v for n, v in _vae_forward(other, images[0], normal[0], tolerance).items()}
    optimiser = adam_tf(float(inputs["learning_rate"]))
    moments, losses = optimiser.init(params), []
    for number, (batch, noise) in enumerate(zip(images, normal, strict=True), 1):
        of, gradients = _vae_gradients(params, jnp.asarray(batch, jnp.float32) / 255, noise, tolerance)
        losses.append([of.total, of.reconstruction, of.kl])
        change, moments = optimiser.update(gradients, moments)
        params = optax.apply_updates(params, change)  # type: ignore[assignment]
        found |= {f"w_step{number}.{n}": w for n, w in official.vae_to_official(params).items()}
    return {**found, "train_losses": np.array(losses)}


def vae_full_recipe(case: Case) -> Outputs:
    """The full-size networks of both tasks."""
    found: Outputs = {}
    for variant, of in case.config["variants"].items():
        weights = _recipe(case, variant)
        config = official.vae_config(weights)
        params = jax.tree.map(jnp.asarray, official.vae_from_official(weights))
        images, normal = case.inputs[f"{variant}_x_uint8"], case.inputs[f"{variant}_eps"]
        outputs = _vae_forward(params, images, normal, of["kl_tolerance"])
        found |= {f"{variant}_{n}": v for n, v in outputs.items() if n != "gradients"}
        found[f"{variant}_n_params"] = sum(int(np.prod(shape)) for shape in vae.shapes(config).values())
        found[f"{variant}_weight_sums"] = np.array([w.astype(np.float64).sum() for w in weights.values()])
    return found


# ---- M --------------------------------------------------------------------------------------------------------------


def _rnn_config(config: Mapping[str, Any], **of: Any) -> MDNRNNConfig:
    return MDNRNNConfig(
        latent=config["z_size"], action=config["action_size"], hidden=config["hidden"], mixtures=config["mixtures"],
        layer_norm=config["use_layer_norm"], **of,
    )  # fmt: skip


def _rows(mixture: mdnrnn.Mixture) -> Outputs:
    """`[T, B, K, D]` -> rows in the order batch, time, latent: `[B T D, K]`."""

    def rows(x: jax.Array) -> np.ndarray:
        moved = np.moveaxis(np.asarray(x), -2, -1).swapaxes(0, 1)
        return moved.reshape(-1, moved.shape[-1])

    log_weights = jax.nn.log_softmax(mixture.logits, -2)
    return {"logmix": rows(log_weights), "mean": rows(mixture.mean), "logstd": rows(mixture.log_std)}


@partial(jax.jit, static_argnums=0)
def _gradients(of: MDNRNNConfig, params: mdnrnn.Params, batch: mdnrnn.Batch, state: mdnrnn.State) -> Any:
    def objective(params: mdnrnn.Params) -> Any:
        losses, last = mdnrnn.loss(params, of, batch, state)
        return losses.total, (losses, last)

    gradients, (losses, last) = jax.grad(objective, has_aux=True)(params)
    parts = [batch.latent[:-1], batch.action[:-1]]
    restart = None if batch.restart is None else batch.restart[:-1]
    if restart is not None:
        parts.append(restart[..., None])
    reset_to = state if of.restart_to == "fed" else jax.tree.map(jnp.zeros_like, state)
    h, _ = mdnrnn.unroll(params, mdnrnn.project(params, *parts), state, restart, reset_to)
    return gradients, losses, last, mdnrnn.head(params, of, h)


def _sequence(of: MDNRNNConfig, params: mdnrnn.Params, batch: mdnrnn.Batch, state: mdnrnn.State) -> Outputs:
    """Outputs, losses and gradients of one batch."""
    gradients, losses, last, (mixture, logits) = _gradients(of, params, batch, state)
    return {
        **_rows(mixture), "restart_logits": np.asarray(logits).T.reshape(-1), "final_c": last[0], "final_h": last[1],
        "cost": losses.total, "z_cost": losses.latent, "r_cost": losses.restart, "grad_global_norm": _norm(gradients),
        "gradients": gradients,
    }  # fmt: skip


def _train(of: MDNRNNConfig, params: Any, batches: list[mdnrnn.Batch], state: Any, rates: Any, clip: float) -> Outputs:
    """Clipped updates, one a batch, each from `state`."""
    optimiser = adam_tf(lambda step: jnp.asarray(rates)[step], clip)
    moments, costs = optimiser.init(params), []
    found: Outputs = {}
    for number, batch in enumerate(batches, 1):
        outputs = _sequence(of, params, batch, state)
        costs.append([outputs["cost"], outputs["z_cost"], outputs["r_cost"]])
        change, moments = optimiser.update(outputs["gradients"], moments)
        params = optax.apply_updates(params, change)
        found |= {f"w_step{number}.{n}": w for n, w in official.rnn_to_official(params, of).items()}
    return {**found, "train_costs": np.array(costs)}


def mdnrnn_car(case: Case) -> Outputs:
    """Forward from a zero and a given state, gradients, three updates, one single step."""
    of, inputs = _rnn_config(case.config), case.inputs
    params = jax.tree.map(jnp.asarray, official.rnn_from_official(_weights(case), of))
    sequences = list(zip(inputs["x"], inputs["y"], strict=True))
    given = (jnp.asarray(inputs["init_c"]), jnp.asarray(inputs["init_h"]))
    zeros = jax.tree.map(jnp.zeros_like, given)
    found: Outputs = {}
    for variant, state in (("zero", zeros), ("init", given)):
        outputs = _inputs_and_targets(of, params, *sequences[0], state)
        gradients = official.rnn_to_official(outputs.pop("gradients"), of)
        found |= {f"{variant}_{n}": v for n, v in outputs.items()}
        found |= {f"g.{n}": v for n, v in gradients.items()} if variant == "zero" else {}
    optimiser = adam_tf(lambda step: jnp.asarray(inputs["train_lrs"])[step], float(inputs["grad_clip"]))
    moments, costs = optimiser.init(params), []
    trained: Any = params
    for number, (x, y) in enumerate(sequences, 1):
        outputs = _inputs_and_targets(of, trained, x, y, zeros)
        costs.append(outputs["cost"])
        change, moments = optimiser.update(outputs["gradients"], moments)
        trained = optax.apply_updates(trained, change)
        found |= {f"w_step{number}.{n}": w for n, w in official.rnn_to_official(trained, of).items()}
    start = jax.tree.map(lambda x: x[:1], given)
    x = jnp.asarray(inputs["x"][0, :1, 0])
    cell, hidden = mdnrnn.step(params, start, x[:, : of.latent], x[:, of.latent :])
    found |= {f"step_{n}": v for n, v in _rows(mdnrnn.head(params, of, hidden[None])[0]).items()}
    return {**found, "train_costs": np.array(costs), "step_c": cell, "step_h": hidden}


@partial(jax.jit, static_argnums=0)
def _car_gradients(of: MDNRNNConfig, params: Any, inputs: jax.Array, targets: jax.Array, state: Any) -> Any:
    def objective(params: mdnrnn.Params) -> Any:
        h, last = mdnrnn.unroll(params, mdnrnn.project(params, inputs), state, None, state)
        mixture, _ = mdnrnn.head(params, of, h)
        return -mdnrnn.log_likelihood(mixture, targets).mean(), (mixture, last)

    return jax.value_and_grad(objective, has_aux=True)(params)


def _inputs_and_targets(of: MDNRNNConfig, params: Any, x: np.ndarray, y: np.ndarray, state: Any) -> Outputs:
    """As `_sequence`, where targets are not the inputs of the next step."""
    (cost, (mixture, last)), gradients = _car_gradients(of, params, x.swapaxes(0, 1), y.swapaxes(0, 1), state)
    return {
        **_rows(mixture), "final_c": last[0], "final_h": last[1], "cost": cost, "grad_global_norm": _norm(gradients),
        "gradients": gradients,
    }  # fmt: skip


def mdnrnn_full_recipe(case: Case) -> Outputs:
    """One step at full size."""
    of = _rnn_config(case.config)
    found: Outputs = {}
    for variant in case.config["variants"]:
        params = official.rnn_from_official(_recipe(case, variant), of)
        params = jax.tree.map(jnp.asarray, params)
        state = tuple(jnp.asarray(case.inputs[f"{variant}_{n}0"]) for n in "ch")
        x = jnp.asarray(case.inputs[f"{variant}_x"][:, 0])
        cell, hidden = mdnrnn.step(params, state, x[:, : of.latent], x[:, of.latent :])  # type: ignore[arg-type]
        outputs = {**_rows(mdnrnn.head(params, of, hidden[None])[0]), "c1": cell, "h1": hidden}
        outputs["n_params"] = sum(int(np.prod(shape)) for shape in mdnrnn.shapes(of).values())
        found |= {f"{variant}_{n}": v for n, v in outputs.items()}
    return found


def mdnrnn_doom(case: Case) -> Outputs:
    """Both variants of the restart: forward from two states, gradients, three updates."""
    inputs = case.inputs
    found: Outputs = {}
    sequence = lambda i: mdnrnn.Batch(  # noqa: E731
        jnp.asarray(inputs["z"][i]).swapaxes(0, 1),
        jnp.asarray(inputs["action"][i])[..., None].swapaxes(0, 1),
        jnp.asarray(inputs["restart"][i], jnp.float32).T,
    )
    given = (jnp.asarray(inputs["init_c"]), jnp.asarray(inputs["init_h"]))
    for variant, restart_to in (("official", "fed"), ("separate", "zeros")):
        factor = float(inputs["restart_factor"])
        of = _rnn_config(case.config, predict_restart=True, restart_to=restart_to, restart_factor=factor)
        params = jax.tree.map(jnp.asarray, official.rnn_from_official(_weights(case), of))
        outputs = _sequence(of, params, sequence(0), given)
        outputs |= {f"g.{n}": v for n, v in official.rnn_to_official(outputs.pop("gradients"), of).items()}
        zeros = _sequence(of, params, sequence(0), jax.tree.map(jnp.zeros_like, given))
        outputs |= {f"zeroinit_{n}": v for n, v in zeros.items()}
        batches = [sequence(i) for i in range(len(inputs["z"]))]
        clip = float(case.config["train"]["clip_value"])
        outputs |= _train(of, params, batches, given, inputs["train_lrs"], clip)
        found |= {f"{variant}_{n}": v for n, v in outputs.items()}
    return found


def mdn_sampling(case: Case) -> Outputs:
    """Free-running latents at several temperatures."""
    of, inputs = _rnn_config(case.config), case.inputs
    found: Outputs = {}
    params = jax.tree.map(jnp.asarray, official.rnn_from_official(_weights(case), of))
    for name, tau in case.config["temperatures"].items():
        latent, state = jnp.asarray(inputs["z0"])[None], mdnrnn.zero_state(of, 1)
        latents = []
        draws = zip(inputs["actions"], inputs[f"{name}_uniform"], inputs[f"{name}_normal"], strict=True)
        for action, uniform, normal in draws:
            state = mdnrnn.step(params, state, latent, jnp.asarray(action)[None])
            mixture, _ = mdnrnn.head(params, of, state[1])
            latent = mdnrnn.sample(mixture, jnp.float32(tau), jnp.asarray(uniform)[None], jnp.asarray(normal)[None])
            latents.append(latent[0])
        found[f"{name}_z_seq"] = np.stack(latents)
    return found


def doom_dream_env(case: Case) -> Outputs:
    """Episodes of the learned environment with recorded random numbers."""
    of, inputs = _rnn_config(case.config, predict_restart=True), case.inputs
    found: Outputs = {}
    params = jax.tree.map(jnp.asarray, official.rnn_from_official(_weights(case), of))
    starts = dream.Starts(jnp.asarray(inputs["initial_mu_int"]), jnp.asarray(inputs["initial_logvar_int"]))
    for name, tau in case.config["temperatures"].items():
        index, normal = inputs[f"{name}_init_idx"], inputs[f"{name}_init_normal"]
        state = dream.reset(of, starts, jnp.asarray(index)[None], jnp.asarray(normal)[None])
        seen, ends = [state], []
        draws = (inputs[f"{name}_{kind}"] for kind in ("actions", "uniform", "normal"))
        for action, uniform, noise in zip(*draws, strict=True):
            batch = [jnp.asarray(x)[None] for x in (action[None], uniform, noise)]
            state, done = dream.step(params, of, state, batch[0], jnp.float32(tau), batch[1], batch[2])
            seen.append(state)
            ends.append(bool(done[0]))
        found[f"{name}_obs"] = np.stack([np.concatenate([s.latent[0], s.cell[0], s.hidden[0]]) for s in seen])
        found[f"{name}_reward"] = np.ones_like(case.outputs[f"{name}_reward"].reference)
        found[f"{name}_done"] = np.array(ends).astype(case.outputs[f"{name}_done"].reference.dtype)
    return found


# ---- batches --------------------------------------------------------------------------------------------------------


def doom_batches(case: Case) -> Outputs:
    """Episodes cut into pieces; restart flags; latents sampled."""
    inputs = case.inputs
    lengths, order = inputs["lens"], inputs["order"]
    first = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    rows = jobs.pieces(first, lengths, order, int(inputs["batch_size"]), int(inputs["seq_length"]))
    series = {
        n: np.concatenate([inputs[f"ep{e}_{n}"] for e in range(len(lengths))]) for n in ("mu", "logvar", "action")
    }
    found = {f"data_{name}": values[rows] for name, values in series.items()}
    found["data_restart"] = np.isin(rows, first).astype(case.outputs["data_restart"].reference.dtype)
    mu, logvar = (jnp.asarray(found[f"data_{n}"], jnp.float32) for n in ("mu", "logvar"))
    return {**found, "batch_z": vae.sample(mu, logvar, jnp.asarray(inputs["normal"], jnp.float32))}


def car_batch(case: Case) -> Outputs:
    """A batch of CarRacing, and the learning rates of both tasks."""
    inputs, chosen = case.inputs, case.inputs["indices"]
    mu, logvar, action = (jnp.asarray(inputs[n][chosen], jnp.float32) for n in ("mu", "logvar", "action"))
    latent = vae.sample(mu, logvar, jnp.asarray(inputs["normal"], jnp.float32))
    steps = jnp.asarray(inputs["lr_steps"], jnp.float32)
    rates = {
        f"{name}_lr": mdnrnn.learning_rate(paper(suite, "").rnn, steps)
        for name, suite in (("car", "carracing"), ("doom", "vizdoom_takecover"))
    }
    return {"inputs": jnp.concatenate([latent, action], -1)[:, :-1], "outputs": latent[:, 1:], **rates}


def doom_random_policy(case: Case) -> Outputs:
    """When the collecting policy draws a new action."""
    draws = policies.new_action_frames(case.inputs["repeats"], case.config["frames"])
    return {"new_action": draws.astype(case.outputs["new_action"].reference.dtype)}


CASES: dict[str, Implementation] = {
    "frame_process": frame_process,
    "vae_small": vae_small,
    "vae_full_recipe": vae_full_recipe,
    "mdnrnn_car": mdnrnn_car,
    "mdnrnn_full_recipe": mdnrnn_full_recipe,
    "mdnrnn_doom": mdnrnn_doom,
    "mdn_sampling": mdn_sampling,
    "doom_dream_env": doom_dream_env,
    "doom_batches": doom_batches,
    "car_batch": car_batch,
    "doom_random_policy": doom_random_policy,
    **OF_EVOLUTION,
}
