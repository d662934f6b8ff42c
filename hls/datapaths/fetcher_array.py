"""The fetcher as parts of a composition: the switch, and all queues as instances of one module.

    ids -> fetch_switch -> fetch_lane_0, fetch_lane_1, ... -> words
             |     ^           '-- offered bursts -->' (and from the last to the first)
             '-----'-- channels

What `hls.datapaths.fetcher.build` has in one netlist.
"""

from __future__ import annotations

from dataclasses import dataclass

from hls.compose import Composer, Part, concat
from hls.datapaths import fetch_lane, fetcher
from hls.datapaths.watchdog import PATIENCE_CYCLES
from hls.technology import Technology
from models.config import AcceleratorConfig

SWITCH = "fetch_switch"


@dataclass(frozen=True)
class FetcherArray:
    """The parts: the switch, with the ports of ids and channels and the watchdog, and the queues with the words."""

    switch: Part
    queues: tuple[Part, ...]


def add(
    composer: Composer,
    config: AcceleratorConfig,
    technology: Technology | None = None,
    patience_cycles: int = PATIENCE_CYCLES,
) -> FetcherArray:
    """Add the parts, and connect them with each other; the queues' `word_ready` are left to connect.

    Raises:
        HlsError: if the clock is too fast for a part, or for words that cannot be built.
    """
    switch = composer.part(SWITCH, fetcher.build_switch(config, technology, patience_cycles))
    netlist = fetch_lane.build(config)
    queues = tuple(composer.part(f"fetch_lane_{q}", netlist) for q in range(config.fetch_queues))
    to_queue = {
        "descriptor_valid": "queue_vector_valid",
        "answer_valid": "queue_answer_valid",
        "asking_ready": "queue_request_ready",
    }
    from_queue = {
        "queue_vector_ready": "descriptor_ready",
        "queue_request": "asking",
        "queue_request_valid": "asking_valid",
        "queue_busy": "busy",
    }
    for q, queue in enumerate(queues):
        before, after = queues[q - 1], queues[(q + 1) % len(queues)]
        composer.connect_all(
            queue.name,
            {
                "number": q,
                "descriptor": switch[f"queue_vector_{q}"],
                "answer": switch[f"queue_answer_{q}"],
                **{port: switch[name][q] for port, name in to_queue.items()},
                "before_offered": before["offered"],
                "before_burst": before["offered_burst"],
                "offer_taken": after["before_taken"],
            },
        )
    for name, port in from_queue.items():
        composer.connect(switch.name, name, concat(*[queue[port] for queue in queues]))
    return FetcherArray(switch, queues)
