"""The row buffer between a source of rows and a scoreboard, for bounded model checking (architecture page, datapath 8).

The source sends beats of 2 bits in rows of 1 to `longest`, whenever it likes; the result of a row, 2 bits too, follows
its last beat after `result_cycles`. The scoreboard has picked one beat and one row beforehand, any (two registers that
start open), and compares them when they come out; `wrong_*` is 1 where they are not what went in.
"""

from collections.abc import Sequence

import pyrtl

from hls.datapaths.row_buffer import row_buffer
from hls.lower import building
from hls.netlist import Wire
from verification.equivalence.bits import Bits
from verification.equivalence.sequential import Environment, Invariant, Signals

_COUNT_BITS = 5
PAYLOAD_BITS = 2


def slack_cycles(result_cycles: int) -> int:
    """What the depth must have beyond the longest row."""
    return result_cycles + 1


def _register(bits: int, name: str, following: Wire, enable: Wire) -> Wire:
    register = pyrtl.Register(bits, name, reset_value=0)
    register.next <<= pyrtl.select(enable, following, register)
    return register


def _count(name: str, where: Wire) -> Wire:
    counter = pyrtl.Register(_COUNT_BITS, name, reset_value=0)
    counter.next <<= pyrtl.select(where, (counter + 1)[:_COUNT_BITS], counter)
    return counter


def _picked(name: str, sent: Wire, entering: Wire, payload: Wire, left: Wire, leaving: Wire, seen: Wire) -> None:
    """Captures the payload with an open number as it enters; wrong where another leaves under that number."""
    number = pyrtl.Register(_COUNT_BITS, f"{name}_number")
    number.next <<= number
    entered = pyrtl.Register(1, f"{name}_entered", reset_value=0)
    captured = pyrtl.Register(len(payload), f"{name}_captured", reset_value=0)
    here = entering & (sent == number)
    entered.next <<= entered | here
    captured.next <<= pyrtl.select(here, payload, captured)
    wrong = pyrtl.Output(1, f"wrong_{name}")
    wrong <<= leaving & (left == number) & ~(entered & (captured == seen))


def harness(longest: int, result_cycles: int, depth: int) -> pyrtl.Block:
    """The buffer of `depth` beats in its surroundings."""
    block = pyrtl.Block()
    with building(block):
        enable, beat_valid, last = (pyrtl.Input(1, name) for name in ("enable", "beat_valid", "last"))
        beat, result = pyrtl.Input(PAYLOAD_BITS, "beat"), pyrtl.Input(PAYLOAD_BITS, "result")
        sending = enable & beat_valid
        row, row_valid = result, beat_valid & last
        for cycle in range(result_cycles):
            row = _register(PAYLOAD_BITS, f"result_{cycle}", row, enable)
            row_valid = _register(1, f"result_valid_{cycle}", row_valid, enable)
        out = row_buffer(beat, last, beat_valid, row, row_valid, depth, enable, "buffer")

        length = pyrtl.Register(_COUNT_BITS, "length", reset_value=0)
        longer = pyrtl.select(last, pyrtl.Const(0, _COUNT_BITS), (length + 1)[:_COUNT_BITS])
        length.next <<= pyrtl.select(sending, longer, length)
        too_long = pyrtl.Output(1, "too_long")
        too_long <<= beat_valid & ~last & (length == longest - 1)

        leaving = enable & out.valid
        ended = leaving & out.last
        sent, rows_sent = _count("sent", sending), _count("rows_sent", sending & last)
        left, rows_left = _count("left", leaving), _count("rows_left", ended)
        _picked("beat", sent, sending, pyrtl.concat(last, beat), left, leaving, pyrtl.concat(out.last, out.beat))
        _picked("row", rows_sent, sending & last, result, rows_left, leaving, out.row)

        rows_known = _count("rows_known", enable & row_valid)
        after = (rows_left + ended)[:_COUNT_BITS]
        idle_before = pyrtl.Register(1, "idle_before", reset_value=1)
        within_row = out.valid & ~out.last
        idle_before.next <<= pyrtl.select(enable, (rows_known == after) & ~within_row, idle_before)
        for name, wire in {"wrong_pause": ~(out.valid | idle_before), "out_valid": out.valid}.items():
            port = pyrtl.Output(1, name)
            port <<= wire
    block.sanity_check()
    return block


def _never(claim: str, wire: str) -> Invariant:
    return Invariant(claim, lambda window: ~window[0][wire])


def _apart(ring: str) -> Invariant:
    def holds(window: Sequence[Signals]) -> Bits:
        now, reads = window[0], {"beat": "leaving", "row": "starting"}[ring]
        reading = now[f"buffer_{reads}"] & now["enable"]
        same = now[f"buffer_{ring}_written"] == now[f"buffer_{ring}_read"]
        return ~(now[f"buffer_{ring}_writing"] & reading & same)

    return Invariant(f"no {ring} is read where one is written", holds)


INVARIANTS = (
    _never("beats leave in order, unchanged", "wrong_beat"),
    _never("with the result of their row", "wrong_row"),
    _never("a row whose result is known leaves at once, without a gap", "wrong_pause"),
    _apart("beat"),
    _apart("row"),
)
ROWS = Environment(assume=lambda signals: ~signals["too_long"])
