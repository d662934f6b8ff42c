"""Random datapaths: programs that run on traced values and, written independently, on Python integers."""

import inspect
from dataclasses import dataclass
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pyrtl
from hypothesis import strategies as st

from hls.evaluate import unflatten
from hls.lower import Netlist, building
from hls.trace import Bool, Fixed, SInt, UInt, Vec, concat, maximum, minimum, select, table, trace
from hls.types import leaves

WIDEST_BITS = 40
TABLE = (3, -7, 0, 12, 5, 5, -1, 100)


@dataclass(frozen=True)
class Cost:
    delay_ps: int


class TinyTechnology:
    """Delays that are easy to reckon with; `scale` makes everything slower."""

    flip_flop = SimpleNamespace(setup_ps=20, clock_to_q_ps=30)
    clock_uncertainty_ps = 50

    def __init__(self, scale=1):
        self.scale = scale

    def cost(self, kind, in_bits, out_bits, **attributes):
        per_bit = {"add": 2, "sub": 2, "neg": 2, "lt": 2, "eq": 1, "mul": 8}
        base = {"mux": 20, "not": 5, "and": 10, "or": 10, "xor": 15, "table": 60}
        if kind in per_bit:
            return Cost(self.scale * (40 + per_bit[kind] * max(in_bits)))
        if kind in ("shift_left", "shift_right"):
            return Cost(self.scale * 20 * in_bits[1])
        return Cost(self.scale * base.get(kind, 10 * max(in_bits).bit_length()))


def signed_of(x, bits):
    x &= (1 << bits) - 1
    return x - (1 << bits) if x >> (bits - 1) else x


def half_up(x, n):
    return (2 * x + (1 << n)) // (2 << n)


def half_even(x, n):
    return round(Fraction(x, 1 << n))


def u8(v):
    return v.wrap(UInt(8)) if hasattr(v, "wrap") else v & 255


def bit3(v):
    return v.wrap(UInt(3)) if hasattr(v, "wrap") else v & 7


# name: (number of operands, on traced values, on integers)
OPERATIONS: dict[str, tuple[int, Any, Any]] = {
    "add": (2, lambda a, b: a + b, lambda a, b: a + b),
    "sub": (2, lambda a, b: a - b, lambda a, b: a - b),
    "mul": (2, lambda a, b: a * b, lambda a, b: a * b),
    "neg": (1, lambda a: -a, lambda a: -a),
    "abs": (1, abs, abs),
    "mul_const": (1, lambda a: 13 * a, lambda a: 13 * a),
    "add_const": (1, lambda a: a - 9, lambda a: a - 9),
    "eq": (2, lambda a, b: a == b, lambda a, b: int(a == b)),
    "lt": (2, lambda a, b: a < b, lambda a, b: int(a < b)),
    "ge": (2, lambda a, b: a >= b, lambda a, b: int(a >= b)),
    "select": (3, lambda a, b, c: select(a > b, c, a), lambda a, b, c: c if a > b else a),
    "max": (3, maximum, max),
    "min": (3, minimum, min),
    "and": (2, lambda a, b: a & b, lambda a, b: a & b),
    "or": (2, lambda a, b: a | b, lambda a, b: a | b),
    "xor": (2, lambda a, b: a ^ b, lambda a, b: a ^ b),
    "invert8": (1, lambda a: ~u8(a), lambda a: 255 - u8(a)),
    "shift_left": (1, lambda a: a << 3, lambda a: a << 3),
    "shift_left_by": (2, lambda a, n: a << bit3(n), lambda a, n: a << bit3(n)),
    "floor": (1, lambda a: a.shift_right(3, "floor"), lambda a: a >> 3),
    "half_up": (1, lambda a: a.shift_right(3, "half_up"), lambda a: half_up(a, 3)),
    "half_even": (1, lambda a: a.shift_right(2, "half_even"), lambda a: half_even(a, 2)),
    "floor_by": (2, lambda a, n: a.shift_right(bit3(n), "floor"), lambda a, n: a >> bit3(n)),
    "half_up_by": (2, lambda a, n: a.shift_right(bit3(n), "half_up"), lambda a, n: half_up(a, bit3(n))),
    "saturate": (1, lambda a: a.saturate(SInt(6)), lambda a: max(-32, min(31, a))),
    "wrap": (1, lambda a: a.wrap(SInt(7)), lambda a: signed_of(a, 7)),
    "slice": (1, lambda a: a.wrap(SInt(20))[3:11], lambda a: (a >> 3) & 255),
    "concat": (2, lambda a, b: concat(u8(a), bit3(b)), lambda a, b: u8(a) | bit3(b) << 8),
    "table": (1, lambda a: table(TABLE, bit3(a)), lambda a: TABLE[bit3(a)]),
    "bit_length": (1, lambda a: abs(a).bit_length(), lambda a: abs(a).bit_length()),
    "any": (1, lambda a: a.any(), lambda a: int(a != 0)),
    "all": (1, lambda a: u8(a).all(), lambda a: int(u8(a) == 255)),
    "parity": (1, lambda a: u8(a).parity(), lambda a: u8(a).bit_count() & 1),
}


def scalar_types():
    bounded = st.tuples(st.integers(-100, 100), st.integers(0, 60)).map(lambda p: SInt(9).within(p[0], p[0] + p[1]))
    return st.one_of(
        st.just(Bool), st.integers(1, 14).map(UInt), st.integers(1, 14).map(SInt), bounded, st.just(SInt(25))
    )


@dataclass(frozen=True)
class Program:
    """A straight-line program; step k appends its result to the values, of which the last ones are the outputs."""

    types: tuple[Fixed, ...]
    steps: tuple[tuple[str, tuple[int, ...]], ...]
    outputs: int

    def on_values(self, values):
        values = list(values)
        for name, operands in self.steps:
            result = OPERATIONS[name][1](*(values[i] for i in operands))
            values.append(result.wrap(SInt(16)) if result.type.width > WIDEST_BITS else result)
        return values[-self.outputs :]

    def on_integers(self, values, wrapped):
        values = list(values)
        for (name, operands), wraps in zip(self.steps, wrapped, strict=True):
            result = OPERATIONS[name][2](*(values[i] for i in operands))
            values.append(signed_of(result, 16) if wraps else result)
        return values[-self.outputs :]

    def wraps(self):
        """Which steps the width limit wraps, found by tracing."""
        wrapped = []

        def run(**inputs):
            values = list(inputs.values())
            for name, operands in self.steps:
                result = OPERATIONS[name][1](*(values[i] for i in operands))
                wrapped.append(result.type.width > WIDEST_BITS)
                values.append(result.wrap(SInt(16)) if wrapped[-1] else result)
            return values[-1]

        self._trace(run)
        return wrapped

    def _trace(self, function):
        names = [f"x{i}" for i in range(len(self.types))]
        parameters = [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY) for n in names]
        function.__signature__ = inspect.Signature(parameters)
        return trace(function, dict(zip(names, self.types, strict=True)), name="random_program")

    def graph(self):
        def run(**inputs):
            return {f"y{i}": value for i, value in enumerate(self.on_values(inputs.values()))}

        return self._trace(run)


@st.composite
def programs(draw, max_steps=12):
    types = tuple(draw(st.lists(scalar_types(), min_size=1, max_size=4)))
    steps = []
    for k in range(draw(st.integers(1, max_steps))):
        name = draw(st.sampled_from(sorted(OPERATIONS)))
        operands = tuple(draw(st.integers(0, len(types) + k - 1)) for _ in range(OPERATIONS[name][0]))
        steps.append((name, operands))
    return Program(types, tuple(steps), draw(st.integers(1, min(3, len(steps)))))


def random_scalar(random, type_):
    """An integer of a type, extremes included more often than chance would."""
    low, high = type_.range.low, type_.range.high
    return random.choice([low, high, random.randint(low, high), random.randint(low, high)])


def random_inputs(graph, random):
    """A random value for every input port."""
    return {
        port.name: unflatten(port.type, [random_scalar(random, t) for t in leaves(port.type)]) for port in graph.inputs
    }


def dot_graph(lanes=4, width=12):
    """A small dot product with every port shape: vector, scalar, Bool; vector and scalar outputs."""

    def dot(query, key, clear):
        score = (query * key).sum().named("score")
        return {"total": select(clear, 0, score), "doubled": query + query}

    vectors = Vec(SInt(width), lanes)
    return trace(dot, {"query": vectors, "key": vectors, "clear": Bool})


def many_operators():
    """Every kind of node, and ports of 1, 3, 25, 40, 48 and 300 bits."""

    def f(a, b, n, v, wide):
        product = a * b[0:21]
        return {
            "product": product,
            "shifted": [a << n, a.shift_right(n, "half_up")],
            "bitwise": [a & b, a | b, a ^ b, ~a, -a],
            "flags": [a < b, a == b, a.any(), b.parity(), (a & b).all(), abs(a) > 5],
            "best": v.max(),
            "entry": table(TABLE, n),
            "length": abs(b).bit_length(),
            "chosen": select(a > 0, v, v * 3),
            "copy": wide,
        }

    types: dict[str, Any] = {
        "a": SInt(25),
        "b": SInt(40),
        "n": UInt(3),
        "v": Vec(SInt(12), 4),
        "wide": Vec(UInt(60), 5),
    }
    return trace(f, types)


def counter_with_memory():
    """State, a memory and a ROM, which no traced graph has: a running sum written to and read from a memory."""
    block = pyrtl.Block()
    with building(block):
        write, address = pyrtl.Input(1, "write_it"), pyrtl.Input(3, "address")
        data = pyrtl.Input(70, "data")
        memory = pyrtl.MemBlock(70, 3, name="store", asynchronous=True, block=block)
        rom = pyrtl.RomBlock(5, 3, [3, 1, 4, 1, 5, 9, 2, 6], name="digits", asynchronous=True, block=block)
        total = pyrtl.Register(70, "total", reset_value=7)
        total.next <<= (total + data)[:70]
        memory[address] <<= pyrtl.MemBlock.EnabledWrite(total, write)
        for name, wire in (("read", memory[address]), ("sum", total), ("digit", rom[address])):
            output = pyrtl.Output(len(wire), name)
            output <<= wire
    return Netlist("counter", block)
