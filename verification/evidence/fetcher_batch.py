"""The fetcher beside an adversarial memory, many thousand patterns in one compiled loop.

What `fetcher_model.fetch_with` compares, written a second time for speed: the netlist in Verilator, called cycle by
cycle from a loop that Numba compiles, with the memory (refusals, delays, answers in any order) in it. One simulation
runs all patterns behind each other; lists of a pattern follow each other without a gap.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hls.datapaths.fetcher_parts import FetcherTypes
from hls.lower import Netlist
from hls.verilator import build
from hls.verilator_driver import layout
from models.config import AcceleratorConfig
from verification.evidence.fetcher_batch_loop import FAULTS, OLDEST, Lists, Sizes, Weather, player
from verification.evidence.fetcher_model import FetchList, queue_of, random_lists


@dataclass(frozen=True)
class Batch:
    """What a run has done."""

    patterns: int
    bursts: int
    cycles: int


def sizes_of(config: AcceleratorConfig, netlist: Netlist, limit_cycles: int) -> Sizes:
    """Sizes and places of ports."""
    types = FetcherTypes.of(config)
    inputs, in_words = layout(netlist.inputs)
    outputs, out_words = layout(netlist.outputs)
    tag_bits = netlist.inputs["answer_tag"] // config.hbm_channels
    numbers = {
        "channels": config.hbm_channels,
        "queues": config.fetch_queues,
        "half_turn": queue_of(config, True, 0),
        "slots": 1 << tag_bits,
        "address_bits": types.address.width,
        "tag_bits": tag_bits,
        "id_bits": types.ids.element.total_bits,
        "words": types.words,
        "word_bits": types.word.width,
        "offset_bits": netlist.outputs["offset"] // config.fetch_queues,
        "depth": config.address_queue_depth,
        "limit_cycles": limit_cycles,
        "in_words": in_words,
        "out_words": out_words,
    }
    places = {name: place for name, (place, _) in (*inputs.items(), *outputs.items()) if name in Sizes._fields}
    places["id_count"] = inputs["count"][0]
    return Sizes(**numbers, **places)


def random_weather(rng: np.random.Generator, patterns: int) -> Weather:
    """Memories that refuse, delay and reorder somehow, some ideal ones; sources and sinks that stall, or not."""
    latency = rng.integers(1, 40, patterns)
    ideal = rng.random(patterns) < 0.1
    return Weather(
        accept=np.where(ideal, 1.0, rng.choice([0.2, 0.7, 1.0], patterns)),
        answer=np.where(ideal, 1.0, rng.choice([0.1, 0.5, 1.0], patterns)),
        offer=rng.choice([0.3, 1.0], patterns),
        take=rng.choice([0.3, 1.0], patterns),
        least=np.where(ideal, latency, 1),
        most=np.where(ideal, latency, rng.choice([5, 40, 200], patterns)),
        order=np.where(ideal, OLDEST, rng.integers(0, 3, patterns)),
    )


def flat(patterns: Sequence[Sequence[FetchList]]) -> Lists:
    """Lists of all patterns as arrays."""
    every = [one for pattern in patterns for one in pattern]
    return Lists(
        first=np.cumsum([0, *map(len, patterns)]),
        at=np.cumsum([0, *(len(one.ids) for one in every)]),
        ids=np.array([ident for one in every for ident in one.ids], np.int64),
        base=np.array([one.base_bytes // 512 for one in every], np.int64),
        stride=np.array([one.stride_bits for one in every], np.int64),
        length=np.array([one.length_bits for one in every], np.int64),
        turned=np.array([one.turned for one in every], np.int64),
    )


def fetch_batch(
    config: AcceleratorConfig,
    netlist: Netlist,
    patterns: int,
    seed: int,
    longest: int = 5,
    limit_cycles: int = 20_000,
    swap_answer: int = 0,
) -> Batch:
    """`patterns` random patterns; `swap_answer` (0: none) is the number of an answer that the memory gives wrong.

    Raises:
        AssertionError: for a burst that is lost, doubled or misplaced, a request too many, or a broken handshake.
    """
    rng = np.random.default_rng(seed)
    lists = flat([random_lists(config, rng, longest) for _ in range(patterns)])
    library = ctypes.CDLL(str(build(netlist)))
    library.simulation_new.argtypes, library.simulation_new.restype = [ctypes.c_char_p], ctypes.c_size_t
    library.simulation_run.argtypes, library.simulation_run.restype = [ctypes.c_size_t] * 3 + [ctypes.c_uint64], None
    library.simulation_reset.argtypes = [ctypes.c_size_t, ctypes.c_void_p]
    library.simulation_delete.argtypes = [ctypes.c_size_t]
    sizes, handle = sizes_of(config, netlist, limit_cycles), library.simulation_new(b"")
    library.simulation_reset(handle, np.zeros(sizes.in_words, np.uint32).ctypes.data_as(ctypes.c_void_p))
    play = player(library.simulation_run)
    try:
        at, fault, bursts, cycles = play(handle, sizes, lists, random_weather(rng, patterns), rng, swap_answer)
    finally:
        library.simulation_delete(handle)
    assert at < 0, f"pattern {at} of seed {seed}, cycle {cycles}: {FAULTS[fault]}"
    return Batch(patterns, int(bursts), int(cycles))
