"""Fetch side: from requests for lists to operands in the SRAMs, as parts of a composition.

    list_sequencer -> fetcher -> Q x (landing_lane, bitwidth_converter) -> landing_write -> Key SRAM, Value SRAM,
          ^                                                                    |            query buffer
          +---------------------- vectors that have landed --------------------+

`add` puts the parts into a composition and connects them with each other. What comes from elsewhere goes by the names
of the signals, when the composer connects the rest by name: the layer bus, the streams of requests, the writes of
lists and the query buffer's ports. The read ports of the SRAMs have the names of their SRAM in front outside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hls.compose import Composer, Part, concat
from hls.datapaths import (
    bitwidth_converter,
    fetcher_array,
    landing_lane,
    landing_write,
    list_sequencer,
    operand_sram,
    query_buffer,
)
from hls.datapaths.machine_sizes import MachineSizes
from hls.technology import Technology
from models.config import AcceleratorConfig

SRAMS = ("key", "value")
SRAM_WRITES = ("write_valid", "write_address", "write_data", "write_lsb")
FETCHED = ("ids", "count", "last", "turned", "base", "stride", "length")


@dataclass(frozen=True)
class FetchSide:
    """The parts that others connect to: the fetcher's ports of the channels, reads of the SRAMs."""

    fetcher: Part
    srams: Mapping[str, Part]


def add(composer: Composer, config: AcceleratorConfig, technology: Technology | None = None) -> FetchSide:
    """Add the parts; the signal `layer_elements` must be there, the others when the composer connects them by name.

    Raises:
        HlsError: if the clock is too fast for a part.
    """
    sizes = MachineSizes.of(config)
    queues = sizes.queues
    fetches = fetcher_array.add(composer, config, technology)
    sequencer = composer.part("list_sequencer", list_sequencer.build(config, technology))
    landing = composer.part("landing_write", landing_write.build(config, technology))
    query = composer.part("query_buffer", query_buffer.build(config, technology))
    netlists = dict(zip(SRAMS, operand_sram.build_both(config), strict=True))
    srams = {name: composer.part(f"{name}_sram", netlist) for name, netlist in netlists.items()}
    lane_netlist = landing_lane.build(config, technology)
    converter_netlist = bitwidth_converter.build(config, technology)
    lanes = [composer.part(f"landing_lane_{q}", lane_netlist) for q in range(queues)]
    converters = [composer.part(f"converter_{q}", converter_netlist) for q in range(queues)]

    for name in FETCHED:
        composer.connect(fetches.switch.name, name, sequencer[f"fetch_{name}"])
    composer.connect(fetches.switch.name, "in_valid", sequencer["fetch_valid"])
    composer.connect("list_sequencer", "fetch_ready", fetches.switch["in_ready"])
    composer.connect("list_sequencer", "lane_behind", concat(*[lane["lane_behind"] for lane in lanes]))
    elements = composer.signal("layer_elements")
    for q, (queue, lane, converter) in enumerate(zip(fetches.queues, lanes, converters, strict=True)):
        composer.connect(queue.name, "word_ready", lane["word_ready"])
        composer.connect_all(
            lane.name,
            {
                **{name: queue[name] for name in ("word", "offset", "word_first", "word_last", "word_valid")},
                "lane": q,
                "convert_ready": converter["in_ready"],
                "list_table": sequencer["list_table"],
                "list_next": sequencer["list_next"],
            },
        )
        from_lane = ("word", "offset", "first", "last", "format", "plane")
        composer.connect_all(
            converter.name,
            {
                **{name: lane[f"convert_{name}"] for name in from_lane},
                "in_valid": lane["convert_valid"],
                "out_ready": landing["landing_ready"][q],
                "count": elements,
                "held": 0,
            },
        )
    composer.connect_all(
        "landing_write",
        {
            "landing_valid": concat(*[converter["out_valid"] for converter in converters]),
            "landing_tag": concat(*[lane["tag"] for lane in lanes]),
            "landing_data": concat(*[converter["operand"][: sizes.line_bits] for converter in converters]),
        },
    )
    for name, sram in srams.items():
        composer.connect_all(sram.name, {port: landing[f"{name}_{port}"] for port in SRAM_WRITES})
    for name in ("query_write", "query_write_line", "query_write_data"):
        composer.connect(query.name, name, landing[name])
    for name in ("landed_key", "landed_value", "landed_sparse", "landed_all"):
        composer.connect(sequencer.name, name, landing[name])
    return FetchSide(fetches.switch, srams)
