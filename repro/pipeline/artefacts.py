"""What a finished stage leaves: a folder of files with their digests, the settings they were made with and the digests
of the artefacts they were made from."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from repro.errors import RunError, UsageError

MANIFEST = "manifest.json"


class Artefact:
    """What a finished stage left in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        self.digest: str = self.manifest["digest"]

    def arrays(self, name: str = "arrays.npz") -> dict[str, np.ndarray]:
        """The arrays written by `save_arrays`."""
        with np.load(self.folder / name, allow_pickle=False) as archive:
            return dict(archive)


def save_arrays(folder: Path, arrays: Mapping[str, Any], name: str = "arrays.npz") -> None:
    """Writes named arrays as one file of the artefact."""
    np.savez(folder / name, **{key: np.asarray(value) for key, value in arrays.items()})  # type: ignore[arg-type]


def seal(folder: Path, identity: Mapping[str, Any]) -> None:
    """Writes the manifest of the files in `folder` and forces all to disk; `identity`: stage, settings, inputs."""
    files = {path.name: _file_digest(path) for path in sorted(folder.iterdir())}
    manifest = {**identity, "files": files}
    manifest["digest"] = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))
    for path in folder.iterdir():
        _to_disk(path)


def load_artefact(folder: Path, identity: Mapping[str, Any] | None = None) -> Artefact:
    """The artefact in `folder`; `RunError`, one line, where it is missing, damaged or was made from something else."""
    advice = f"delete {folder} and run again with --resume to make it anew"
    try:
        artefact = Artefact(folder)
        manifest = dict(artefact.manifest)
        stated, files = manifest.pop("digest"), manifest["files"]
        if hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest() != stated:
            raise RunError(f"artefact {folder} is damaged ({MANIFEST} does not match its digest); {advice}")
        for name, digest in files.items():
            if _file_digest(folder / name) != digest:
                raise RunError(f"artefact {folder} is damaged ({name} does not match its digest); {advice}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"artefact {folder} cannot be read ({' '.join(str(error).split())[:120]}); {advice}") from error
    if identity and (differing := differences(manifest, identity)):
        raise RunError(f"artefact {folder} was made otherwise (it differs in {differing}); {advice}")
    return artefact


def is_finished(folder: Path, name: str) -> bool:
    """Whether the run in `folder` has the artefact of the stage `name`."""
    return (folder / "stages" / name / "artefact").is_dir()


def kept(folder: Path, names: Sequence[str]) -> dict[str, Artefact]:
    """Artefacts of finished stages of the run in `folder`, verified; `UsageError` names the first that is missing."""
    for name in names:
        if not is_finished(folder, name):
            raise UsageError(f"{folder} has no finished stage {name}; finish it with repro reproduce ... --resume")
    return {name: load_artefact(folder / "stages" / name / "artefact") for name in names}


def differences(manifest: Mapping[str, Any], identity: Mapping[str, Any]) -> str:
    """Names of the settings and inputs in which an artefact is not the one wanted, and of how; empty if it is."""
    found = []
    for part in ("stage", "settings", "inputs"):
        has, wants = manifest.get(part), identity[part]
        if isinstance(has, dict) and isinstance(wants, dict):
            found += [f"{k}: {has.get(k)} for {wants.get(k)}" for k in {**has, **wants} if has.get(k) != wants.get(k)]
        elif has != wants:
            found.append(f"{part}: {has} for {wants}")
    return ", ".join(found)[:200]


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
