"""Run records: one JSON file a run, named by its content, written at once or not at all, never edited afterwards.

`root` is always the results folder (`repro.paths.results()`); a record lies in
`root/runs/<paper>/<suite>/<task>/<id>.json`.
"""

import hashlib
import json
import math
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from repro.errors import UsageError
from repro.tracker import validation

Record = dict[str, Any]


def _plain(value: Any) -> Any:
    """NumPy scalars and arrays (anything with `tolist`) as plain numbers and lists."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")


def canonical(record: Record) -> bytes:
    """The bytes that the digest is taken of: JSON of the record without `id`, keys sorted, no whitespace."""
    content = {key: value for key, value in record.items() if key != "id"}
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain).encode()


def digest(record: Record) -> str:
    """sha256 (hex) of the canonical content; the record's `id` is its first 12 digits."""
    return hashlib.sha256(canonical(record)).hexdigest()


def to_bytes(record: Record) -> bytes:
    """The file of a record: one top-level key a line, keys sorted, so that changes and differences are readable."""
    lines = [
        f"{json.dumps(key)}: {json.dumps(record[key], sort_keys=True, allow_nan=False, separators=(',', ':'))}"
        for key in sorted(record)
    ]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def path_of(record: Record, root: Path) -> Path:
    """Where a record lies under the results folder."""
    folder = root / "runs" / record["paper"] / record["suite"] / record["task"]
    return folder / f"{record['id']}.json"


def picture_path(root: Path, paper: str, identity: str, number: int, suffix: str) -> Path:
    """Where picture `number` of a record lies; its caption is `extra["pictures"][number]` of the record."""
    return root / "pictures" / paper / f"{identity}-{number}{suffix}"


def pictures(record: Record, root: Path) -> dict[str, Path]:
    """Caption -> file of a record's pictures, of those that are there."""
    found = {}
    for number, caption in enumerate(record["extra"].get("pictures", [])):
        for suffix in (".png", ".gif"):
            path = picture_path(root, record["paper"], record["id"], number, suffix)
            if path.is_file():
                found[caption] = path
    return found


def save(record: Record, root: Path) -> Path:
    """Fills in `id`, validates and writes the record under `root`; returns its path.

    The file appears complete or not at all, and an existing one is never replaced: saving the same record twice is
    harmless. Raises `UsageError` where the record is not valid.
    """
    try:
        plain = json.loads(canonical(record))
    except (TypeError, ValueError) as error:
        raise UsageError(f"the record is not plain JSON: {error}") from None
    plain["id"] = digest(plain)[:12]
    validation.require(plain, "record")
    path = path_of(plain, root)
    write_new(path, to_bytes(plain))
    return path


def write_new(path: Path, content: bytes) -> None:
    """Writes a file that must not exist with other content; atomic, durable, safe among many processes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)  # unlike a rename it fails where the name is taken
        except FileExistsError:
            if path.read_bytes() != content:
                raise UsageError(f"{path} exists with other content; it was not replaced") from None
        except OSError:  # a file system without links; the name is the content's digest, so nothing else is lost
            if not path.exists():
                os.rename(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _finite(number: str) -> float:
    value = float(number)
    return value if math.isfinite(value) else validation.refuse_constant(number)


def read(path: Path) -> Record:
    """The JSON of a record file without any check of its content; `UsageError` where there is none."""
    try:
        record = json.loads(path.read_bytes(), parse_constant=validation.refuse_constant, parse_float=_finite)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such record") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not a record: {error}") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    if not isinstance(record, dict):
        raise UsageError(f"{path}: not a record: the file holds a {type(record).__name__}, not an object")
    return record


def load(path: Path) -> Record:
    """The validated record of one file; `UsageError` names the file and the first thing that is wrong."""
    path = Path(path)
    record = read(path)
    for problem in validation.structure(record):
        raise UsageError(f"{path}: {problem}")
    found = digest(record)[:12]
    if record["id"] != found:
        raise UsageError(f"{path}: changed after it was written: its id is {record['id']}, its content gives {found}")
    for problem in validation.plausibility(record):
        raise UsageError(f"{path}: {problem}")
    return record


def files(root: Path, paper: str | None = None) -> Iterator[Path]:
    """The record files under the results folder, in order of their paths."""
    runs = root / "runs"
    yield from sorted(p for p in runs.glob(f"{paper or '*'}/*/*/*.json") if not p.name.startswith("."))


def load_all(root: Path, paper: str | None = None) -> list[Record]:
    """All validated records (of one paper) under the results folder, in order of their paths."""
    records = []
    for path in files(root, paper):
        record = load(path)
        if path != path_of(record, root):
            raise UsageError(f"{path}: belongs at {path_of(record, root)}")
        records.append(record)
    return records


def locate(name: str, root: Path) -> Path | None:
    """The file of a record named by its path or by the first digits of its id; None where there is none.

    Raises `UsageError` where the digits fit several records.
    """
    if name.endswith(".json") or os.sep in name:
        path = Path(name)
        if not path.is_file():
            raise UsageError(f"{path}: no such record")
        return path
    if len(name) < 4 or not set(name.lower()) <= set("0123456789abcdef"):
        return None
    fitting = [path for path in files(root) if path.stem.startswith(name.lower())]
    if len(fitting) > 1:
        raise UsageError(f"{name} fits {len(fitting)} records: {', '.join(path.stem for path in fitting[:5])}")
    return fitting[0] if fitting else None
