"""The folder in which compiled code is kept."""

import os
from pathlib import Path


def cache_folder(kind: str) -> Path:
    """Of one kind of compiled code: in `$SPATTEN_CACHE`, `$XDG_CACHE_HOME/spatten` or `~/.cache/spatten`."""
    chosen = os.environ.get("SPATTEN_CACHE")
    if chosen:
        return Path(chosen) / kind
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spatten" / kind
