"""Random netlists over all PyRTL primitives, from any source of integers (Hypothesis or a seed)."""

from collections.abc import Callable

from hypothesis import strategies as st

from verification.equivalence.netlist import Memory, Net, Netlist

COMBINATIONAL = ("w", "~", "&", "|", "^", "n", "+", "-", "*", "<", ">", "=", "x", "c", "s", "m")
PRIMITIVES = (*COMBINATIONAL, "r", "@")
Pick = Callable[[int, int], int]


class Builder:
    """Grows a netlist net by net; operands are at most `max_bits` wide."""

    def __init__(self, pick: Pick, max_bits: int = 9):
        self.pick, self.max_bits = pick, max_bits
        self.widths: dict[str, int] = {}
        self.inputs: list[str] = []
        self.constants: dict[str, int] = {}
        self.registers: dict[str, int | None] = {}
        self.memories: dict[str, Memory] = {}
        self.nets: list[Net] = []
        self.usable: list[str] = []

    def wire(self, name: str, width: int) -> str:
        self.widths[name] = width
        self.usable.append(name)
        return name

    def add_input(self) -> None:
        self.inputs.append(self.wire(f"in{len(self.inputs)}", self.pick(1, self.max_bits)))

    def add_constant(self) -> None:
        width = self.pick(1, self.max_bits)
        name = self.wire(f"const{len(self.constants)}", width)
        self.constants[name] = self.pick(0, (1 << width) - 1)

    def add_register(self) -> None:
        width = self.pick(1, self.max_bits)
        name = self.wire(f"reg{len(self.registers)}", width)
        self.registers[name] = self.pick(0, (1 << width) - 1) if self.pick(0, 1) else None

    def add_memories(self) -> None:
        bits, word = self.pick(1, 3), self.pick(1, 6)
        contents = tuple(self.pick(0, (1 << word) - 1) for _ in range(1 << bits))
        self.memories["rom"] = Memory(bits, word, contents)
        self.memories["ram"] = Memory(self.pick(1, 3), self.pick(1, 6))

    def any_wire(self) -> str:
        return self.usable[self.pick(0, len(self.usable) - 1)]

    def fresh(self, width: int) -> str:
        return self.wire(f"w{len(self.widths)}", width)

    def of_width(self, width: int) -> str:
        """Some wire, cut or padded to a width."""
        source = self.any_wire()
        have = self.widths[source]
        if have > width:
            low = self.pick(0, have - width)
            part = self.fresh(width)
            self.nets.append(Net("s", (source,), part, tuple(range(low, low + width))))
            return part
        if have < width:
            padding = self.wire(f"const{len(self.constants)}", width - have)
            self.constants[padding] = self.pick(0, (1 << (width - have)) - 1)
            whole = self.fresh(width)
            self.nets.append(Net("c", (padding, source), whole))
            return whole
        return source

    def add(self, op: str) -> None:
        """One primitive; all but multiplexer, concatenation and selection may truncate."""
        select: tuple[int, ...] = ()
        memory = None
        if op == "r":
            for name in self.registers:
                if all(net.dest != name for net in self.nets):
                    self.nets.append(Net("r", (self.of_width(self.widths[name]),), name))
                    return
            return
        if op == "@":
            ram = self.memories["ram"]
            if not any(net.op == "@" for net in self.nets):
                port = (self.of_width(ram.address_bits), self.of_width(ram.data_bits), self.of_width(1))
                self.nets.append(Net("@", port, None, memory="ram"))
            return
        args, natural = self._operands(op)
        if op == "s":
            width = self.widths[args[0]]
            select = tuple(self.pick(0, width - 1) for _ in range(self.pick(1, self.max_bits)))
            natural = len(select)
        if op == "m":
            memory = ("rom", "ram")[self.pick(0, 1)]
            args = (self.of_width(self.memories[memory].address_bits),)
            natural = self.memories[memory].data_bits
        exact = op in "<>=mxcs"
        dest = self.fresh(natural if exact else self.pick(1, min(natural, self.max_bits)))
        self.nets.append(Net(op, args, dest, select, memory))

    def _operands(self, op: str) -> tuple[tuple[str, ...], int]:
        first = self.any_wire()
        width = self.widths[first]
        if op in "w~s":
            return (first,), width
        if op == "c":
            args = tuple(self.of_width(self.pick(1, self.max_bits)) for _ in range(self.pick(1, 3)))
            return args, sum(self.widths[a] for a in args)
        if op == "x":
            return (self.of_width(1), first, self.of_width(width)), width
        if op == "m":
            return (), 0
        natural = {"+": width + 1, "-": width + 1, "*": 2 * width, "<": 1, ">": 1, "=": 1}.get(op, width)
        return (first, self.of_width(width)), natural

    def finish(self) -> Netlist:
        """Close registers, and make an output of every wire that nothing reads."""
        for _ in self.registers:
            self.add("r")
        used = {a for net in self.nets for a in net.args}
        driven = {net.dest for net in self.nets if net.dest and net.dest not in self.registers}
        outputs = []
        for name in sorted(set(self.widths) - used - set(self.constants)):
            if name in driven:
                outputs.append(name)
            else:
                outputs.append(f"{name}_out")
                self.widths[outputs[-1]] = self.widths[name]
                self.nets.append(Net("w", (name,), outputs[-1]))
        kept = {a for net in self.nets for a in net.args} | {net.dest for net in self.nets} | set(self.inputs)
        touched = {net.memory for net in self.nets}
        return Netlist(
            widths={n: w for n, w in self.widths.items() if n in kept},
            inputs=tuple(self.inputs),
            outputs=tuple(outputs),
            constants={n: v for n, v in self.constants.items() if n in kept},
            registers=self.registers,
            nets=tuple(self.nets),
            memories={n: m for n, m in self.memories.items() if n in touched},
        )


def build(pick: Pick, operators: tuple[str, ...] = PRIMITIVES, size: int = 12, focus: str = "") -> Netlist:
    """A netlist of about `size` random primitives; `focus` is one that certainly occurs."""
    builder = Builder(pick)
    for _ in range(pick(1, 3)):
        builder.add_input()
    builder.add_constant()
    if "r" in operators:
        for _ in range(pick(1, 2)):
            builder.add_register()
    builder.add_memories()
    for op in [focus] if focus else []:
        builder.add(op)
    for _ in range(pick(1, size)):
        builder.add(operators[pick(0, len(operators) - 1)])
    return builder.finish()


@st.composite
def netlists(draw, operators=PRIMITIVES, size=12, focus=""):
    """Hypothesis strategy over `build`."""
    return build(lambda low, high: draw(st.integers(low, high)), operators, size, focus)
