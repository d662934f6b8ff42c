"""The reference's operands, bits as DRAM holds them, and stimuli for a converter lane (algorithm page, 5 and 11)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from hls.datapaths.bitwidth_converter import LSB_BITS, BitwidthConverterTypes, Plane
from hls.simulate import Words
from models.config import AcceleratorConfig
from models.reference.quantization import Planes
from verification.ports import Integers, from_port, to_port


@dataclass(frozen=True)
class Row:
    """One row for a lane.

    Attributes:
        q: the elements with all their bits, signed, shape (elements,).
        msb_bits: M.
        plane: which bits of them come.
        offset: bit of the first word at which they begin.
        noise: seed of the bits around them, and of what is held where nothing is to be joined.
    """

    q: Integers
    msb_bits: int
    plane: Plane
    offset: int
    noise: int = 0

    @property
    def planes(self) -> Planes:
        """The elements as the reference holds them."""
        lsb_bits = 0 if self.plane is Plane.WHOLE else LSB_BITS
        q = torch.from_numpy(self.q)[None]
        return Planes(q, torch.ones(1, 1, dtype=torch.float64), self.msb_bits, lsb_bits)

    def operand(self, datapath_bits: int, full: bool) -> Integers:
        """The reference's operands, int64, shape (elements,)."""
        return self.planes.operand(datapath_bits, full)[0].numpy().astype(np.int64)

    def words(self, word_bits: int) -> list[int]:
        """The words that hold the elements, the rest of them noise."""
        plane = self.planes.lsb if self.plane is Plane.LSB else self.planes.msb
        bits = LSB_BITS if self.plane is Plane.LSB else self.msb_bits
        stream = packed_bits(plane[0].numpy(), bits)
        count = -(-(self.offset + len(stream)) // word_bits)
        everything = np.random.default_rng(self.noise).integers(0, 2, count * word_bits)
        everything[self.offset : self.offset + len(stream)] = stream
        return words_of(everything, word_bits)


def packed_bits(values: Integers, bits: int) -> Integers:
    """Elements as DRAM holds them: bit-packed, least significant bit first; 0 or 1, shape (elements * bits,)."""
    return ((values.astype(np.int64)[:, None] >> np.arange(bits)) & 1).reshape(-1)


def words_of(bits: Integers, word_bits: int) -> list[int]:
    """Bits, least significant first, as words."""
    return [int.from_bytes(np.packbits(w.astype(np.uint8), bitorder="little").tobytes(), "little")
            for w in bits.reshape(-1, word_bits)]  # fmt: skip


def random_row(config: AcceleratorConfig, rng: np.random.Generator) -> Row:
    """Any format, plane, number of elements and offset; a third of the elements at an end of their range."""
    types = BitwidthConverterTypes.of(config)
    msb_bits = int(rng.choice(types.formats))
    joinable = msb_bits + LSB_BITS <= config.datapath_bits
    plane = Plane(int(rng.integers(0, 3))) if joinable else Plane.WHOLE
    bits = msb_bits + (0 if plane is Plane.WHOLE else LSB_BITS)
    count = types.row if rng.random() < 0.4 else int(rng.integers(1, types.row + 1))
    q = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), count)
    ends = rng.choice([-(1 << (bits - 1)), -1, 0, (1 << (bits - 1)) - 1], count)
    offset = 0 if rng.random() < 0.2 else int(rng.integers(0, types.word.width))
    return Row(np.where(rng.random(count) < 0.3, ends, q), msb_bits, plane, offset, int(rng.integers(1 << 32)))


def extreme_rows(config: AcceleratorConfig) -> list[Row]:
    """Every format and plane at every offset, whole rows of the ends of the range and of a walking one."""
    types = BitwidthConverterTypes.of(config)
    rows = []
    for msb_bits in types.formats:
        for plane in Plane if msb_bits + LSB_BITS <= config.datapath_bits else (Plane.WHOLE,):
            bits = msb_bits + (0 if plane is Plane.WHOLE else LSB_BITS)
            low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
            walking = (1 << (np.arange(types.row) % bits)) + low * 2 * (np.arange(types.row) % bits == bits - 1)
            patterns = [np.full(types.row, low), np.full(types.row, high), walking, -1 - walking]
            for offset in range(types.word.width):
                rows.append(Row(patterns[offset % len(patterns)], msb_bits, plane, offset, offset))
    return rows


def ports(config: AcceleratorConfig, rows: Sequence[Row]) -> dict[str, Words]:
    """The words of all rows as a lane's input ports take them; what counts only with a last word is noise before."""
    types = BitwidthConverterTypes.of(config)
    columns: dict[str, list[int]] = {name: [] for name in ("first", "last", "offset", "count", "format", "plane")}
    words: list[int] = []
    held: list[Integers] = []
    for row in rows:
        rng = np.random.default_rng(row.noise)
        of_row = row.words(types.word.width)
        for i, word in enumerate(of_row):
            last = i == len(of_row) - 1
            words.append(word)
            columns["first"].append(int(i == 0))
            columns["last"].append(int(last))
            columns["offset"].append(row.offset)
            columns["count"].append(len(row.q) if last else int(rng.integers(0, types.row + 1)))
            columns["format"].append((row.msb_bits - types.formats[0]) // 2 if last else 0)
            columns["plane"].append(int(row.plane) if last else int(rng.integers(0, 3)))
            high = 1 << (config.datapath_bits - 1)
            before = rng.integers(-high, high, types.row)
            if last and row.plane is Plane.LSB:
                before[: len(row.q)] = row.operand(config.datapath_bits, full=False)
            held.append(before)
    widths = {name: getattr(types, name).width for name in ("offset", "count", "format", "plane")}
    singles = {n: to_port(np.array(v, dtype=np.int64), widths.get(n, 1)) for n, v in columns.items()}
    raw = b"".join(word.to_bytes(types.word.width // 8, "little") for word in words)
    word_port = np.frombuffer(raw, dtype="<u4").reshape(len(words), -1).astype(np.uint32)
    return {**singles, "word": word_port, "held": to_port(np.array(held), config.datapath_bits)}


def expected(config: AcceleratorConfig, rows: Sequence[Row]) -> Integers:
    """Operands of the rows, zeros behind their elements, shape (rows, elements of a row)."""
    operands = np.zeros((len(rows), BitwidthConverterTypes.of(config).row), dtype=np.int64)
    for i, row in enumerate(rows):
        operands[i, : len(row.q)] = row.operand(config.datapath_bits, full=row.plane is not Plane.MSB)
    return operands


def observed(config: AcceleratorConfig, operand: Words) -> Integers:
    """A lane's output in the form of `expected`."""
    return from_port(operand, BitwidthConverterTypes.of(config).row, config.datapath_bits, signed=True)
