"""The error of a traced function, which says where in that function it arose."""

from __future__ import annotations

import sys
from pathlib import Path

from hls.types import HlsError

_HERE = Path(__file__).parent


class TraceError(HlsError):
    """The traced function asks for something that no netlist can do, or that could lose bits unnoticed."""

    def __init__(self, message: str) -> None:
        super().__init__(f"{message}{_user_location()}")


def _user_location() -> str:
    """The line of the traced function that is running, for messages."""
    frame = sys._getframe(2)
    while frame is not None and Path(frame.f_code.co_filename).parent == _HERE:
        if frame.f_back is None:
            return ""
        frame = frame.f_back
    return f" (at {Path(frame.f_code.co_filename).name}:{frame.f_lineno} in {frame.f_code.co_name})"
