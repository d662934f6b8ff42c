"""Evidence for the streams of `hls` at the machine's sizes: contracts by induction, for every stall pattern.

No item is lost, duplicated or changed, order is kept, a stalled item stays, valid never waits for ready (by structure
within the cycle, and because the contracts say when valid is 1), and an arbiter's source waits for bounded time. Each
proof has siblings: the same contract on units with a planted fault must be refuted.
"""

from collections.abc import Callable

import pyrtl

from verification.equivalence.sequential import check_bounded, prove_by_induction
from verification.equivalence.verdict import Kind, Verdict, refuted, weakest
from verification.evidence.planted import all_refuted, faults
from verification.evidence.stream_contracts import Watched, valid_never_waits, watched_fifo, watched_skid
from verification.evidence.stream_contracts_flow import (
    watched_arbiter,
    watched_fork,
    watched_join,
    watched_packer,
    watched_width,
)
from verification.evidence.stream_mutants import stream_mutants
from verification.results import Check, Settings

PLANTED_DEPTH_CYCLES = 8


def proof(make: Callable[[], Watched], settings: Settings) -> Verdict:
    """The whole contract by induction, and that no valid waits for a ready."""
    watched = make()
    contract = prove_by_induction(
        watched.block,
        [*watched.contract, *watched.internal],
        environment=watched.environment,
        limits=settings.limits,
        folder=settings.folder,
    )
    return weakest([contract, valid_never_waits(watched.block)])


def planted(make: Callable[[], Watched], *wanted: tuple[str, str, str]) -> Callable[[Settings], Verdict]:
    """A check that faulty units are refuted, with a run from reset."""

    def run(settings: Settings) -> Verdict:
        watched = make()

        def check(block: pyrtl.Block) -> Verdict:
            return check_bounded(
                block,
                watched.contract,
                PLANTED_DEPTH_CYCLES,
                environment=watched.environment,
                limits=settings.limits,
                folder=settings.folder,
            )

        right = check(watched.block)
        return all_refuted(faults(watched.block, *wanted), check) if right.passes else refuted(f"no fault: {right}")

    return run


PLANTED = {
    "skid buffer": planted(
        lambda: watched_skid(4),
        ("enable", "skid_spare$", "always loads"),
        ("enable", "skid_main$", "always loads"),
        ("reset value", "skid_spare_valid", "bit 0"),
    ),
    "FIFO in memory": planted(
        lambda: watched_fifo(4, 3, "memory"),
        ("enable", "fifo_head", "never loads"),
        ("memory write", "fifo_memory", "always writes"),
        ("reset value", "fifo_tail", "bit 0"),
    ),
    "FIFO in registers": planted(
        lambda: watched_fifo(4, 3, "registers"),
        ("enable", "fifo_entry_2", "always loads"),
        ("enable", "fifo_entry_2", "never loads"),
        ("reset value", "fifo_count", "bit 1"),
    ),
    "fork": planted(
        lambda: watched_fork(2, 2),
        ("reset value", "fork_served_0", "bit 0"),
        ("stage added", "fork_served_1", "one more"),
    ),
    "join": planted(lambda: watched_join(2, 2), ("operator", "", "& becomes")),
    "arbiter": planted(lambda: watched_arbiter(2, 3), ("enable", "arbiter_first", "never loads")),
    "widening": planted(
        lambda: watched_width(2, 4),
        ("enable", "width_held_0", "always loads"),
        ("enable", "width_part", "never loads"),
    ),
    "narrowing": planted(lambda: watched_width(4, 2), ("enable", "width_part", "never loads")),
    "row packer": planted(
        lambda: watched_packer(2, 2),
        ("enable", "pack_held_0", "always loads"),
        ("enable", "pack_held_0", "never loads"),
        ("stage added", "pack_flushing", "one more"),
        ("reset value", "pack_filled", "bit 0"),
    ),
}
"""The siblings: small units with faults that no proof may let pass."""


def _proof(*makers: Callable[[], Watched]) -> Callable[[Settings], Verdict]:
    return lambda settings: weakest([proof(make, settings) for make in makers])


CHECKS = (
    Check("skid buffer", "induction", _proof(lambda: watched_skid(128))),
    Check(
        "FIFO in memory, 64, 128 and 1024 deep",
        "induction",
        _proof(
            lambda: watched_fifo(128, 64, "memory"),
            lambda: watched_fifo(8 * 27, 128, "memory"),
            lambda: watched_fifo(27, 1024, "memory"),
            lambda: watched_fifo(64, 5, "memory"),
        ),
    ),
    Check(
        "FIFO in registers, 1, 2 and 8 deep",
        "induction",
        _proof(*[lambda depth=depth: watched_fifo(64, depth, "registers") for depth in (1, 2, 8)]),
    ),
    Check("fork to 4", "induction", _proof(lambda: watched_fork(64, 4))),
    Check("join of 3", "induction", _proof(lambda: watched_join(64, 3))),
    Check(
        "arbiter of 4, 5 and 16, fairness",
        "induction",
        _proof(*[lambda count=count: watched_arbiter(16, count) for count in (4, 5, 16)]),
    ),
    Check(
        "width adapter, both ways",
        "induction",
        _proof(
            lambda: watched_width(32, 128),
            lambda: watched_width(128, 32),
            lambda: watched_width(12, 4),
            lambda: watched_width(64, 64),
        ),
    ),
    Check(
        "row packer of 16 lanes, and of 1",
        "induction",
        _proof(lambda: watched_packer(16, 42), lambda: watched_packer(1, 42)),
    ),
    *(
        Check(f"planted faults: {name}", "bounded model checking", run, least=Kind.TESTED)
        for name, run in PLANTED.items()
    ),
    Check("mutants", "mutation", stream_mutants, least=Kind.TESTED),
)
