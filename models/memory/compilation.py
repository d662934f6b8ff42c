"""How the engine is compiled: Numba's nopython mode, cached on disk where there is a place for a cache.

Numba sees when the file of a function changes, but not when what is compiled into it from other files does: functions
that it calls, and constants. So the place of a file's functions in the cache is named by all of these.
"""

import hashlib
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
from numba.core.dispatcher import Dispatcher
from numba.extending import intrinsic

from hls.cache import cache_folder

Record = Any  # one element of a structured array
Array = npt.NDArray[Any]
F = TypeVar("F", bound=Callable[..., Any])


def _uncounted(typing: Any, array: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = context.make_array(array)(context, builder, arguments[0])
        view.meminfo = view.meminfo.type(None)
        return view._getvalue()

    return array(array), generate


uncounted = cast(Callable[[Array], Array], intrinsic(_uncounted))
"""In compiled code: the same array, which whoever called from Python holds.

Each function that an array is handed to counts it up and down, with locked instructions of 5 ns; this one is not.
"""


def _lowest(typing: Any, mask: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], context.get_constant(numba.boolean, True))

    return numba.int64(numba.int64), generate


lowest = cast(Callable[[int], int], intrinsic(_lowest))
"""In compiled code: the number of the lowest bit that is set, of at least one."""


def record_dtype(shapes: Mapping[str, tuple[Any, tuple[int, ...]]]) -> np.dtype[Any]:
    """Of a record with these fields, each of a type and shape: one object for equal ones.

    At each call from Python, Numba looks up what was compiled for a dtype; for one that only equals the first it has
    seen it compares all fields, which takes 20 us and more.
    """
    return _record_dtype(tuple((name, of, shape) for name, (of, shape) in shapes.items()))


@cache
def _record_dtype(fields: tuple[tuple[str, Any, tuple[int, ...]], ...]) -> np.dtype[Any]:
    return np.dtype(list(fields))


@cache
def _key(module: str) -> str:
    """Of the text of a file, the constants that it imports, and the files of compiled functions that it imports."""
    names = vars(sys.modules[module])
    digest = hashlib.sha256(Path(__file__).read_bytes() + Path(names["__file__"]).read_bytes())
    for name, value in sorted(names.items()):
        if isinstance(value, Dispatcher) and value.__module__ != module:
            digest.update(_key(value.__module__).encode())
        elif isinstance(value, ModuleType) and any(isinstance(one, Dispatcher) for one in vars(value).values()):
            digest.update(_key(value.__name__).encode())
        elif isinstance(value, (int, float, tuple, np.generic, np.ndarray)):
            digest.update(f"{name}: {value.tolist() if isinstance(value, np.ndarray) else value}".encode())
    return digest.hexdigest()[:32]


def compiled(function: F, inline: bool = False) -> F:
    """Numba's nopython compilation, cached on disk where some place for a cache can be written."""
    settings: Any = numba.config
    folder, chosen = cache_folder("numba") / _key(function.__module__), settings.CACHE_DIR
    try:
        folder.mkdir(parents=True, exist_ok=True)
        settings.CACHE_DIR = str(folder)
        return cast(F, numba.njit(cache=True, forceinline=inline)(function))
    except (OSError, RuntimeError):
        return cast(F, numba.njit(forceinline=inline)(function))
    finally:
        settings.CACHE_DIR = chosen


def inlined(function: F) -> F:
    """`compiled` into its callers: for what is large but called from one hot loop, where calls cost as much."""
    return compiled(function, inline=True)
