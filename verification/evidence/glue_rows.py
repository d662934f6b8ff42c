"""The row side alone: operand loader, query buffer, row issue and row queues among neighbours that do all they may.

In the machine lists land in the order in which they are asked for, and rows are seldom late for long. Here queries land
in any order, K segment by segment at any time, requests wait, rows leave late, so that the queues and the ring of
queries are full and empty (`row_side_model`, which checks every row).
"""

from __future__ import annotations

from functools import cache

from hls.lower import Netlist
from verification.evidence.glue_replay import Replay, Row, replay_of
from verification.evidence.glue_runs import TINY
from verification.evidence.row_side_cases import LayerCase, Timing, composed
from verification.evidence.row_side_model import RowSide

_SOME = (True, True, False, True, False, False, True)
_QUICK, _SLOW = (1, 20), (1, 90)


RUNS = {
    "short rows, one behind the other": (
        (LayerCase(True, False, True, 5, 0, (1,) * 14, _SOME), Timing(0.3, 1.0, 0.5, _SLOW, softmax_cycles=20)),
        (LayerCase(False, True, True, 34, 0, (2,), _SOME), Timing(0.7, 0.7, 1.0, _QUICK)),
        (LayerCase(False, False, True, 9, 1, (2, 1, 3), (True,)), Timing(1.0, 1.0, 0.2, _SLOW, softmax_cycles=30)),
    ),
    "four parts": (
        (LayerCase(True, False, False, 40, 2, (3, 1, 2), (False,)), Timing(0.5, 0.3, 0.7, _QUICK, softmax_cycles=10)),
    ),
    "long rows": ((LayerCase(True, False, True, 170, 0, (1, 1, 1), (True, False)), Timing(1.0, 0.7, 0.9, (30, 31))),),
    "jobs wait": ((LayerCase(False, False, False, 3, 0, (14,), (False,)), Timing(0.1, 1.0, 0.1, (1, 1))),),
    "rows in Q x K": ((LayerCase(True, False, False, 3, 0, (9, 40), (False,)), Timing(multiply_cycles=45)),),
    **{
        f"late queries of {1 << dimension} lines": (
            (
                LayerCase(True, False, dimension != 1, 3, dimension, (9, 57), (False, True)),
                Timing(landing_cycles=(1, 3), late_query_cycles=4 + (5 << dimension), softmax_cycles=20),
            ),
        )
        for dimension in range(3)
    },
    "lists of LSBs wait": ((LayerCase(True, False, True, 9, 0, (1,) * 10, (True,)), Timing(ready=0.03)),),
    "queue 1 is full": ((LayerCase(True, False, True, 512, 0, (7,), (False,) * 6 + (True,)), Timing(accept=0.3)),),
    "queue 2 is full": ((LayerCase(True, False, True, 128, 2, (5,), (True,)), Timing(accept=0.3)),),
    "most rows wait": (
        (
            LayerCase(True, False, True, 3, 0, (70,), (True, False, False, True, True, False, True)),
            Timing(landing_cycles=(150, 151), softmax_cycles=9),
        ),
    ),
}
"""By what is particular about them; each from reset on."""


@cache
def _row_side(seed: int) -> dict[str, list[Row]]:
    netlist, found = composed(TINY), {}
    for name, layers in RUNS.items():
        side = RowSide(TINY, netlist, seed)
        for case, timing in layers:
            side.run(case, timing)
        found[name] = side.simulator.rows
    return found


def rows_alone(netlist: Netlist, seed: int) -> list[Replay]:
    """What a module of the row side did.

    Raises:
        AssertionError: if a row is not what it should be.
    """
    return [replay_of(f"{name}, alone", netlist, rows) for name, rows in _row_side(seed).items()]
