"""Fields of a record of compiled code, from Python: a view each, made once.

NumPy finds the field of a record anew at each access, which takes ten times as long as the access.
"""

from typing import Any

from models.memory.compilation import Array


class Fields:
    """Fields of the one element of a structured array, by name."""

    def __init__(self, states: Array) -> None:
        names = states.dtype.names or ()
        self._views: dict[str, Any] = {name: states[name] for name in names}

    def __getitem__(self, name: str) -> Any:
        """A scalar, or a view of an array."""
        return self._views[name][0]

    def __setitem__(self, name: str, value: Any) -> None:
        """Write a scalar, or all of an array."""
        self._views[name][0] = value
