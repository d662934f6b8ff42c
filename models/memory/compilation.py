"""How the engine is compiled: Numba's nopython mode, cached on disk where there is a place for a cache."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy.typing as npt

Record = Any  # one element of a structured array
Array = npt.NDArray[Any]
F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F, inline: bool = False) -> F:
    """Numba's nopython compilation, cached on disk where some place for a cache can be written."""
    try:
        return cast(F, numba.njit(cache=True, forceinline=inline)(function))
    except RuntimeError:
        return cast(F, numba.njit(forceinline=inline)(function))


def inlined(function: F) -> F:
    """`compiled` into its callers: for what is large but called from one hot loop, where calls cost as much."""
    return compiled(function, inline=True)
