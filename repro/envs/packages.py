"""Optional packages and system libraries: found, or a one-line error that names the command which installs them."""

import importlib
import importlib.metadata
from types import ModuleType

from repro.errors import UsageError

RENDERING = "apt-get install --no-install-recommends libegl1 libgl1-mesa-dri libopengl0"
"""What Debian and Ubuntu need to render without a screen."""


def require(module: str, suite: str, command: str) -> ModuleType:
    """The imported module; `UsageError` with the install `command` if its package is missing."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != module.split(".")[0]:
            raise
        raise UsageError(f"suite {suite} needs the package {module.split('.')[0]}; run: {command}") from error


def versions(*distributions: str) -> dict[str, str]:
    """Installed versions, for the run record; distributions that are not installed are left out."""
    found = {}
    for name in distributions:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
