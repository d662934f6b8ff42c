"""What the row side does in a layer, counted row by row before it runs: beats, kept values, lists."""

from dataclasses import dataclass, field
from typing import NamedTuple

from hls.datapaths.machine_sizes import MachineSizes
from models.config import AcceleratorConfig
from models.transaction.placement import Placement
from models.transaction.quick_select import PassDraws
from models.transaction.workload import IntArray, LayerWork, Passes

LSB_BITS = 4


class Following(NamedTuple):
    """What survives on entering the next layer: ids of tokens, heads."""

    tokens: IntArray
    heads: IntArray


@dataclass(eq=False)
class LayerPlan:
    """A layer for a machine.

    Attributes:
        work: the layer.
        place: addresses.
        protected: ids that selection keeps.
        parts: vectors of a key.
        lanes: keys of a beat.
        prunes: values go through the top-k engines.
        jobs: of the heads: (index, kv head, first, last of it).
        beats: of a row's first pass, [rows].
        cycles: of a row in prob x V, [heads][rows].
    """

    work: LayerWork
    machine: AcceleratorConfig
    place: Placement
    protected: IntArray
    prunes: bool
    draws: PassDraws
    parts: int = field(init=False)
    lanes: int = field(init=False)
    elements: int = field(init=False)
    jobs: list[tuple[int, int, bool, bool]] = field(init=False)
    beats: list[int] = field(init=False)
    visible: list[int] = field(init=False)

    def __post_init__(self) -> None:
        work, machine, slots = self.work, self.machine, MachineSizes.of(self.machine).slots
        padded = machine.padded_head_dim(work.head_dim)
        self.parts = max(1, padded // machine.native_head_dim)
        self.lanes = slots // self.parts
        self.elements = work.head_dim // self.parts
        kv = work.kv_heads
        last = len(kv) - 1
        self.jobs = [
            (i, int(g), i == 0 or g != kv[i - 1], i == last or g != kv[i + 1]) for i, g in enumerate(kv.tolist())
        ]
        self.visible = work.visible.tolist() if not work.generation else [work.keys] * work.rows
        self.beats = [-(-v * self.parts // slots) for v in self.visible]

    @property
    def progressive(self) -> bool:
        """LSBs are fetched where a row is flat."""
        return self.work.lsb_bits > 0

    @property
    def key_places(self) -> int:
        """Lists of keys that the Key SRAM holds."""
        return MachineSizes.of(self.machine).key_places(self.work.keys * self.parts)

    def passes(self, head: int, row: int) -> Passes:
        """Of the quick-select of a row's values."""
        known = self.work.value_passes
        if known is not None:
            return known[head][row]
        return self.draws.draw("probability", self.visible[row], int(self.work.kept[head, row]))

    def bits(self, plane: str) -> int:
        """Of a vector of a plane: `msb`, `lsb`, `query`."""
        of = {"msb": self.work.msb_bits, "lsb": LSB_BITS, "query": self.machine.datapath_bits}
        return self.elements * of[plane]
