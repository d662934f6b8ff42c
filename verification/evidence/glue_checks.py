"""The controller's checks of a descriptor alone: a pipeline of arithmetic inside a module of control.

In the controller most fields stand still long before they are checked, so nobody can see there through how many
registers they go. Here another descriptor enters in every cycle: one that is refused, or one that is in order. What
the layer is to be means something where the status is OK.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyrtl

from hls.datapaths.controller_checks import CHECKED, FOUND, plan
from hls.datapaths.descriptor import DESCRIPTOR, LayerStatus
from hls.lower import Netlist, building, instantiate, output_ports
from verification.equivalence.netlist import Netlist as Nets
from verification.evidence.controller_model import HostLayer, random_layer
from verification.evidence.glue_outputs import Meaning
from verification.evidence.glue_replay import Replay, WatchedSimulator, replay_of
from verification.evidence.glue_requests import REGION, at_limits, each_bit, refusals
from verification.evidence.glue_runs import TINY

PREFIX = "checks_"
IN_ORDER, AT_LIMIT = 500, 500
FOUND_CHANCE, VALID_CHANCE, AT_LIMIT_CHANCE = 0.1, 0.8, 0.2


def checks_alone() -> Netlist:
    """The pipeline, from fields to what the layer is to be, and whether that is in order."""
    block = pyrtl.Block()
    with building(block):
        bits = {**{name: DESCRIPTOR.field(name).bits for name in CHECKED}, **dict.fromkeys(FOUND, 1)}
        inputs = {name: pyrtl.Input(n, name) for name, n in bits.items()}
        checked = instantiate(plan(TINY), inputs, block, valid=pyrtl.Input(1, "valid"), prefix=PREFIX)
        output_ports({**checked.outputs, "checked": checked.out_valid})
        output_ports({"in_order": checked.out_valid & (checked.outputs["status"] == LayerStatus.OK)})
    return Netlist("checks", block)


def checks_meaning(netlist: Netlist) -> dict[str, Meaning]:
    """When its outputs mean something."""
    layer = {port: Meaning(("in_order",)) for port in netlist.outputs if port.startswith("layer_")}
    return {**layer, "status": Meaning(("checked",))}


def _layers(rng: np.random.Generator) -> Iterator[HostLayer]:
    for _ in range(IN_ORDER):
        head_dim = int(rng.choice([1, 2, 3, 4, 5, 6, 7, 8, 8, 16, 32]))
        position = int(rng.integers(1, TINY.max_keys(head_dim) + 1))
        layer = random_layer(TINY, rng, REGION, head_dim=head_dim, position=position, heads=int(rng.integers(1, 65)))
        limits = {"threshold": 1 << 12, "ratio16": 1 << 16, "group": layer.fields["heads"], "protected_count": position}
        yield layer.with_fields(**{name: value for name, value in limits.items() if rng.random() < AT_LIMIT_CHANCE})
    yield from refusals()
    yield from each_bit()
    yield from at_limits(7, AT_LIMIT)


def checks_replay(netlist: Netlist, seed: int) -> list[Replay]:
    """Descriptors in random order, one in every cycle, each twice: as it is, and with more that was found.

    What they give is that of the netlist.
    """
    rng = np.random.default_rng(seed)
    layers = list(_layers(rng))
    order = rng.permutation(2 * len(layers)).tolist()
    simulator = WatchedSimulator(netlist)
    for index in order:
        again, number = divmod(index, len(layers))
        fields = {name: layers[number].fields[name] for name in CHECKED}
        found = {name: int(again and rng.random() < FOUND_CHANCE) for name in FOUND}
        simulator.step({**fields, **found, "valid": int(not again or rng.random() < VALID_CHANCE)})
    return [replay_of("descriptors in every cycle", netlist, simulator.rows)]


def in_checks(netlist: Nets) -> frozenset[str]:
    """Wires of the controller that belong to the pipeline alone."""

    def behind(wires: list[str]) -> set[str]:
        found, stack = set(wires), list(wires)
        while stack:
            net = netlist.drivers.get(stack.pop())
            for arg in () if net is None or net.op == "r" else net.args:
                if arg not in found:
                    found.add(arg)
                    stack.append(arg)
        return found

    registers = {name for name in netlist.registers if name.startswith(PREFIX) and "valid" not in name}
    inside = behind([netlist.drivers[name].args[0] for name in registers])
    others = [netlist.drivers[name].args[0] for name in netlist.registers if name not in registers]
    ports = [arg for nets in netlist.writers.values() for net in nets for arg in net.args]
    return frozenset((inside - behind([*others, *ports, *netlist.outputs])) | registers)
