"""Checkpoints: atomic, the newest two kept, restored exactly, refused when damaged or of another configuration."""

import errno
import hashlib
import io
import json
import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from repro.errors import RunError

_FULL = "the disk is full: free space, then continue with --resume (what was written before is intact)"


class Checkpoints:
    """The checkpoints of one stage of one run, in `folder/<step>/`.

    A checkpoint is a pytree of arrays (`tree`), a dict of arrays whose shapes may change (`loose`) and plain JSON
    (`meta`). `config_hash` guards against continuing another configuration.
    """

    def __init__(self, folder: Path, config_hash: str) -> None:
        logging.getLogger("absl").setLevel(logging.ERROR)
        self.folder, self.config_hash = folder.absolute(), config_hash
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def save(self, step: int, tree: Any, loose: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
        """Writes everything or nothing. `RunError` on a full disk."""
        # Packed into one array of bytes: orbax stores neither empty dicts nor arrays without elements.
        packed = io.BytesIO()
        np.savez(packed, **loose)  # type: ignore[arg-type]
        args = ocp.args.Composite(
            tree=ocp.args.StandardSave(tree),
            loose=ocp.args.StandardSave({"npz": np.frombuffer(packed.getvalue(), np.uint8)}),
            meta=ocp.args.JsonSave(meta | {"config_hash": self.config_hash}),
        )
        try:
            self._manager.save(step, args=args, force=True)
            self._manager.wait_until_finished()
        except (OSError, ValueError) as error:
            full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
            raise RunError(f"checkpoint at step {step} not written: {_FULL if full else error}") from error

    def latest(self) -> int | None:
        """Step of the newest finished checkpoint."""
        return self._manager.latest_step()

    def restore(self, template: Any) -> tuple[int, Any, dict[str, np.ndarray], dict[str, Any]]:
        """Step, tree (structure, shapes and dtypes of `template`), loose arrays, meta of the newest checkpoint."""
        step = self.latest()
        if step is None:
            raise RunError(f"no checkpoint in {self.folder}")
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
        args = ocp.args.Composite(
            tree=ocp.args.StandardRestore(abstract), loose=ocp.args.StandardRestore(), meta=ocp.args.JsonRestore()
        )
        advice = f"delete {self.folder / str(step)} to fall back to the one before it, or start without --resume"
        try:
            found = self._manager.restore(step, args=args)
        except Exception as error:  # orbax raises many types for missing or truncated files
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise RunError(f"checkpoint {self.folder / str(step)} cannot be read ({reason[:160]}); {advice}") from error
        if found["meta"]["config_hash"] != self.config_hash:
            raise RunError(
                f"checkpoint {self.folder / str(step)} belongs to configuration {found['meta']['config_hash']}, "
                f"this run has {self.config_hash}; use the same preset and --set values, or start without --resume"
            )
        with np.load(io.BytesIO(np.asarray(found["loose"]["npz"]).tobytes())) as packed:
            loose = dict(packed)
        return step, found["tree"], loose, found["meta"]

    def close(self) -> None:
        """Releases orbax's threads."""
        self._manager.close()


def tree_digest(tree: Any) -> str:
    """sha256 over names, dtypes, shapes and bytes of all leaves: identifies trained parameters."""
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf)
        total.update(json.dumps([jax.tree_util.keystr(path), str(array.dtype), array.shape]).encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()
