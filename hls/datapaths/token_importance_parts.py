"""The dataflow parts of token importance, and the types of its ports (algorithm page, section 2).

    place     lanes of a cycle to the banks of their slots
    add       partial sum + probability, saturating
    count     survivors before each id of a cycle of a sweep
    locate    the slots, banks and rows of those survivors
    merge     total + partial sum, saturating; halved, or cleared

How they work together: `hls.datapaths.token_importance`.
"""

from __future__ import annotations

from dataclasses import dataclass

from hls.datapaths.number_formats import IMPORTANCE_BITS, PROBABILITY_BITS
from hls.datapaths.zero_eliminator import exclusive_prefix_sum
from hls.trace import Bool, Graph, HlsError, UInt, Value, Vec, Vector, select, trace, vector
from hls.types import Fixed
from models.config import AcceleratorConfig

PROBABILITY = UInt(PROBABILITY_BITS)
SCORE = UInt(IMPORTANCE_BITS)


@dataclass(frozen=True)
class TokenImportanceTypes:
    """Sizes and port types of a machine's token importance.

    Attributes:
        lanes: probabilities a cycle.
        ids: scores a cycle of a sweep.
        banks: of the partial sums, a power of two.
        slot: position in a survivor list.
        bank_row: address in a bank of partial sums.
        id_row: address in the memory of totals.
        count: survivors in one cycle of a sweep.
        rank: survivors in it before one id.
    """

    lanes: int
    ids: int
    banks: int
    slot: Fixed
    bank_row: Fixed
    id_row: Fixed
    count: Fixed
    rank: Fixed

    @classmethod
    def of(cls, config: AcceleratorConfig) -> TokenImportanceTypes:
        """The types of `config`.

        Raises:
            HlsError: if the context fills less than two rows of the banks.
        """
        banks = max(2, config.softmax_lanes, config.top_k_lanes)
        if config.context_keys <= banks:
            raise HlsError(
                f"token importance of {config.context_keys} keys in {banks} banks: use more than {banks} keys"
            )
        return cls(
            lanes=config.softmax_lanes,
            ids=config.top_k_lanes,
            banks=banks,
            slot=UInt((config.context_keys - 1).bit_length()),
            bank_row=UInt(((config.context_keys - 1) // banks).bit_length()),
            id_row=UInt(((config.context_keys - 1) // config.top_k_lanes).bit_length()),
            count=UInt(config.top_k_lanes.bit_length()).within(0, config.top_k_lanes),
            rank=UInt(max(1, (config.top_k_lanes - 1).bit_length())),
        )

    @property
    def bank_bits(self) -> int:
        """Bits of the number of a bank."""
        return self.banks.bit_length() - 1


def place_graph(config: AcceleratorConfig) -> Graph:
    """Lanes to banks: bank b takes lane (b - slot) mod banks, if there is one and it is valid."""
    types = TokenImportanceTypes.of(config)

    def place(prob: Vector, lane_valid: Vector, slot: Value) -> dict[str, object]:
        no_lane = [lane_valid[0] & 0] * (types.banks - types.lanes)
        amounts, touched = [*prob, *no_lane], [*lane_valid, *no_lane]
        for b in range(types.bank_bits):
            step = 1 << b
            amounts = [select(slot[b], amounts[i - step], amounts[i]) for i in range(types.banks)]
            touched = [select(slot[b], touched[i - step], touched[i]) for i in range(types.banks)]
        return {
            "amount": vector(amounts),
            "touched": vector(touched),
            "row": vector(bank_rows(types, slot)),
        }

    return trace(
        place,
        inputs={
            "prob": Vec(PROBABILITY, types.lanes),
            "lane_valid": Vec(Bool, types.lanes),
            "slot": types.slot,
        },
        outputs={"amount": Vec(PROBABILITY, types.banks), "row": Vec(types.bank_row, types.banks)},
    )


def bank_rows(types: TokenImportanceTypes, slot: Value) -> list[Value]:
    """For every bank the row of its first slot from `slot` on."""
    first, row = slot[: types.bank_bits], slot[types.bank_bits : types.slot.width]
    return [(row + (first > bank)).wrap(types.bank_row) for bank in range(types.banks)]


def add_graph() -> Graph:
    """The new partial sum of a bank: `recent` is what the cycle before has added to the same slot, if it has."""

    def add(stored: Value, recent: Value, same_slot: Value, amount: Value) -> dict[str, Value]:
        return {"added": limited(select(same_slot, recent, stored) + amount)}

    return trace(
        add,
        inputs={"stored": SCORE, "recent": SCORE, "same_slot": Bool, "amount": PROBABILITY},
        outputs={"added": SCORE},
    )


def limited(total: Value) -> Value:
    """The sum of two scores, saturated: its top bit says that it is too large."""
    return select(total[SCORE.width], SCORE.full_range.high, total[: SCORE.width])


def count_graph(config: AcceleratorConfig) -> Graph:
    """Survivors before each id of a cycle of a sweep, and in all of it; the rest passes by."""
    types = TokenImportanceTypes.of(config)

    def count(survivor: Vector, id_row: Value, halve: Value, clear: Value, sweep_last: Value) -> dict[str, object]:
        rank = exclusive_prefix_sum(list(survivor))
        return {
            "rank": vector(rank),
            "survivors": rank[-1] + survivor[types.ids - 1],
            "counted_survivor": survivor,
            "counted_row": id_row,
            "counted_halve": halve,
            "counted_clear": clear,
            "counted_last": sweep_last,
        }

    return trace(
        count,
        inputs={
            "survivor": Vec(Bool, types.ids),
            "id_row": types.id_row,
            "halve": Bool,
            "clear": Bool,
            "sweep_last": Bool,
        },
        outputs={"rank": Vec(types.rank, types.ids), "survivors": types.count, "counted_row": types.id_row},
    )


def locate_graph(config: AcceleratorConfig) -> Graph:
    """Where the survivors of a cycle have their partial sums, `first_slot` on; the rest passes by."""
    types = TokenImportanceTypes.of(config)
    bank = UInt(types.bank_bits)

    def locate(
        first_slot: Value, rank: Vector, survivors: Value, survivor: Vector, row: Value, halve: Value, clear: Value,
        last: Value,
    ) -> dict[str, object]:  # fmt: skip
        first = first_slot[: types.bank_bits]
        used = [(index - first).wrap(bank) < survivors for index in range(types.banks)]
        rows = [select(clear, row.wrap(types.bank_row), here) for here in bank_rows(types, first_slot)]
        return {
            "bank_row": vector(rows),
            "emptied": vector([clear | here for here in used]),
            "source": vector([(first + r).wrap(bank) for r in rank]),
            "located_survivor": survivor,
            "located_row": row,
            "located_halve": halve,
            "located_clear": clear,
            "located_last": last,
        }

    return trace(
        locate,
        inputs={
            "first_slot": types.slot,
            "rank": Vec(types.rank, types.ids),
            "survivors": types.count,
            "survivor": Vec(Bool, types.ids),
            "row": types.id_row,
            "halve": Bool,
            "clear": Bool,
            "last": Bool,
        },
        outputs={
            "bank_row": Vec(types.bank_row, types.banks),
            "source": Vec(bank, types.ids),
            "located_row": types.id_row,
        },
    )


def merge_graph(config: AcceleratorConfig) -> Graph:
    """The scores of a cycle of a sweep: total and partial sum, halved or cleared."""
    types = TokenImportanceTypes.of(config)

    def merge(
        total: Vector, partial: Vector, source: Vector, survivor: Vector, row: Value, halve: Value, clear: Value,
        last: Value,
    ) -> dict[str, object]:  # fmt: skip
        scores = []
        for i in range(types.ids):
            mine = select(survivor[i], partial[source[i]], 0).named(f"mine_{i}")
            both = limited(total[i] + mine).named(f"both_{i}")
            scores.append(select(clear, 0, select(halve, both.shift_right(1, "floor"), both)))
        return {"score": vector(scores), "score_survivor": survivor, "score_row": row, "score_last": last}

    return trace(
        merge,
        inputs={
            "total": Vec(SCORE, types.ids),
            "partial": Vec(SCORE, types.banks),
            "source": Vec(UInt(types.bank_bits), types.ids),
            "survivor": Vec(Bool, types.ids),
            "row": types.id_row,
            "halve": Bool,
            "clear": Bool,
            "last": Bool,
        },
        outputs={"score": Vec(SCORE, types.ids), "score_row": types.id_row},
    )


def graphs(config: AcceleratorConfig) -> dict[str, Graph]:
    """The traced parts by name."""
    return {
        "place": place_graph(config),
        "add": add_graph(),
        "count": count_graph(config),
        "locate": locate_graph(config),
        "merge": merge_graph(config),
    }
