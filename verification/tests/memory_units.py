"""A small netlist with memory ports for tests of co-simulation: it copies bursts, each plus its number, in DRAM."""

import pyrtl

from hls.lower import Netlist, building

CHANNELS = 2
BURST_BITS = 256
ADDRESS_BITS = 8
TAG_BITS = 3
OFFSET = 32
"""Bursts from the one that is read to the one that is written."""


def _lane(channel: int, go: pyrtl.WireVector, count: pyrtl.WireVector, fault: str) -> dict[str, pyrtl.WireVector]:
    """One channel: read burst, write it plus one, acknowledge, next burst; requests come from registers alone."""
    prefix = f"lane{channel}_"
    inputs = {
        name: pyrtl.WireVector(bits, prefix + name)
        for name, bits in (("ready", 1), ("answer", 1), ("answer_tag", TAG_BITS), ("data", BURST_BITS), ("done", 1))
    }
    number = pyrtl.Register(ADDRESS_BITS, prefix + "number", reset_value=0)
    state = pyrtl.Register(3, prefix + "state", reset_value=0)  # 0 idle, 1 read, 2 answer, 3 write, 4 acknowledge
    held = pyrtl.Register(BURST_BITS, prefix + "held", reset_value=0)
    idle, reading, waiting, writing, owed = (state == value for value in range(5))
    more = number < count
    tag = number[:TAG_BITS]
    right = inputs["answer_tag"] == tag
    with pyrtl.conditional_assignment:
        with idle & go & more:
            state.next |= 1
        with reading & inputs["ready"]:
            state.next |= 2
        with waiting & inputs["answer"] & right:
            state.next |= 3
            held.next |= (inputs["data"] + number)[:BURST_BITS]
        with writing & inputs["ready"]:
            state.next |= 4
        with owed & inputs["done"]:
            state.next |= 0
            number.next |= (number + 1)[:ADDRESS_BITS]
    place = (number + pyrtl.select(writing, pyrtl.Const(OFFSET, ADDRESS_BITS), 0))[:ADDRESS_BITS]
    address = pyrtl.concat(place, pyrtl.Const(channel, 1))[: ADDRESS_BITS + 1]
    valid = reading | writing
    if fault == "withdraws":
        flip = pyrtl.Register(1, prefix + "flip", reset_value=0)
        flip.next <<= ~flip
        valid = (reading & flip) | writing
    if fault == "depends":
        tag = tag ^ inputs["ready"]
    if fault == "elsewhere":
        address = pyrtl.concat(place, pyrtl.Const(1 - channel, 1))
    if fault == "forgets":
        valid = reading | (writing & (number != 3))
    return {
        **inputs,
        "valid": valid,
        "write": writing,
        "tag": tag,
        "address": address,
        "held": held,
        "finished": idle & ~more,
        "landed": waiting & inputs["answer"] & right,
    }


def copier(fault: str = "") -> Netlist:
    """The netlist; `fault` plants one of "withdraws", "depends", "elsewhere", "forgets"."""
    block = pyrtl.Block()
    with building(block):
        go, count = pyrtl.Input(1, "go"), pyrtl.Input(ADDRESS_BITS, "count")
        begun = pyrtl.Register(1, "begun", reset_value=0)
        begun.next <<= begun | go
        lanes = [_lane(channel, begun, count, fault) for channel in range(CHANNELS)]
        for port, name, bits in (
            ("memory_ready", "ready", 1),
            ("answer_valid", "answer", 1),
            ("answer_tag", "answer_tag", TAG_BITS),
            ("answer_data", "data", BURST_BITS),
            ("write_done", "done", 1),
        ):
            wire = pyrtl.Input(CHANNELS * bits, port)
            for channel, lane in enumerate(lanes):
                lane[name] <<= wire[channel * bits : (channel + 1) * bits]
        outputs = {
            "memory_valid": "valid",
            "memory_write": "write",
            "memory_tag": "tag",
            "memory_address": "address",
            "memory_data": "held",
            "landed": "landed",
        }
        for port, name in outputs.items():
            wire = pyrtl.concat_list([lane[name] for lane in lanes])
            output = pyrtl.Output(len(wire), port)
            output <<= wire
        for port, wire in (
            ("finished", begun & lanes[0]["finished"] & lanes[1]["finished"]),
            ("status", pyrtl.concat_list([lane["finished"] for lane in lanes])),
            ("go_ready", ~begun),
            ("landed0", lanes[0]["landed"]),
            ("number0", block.wirevector_by_name["lane0_number"]),
        ):
            output = pyrtl.Output(len(wire), port)
            output <<= wire
    return Netlist("copier", block)
