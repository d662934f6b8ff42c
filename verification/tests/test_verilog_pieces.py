"""Slices and concatenations looked through: the pieces are the bits, and stop where they would be many."""

import pyrtl
from hypothesis import given, settings
from hypothesis import strategies as st

from hls.lower import Netlist, building
from hls.simulate import open_simulator
from hls.verilog import WHOLE_BITS, WORD_BITS, to_verilog
from hls.verilog_pieces import Piece, Pieces, in_words


def driver(block: pyrtl.Block, wire: pyrtl.WireVector) -> pyrtl.LogicNet:
    return next(net for net in block.logic if net.dests and net.dests[0] is wire)


def shown(pieces: list[Piece]) -> list[tuple[str, int, int]]:
    return [(piece.wire.name, piece.low, piece.bits) for piece in pieces]


def output(wire: pyrtl.WireVector, name: str) -> None:
    port = pyrtl.Output(len(wire), name)
    port <<= wire


def test_a_slice_of_a_concatenation_is_bits_of_its_parts():
    with building(pyrtl.Block()) as block:
        a, b, x = pyrtl.Input(6, "a"), pyrtl.Input(6, "b"), pyrtl.Input(1, "x")
        whole = pyrtl.concat(pyrtl.concat(a, b)[2:8], x)
    assert shown(Pieces(block).of(driver(block, whole))) == [("x", 0, 1), ("b", 2, 4), ("a", 0, 2)]


def test_neighbours_of_a_wire_are_one_piece():
    with building(pyrtl.Block()) as block:
        a = pyrtl.Input(8, "a")
        whole = pyrtl.concat(a[6:8], a[4:6], a[1:4])
    assert shown(Pieces(block).of(driver(block, whole))) == [("a", 1, 7)]


def test_a_concatenation_with_other_readers_is_not_written_out_twice():
    with building(pyrtl.Block()) as block:
        bits = [pyrtl.Input(1, f"bit_{i}") for i in range(64)]
        joined = pyrtl.concat(*bits)
        half, alone = pyrtl.concat(joined[:32], bits[0]), joined[3:4]
        output(joined, "all_of_them")
    pieces = Pieces(block)
    assert shown(pieces.of(driver(block, half))) == [("bit_0", 0, 1), (joined.name, 0, 32)]
    assert shown(pieces.of(driver(block, alone))) == [("bit_60", 0, 1)]


def test_words_are_cut_at_their_bounds():
    a, b = pyrtl.Input(20, "a", block=pyrtl.Block()), pyrtl.Input(20, "b", block=pyrtl.Block())
    words = in_words([Piece(a, 0, 20), Piece(b, 0, 20)], 16)
    assert [shown(word) for word in words] == [
        [("a", 0, 16)],
        [("a", 16, 4), ("b", 0, 12)],
        [("b", 12, 8)],
    ]


def test_a_long_concatenation_is_assigned_word_by_word():
    block = pyrtl.Block()
    with building(block):
        a, b = pyrtl.Input(WHOLE_BITS, "a"), pyrtl.Input(8, "b")
        output(pyrtl.concat(*[a, b] * 2), "whole")
    text = to_verilog(Netlist("wired", block))
    assigned = [line for line in text.splitlines() if "assign" in line and "[" in line.split("=")[0]]
    assert len(assigned) == -(-(2 * WHOLE_BITS + 16) // WORD_BITS)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_pieces_are_the_bits(data):
    """Any network of slices, in any order of bits, and of concatenations."""
    block = pyrtl.Block()
    with building(block):
        wires = [pyrtl.Input(data.draw(st.integers(1, 40)), f"in_{i}") for i in range(3)]
        wires.append(pyrtl.Const(data.draw(st.integers(0, 255)), 8))
        for _ in range(data.draw(st.integers(2, 12))):
            if data.draw(st.booleans()):
                chosen = data.draw(st.lists(st.sampled_from(wires), min_size=2, max_size=4))
                wires.append(pyrtl.concat(*chosen))
            else:
                wire = data.draw(st.sampled_from(wires))
                positions = data.draw(st.lists(st.integers(0, len(wire) - 1), min_size=1, max_size=6))
                wires.append(pyrtl.concat(*[wire[p] for p in positions]))
                low = data.draw(st.integers(0, len(wire) - 1))
                wires.append(wire[low : data.draw(st.integers(low + 1, len(wire)))])
        made = {id(wire): wire for wire in wires[4:]}.values()
        for i, wire in enumerate(made):
            output(wire, f"out_{i}")
        for i in range(3):
            output(wires[i], f"seen_{i}")
    values = {f"in_{i}": data.draw(st.integers(0, (1 << len(wires[i])) - 1)) for i in range(3)}
    with open_simulator(Netlist("rewired", block), "fast") as simulator:
        seen = simulator.step(values)
    pieces = Pieces(block)
    known = values | {wire.name: seen[f"out_{i}"] for i, wire in enumerate(made)}

    def bits_of(piece: Piece) -> int:
        value: int = piece.wire.val if isinstance(piece.wire, pyrtl.Const) else known[piece.wire.name]
        return value >> piece.low & ((1 << piece.bits) - 1)

    for i, wire in enumerate(made):
        net = None if isinstance(wire, (pyrtl.Input, pyrtl.Const)) else driver(block, wire)
        if net is None or net.op not in "cs":
            continue
        found, low = 0, 0
        for piece in pieces.of(net):
            found |= bits_of(piece) << low
            low += piece.bits
        assert (low, found) == (len(wire), seen[f"out_{i}"])
