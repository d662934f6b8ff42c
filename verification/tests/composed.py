"""Small netlists and compositions for tests."""

from collections.abc import Callable

import pyrtl

from hls.compose import Composer, Composition, concat, constant
from hls.lower import Netlist, building
from verification.tests.hls_graphs import counter_with_memory


def gates(name: str, ports: dict[str, int], function: Callable[..., dict[str, pyrtl.WireVector]]) -> Netlist:
    """A netlist whose outputs are a function of its inputs."""
    block = pyrtl.Block()
    with building(block):
        for port, value in function(**{n: pyrtl.Input(b, n) for n, b in ports.items()}).items():
            output = pyrtl.Output(len(value), port)
            output <<= value
    return Netlist(name, block)


def two_counters() -> Composition:
    """Two instances of one netlist with state, memory and table, the second fed by halves of the first's sum."""
    composer, counter = Composer("two"), counter_with_memory()
    first, second = composer.part("first", counter), composer.part("second", counter)
    composer.input("write_it", 1)
    composer.input("address", 3)
    composer.input("data", 70)
    composer.connect("second", "data", concat(first["sum"][35:], first["sum"][:35]))
    for part in ("first", "second"):
        composer.by_name(part)
    composer.output("sums", concat(second["sum"], constant(5, 3), first["sum"][-1]))
    composer.output("digits", concat(first["digit"], second["read"]))
    return composer.build()


def ring(shift: bool) -> Composition:
    """Two packed vectors that depend on each other; with `shift`, no bit depends on itself."""
    invert = gates("invert", {"x": 4, "stop": 1}, lambda x, stop: {"y": ~x ^ stop.sign_extended(4)})
    composer = Composer("ring")
    near, far = composer.part("near", invert), composer.part("far", invert)
    composer.input("stop", 1)
    start = composer.input("start", 1)
    composer.connect("near", "x", far["y"])
    composer.connect("far", "x", concat(start, near["y"][:3]) if shift else near["y"])
    composer.by_name("near")
    composer.by_name("far")
    if not shift:
        composer.output("started", start)
    composer.output("grants", concat(near["y"], far["y"]))
    return composer.build()
