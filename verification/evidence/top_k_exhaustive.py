"""Every request that a very small top-k engine can get, one after the other, against the reference.

2 lanes, memories of 2 rows, values of 2 bits: 2 rows of 2 items, every value, every pattern of valid bits, every k.
A request is sent every `PERIOD_CYCLES` cycles, more than the longest takes, so the inputs of all cycles are known in
advance and the netlist runs in one batch; the memories' pointers go round as they do in any other use.
"""

from dataclasses import replace

import numpy as np

from hls.datapaths.top_k import build
from hls.lower import Netlist
from hls.simulate import Backend, Words, open_simulator
from models.config import AcceleratorConfig
from verification.equivalence.verdict import Verdict, refuted, sampled
from verification.evidence.top_k_model import Request, expected
from verification.ports import Integers, from_port, to_port

LANES, ROWS, VALUE_BITS = 2, 2, 2
ITEMS = LANES * ROWS
CONFIG = replace(AcceleratorConfig.preset("tiny"), top_k_lanes=LANES, top_k_fifo_rows=ROWS, context_keys=ITEMS)
K_COUNT = 1 << ITEMS.bit_length()
PERIOD_CYCLES = 48
"""Four passes of at most 2 rows and 6 cycles, fill, filter and 8 cycles of pipelines are fewer."""


def engine() -> Netlist:
    """The engine."""
    return build(CONFIG, value_bits=VALUE_BITS)


def _requests(values_step: int) -> tuple[Integers, Integers, Integers]:
    """Values and valid bits, both (requests, items), and k (requests,), for every `values_step`-th of all values."""
    values = np.arange(0, 1 << (ITEMS * VALUE_BITS), values_step)
    chosen, valid, k = (
        axis.ravel() for axis in np.meshgrid(values, np.arange(1 << ITEMS), np.arange(K_COUNT), indexing="ij")
    )
    spread = (chosen[:, None] >> (VALUE_BITS * np.arange(ITEMS))) & ((1 << VALUE_BITS) - 1)
    return spread, (valid[:, None] >> np.arange(ITEMS)) & 1, k


def _stimulus(values: Integers, valid: Integers, k: Integers) -> dict[str, Words]:
    """The input ports of all cycles."""
    count = len(k)
    ports: dict[str, Integers] = {
        name: np.zeros((count, PERIOD_CYCLES, lanes), dtype=np.int64)
        for name, lanes in (("value", LANES), ("id", LANES), ("valid", LANES), ("last", 1), ("k", 1), ("in_valid", 1))
    }
    for row in range(ROWS):
        at = slice(row * LANES, (row + 1) * LANES)
        ports["value"][:, row], ports["valid"][:, row] = values[:, at], valid[:, at]
        ports["id"][:, row] = np.arange(ITEMS)[at]
        ports["in_valid"][:, row] = 1
    ports["last"][:, ROWS - 1, 0], ports["k"][:, ROWS - 1, 0] = 1, k
    ports["out_ready"] = np.ones((count, PERIOD_CYCLES, 1), dtype=np.int64)
    bits = {"value": VALUE_BITS, "id": (ITEMS - 1).bit_length(), "k": ITEMS.bit_length()}
    return {name: to_port(port.reshape(count * PERIOD_CYCLES, -1), bits.get(name, 1)) for name, port in ports.items()}


def every_request(netlist: Netlist, values_step: int = 1, backend: Backend = "auto") -> Verdict:
    """TESTED(requests), or REFUTED naming the first that is answered wrongly or late."""
    values, valid, k = _requests(values_step)
    count = len(k)
    with open_simulator(netlist, backend) as simulator:
        seen = simulator.run(_stimulus(values, valid, k))
    lanes = {"kept_value": (LANES, VALUE_BITS), "kept_id": (LANES, (ITEMS - 1).bit_length())}
    fields = {
        name: from_port(words, *lanes.get(name, (1, netlist.outputs[name])), signed=False).reshape(
            count, PERIOD_CYCLES, -1
        )
        for name, words in seen.items()
    }
    position = np.arange(ITEMS)
    for i in range(count):
        request = Request(
            values[i].reshape(ROWS, LANES), position.reshape(ROWS, LANES), valid[i].reshape(ROWS, LANES) > 0, int(k[i])
        )
        answer, candidates = expected(request, LANES, ITEMS)
        where = f"values {values[i].tolist()}, valid {valid[i].tolist()}, k = {k[i]}"
        rows = np.flatnonzero(fields["out_valid"][i, :, 0])
        ends = fields["kept_last"][i, rows, 0].tolist()
        if not ends or ends != [0] * (len(ends) - 1) + [1]:
            return refuted(f"{where}: its last row is not the last within {PERIOD_CYCLES} cycles")
        kept = [
            (int(fields["kept_value"][i, row, lane]), int(fields["kept_id"][i, row, lane]))
            for row in rows
            for lane in range(int(fields["kept_count"][i, row, 0]))
        ]
        status, threshold, equal = (int(fields[n][i, rows[-1], 0]) for n in ("status", "threshold", "num_equal"))
        passes = fields["pass_candidates"][i, np.flatnonzero(fields["pass_starts"][i, :, 0]), 0].tolist()
        if (tuple(kept), status, tuple(passes)) != (answer.kept, answer.status, candidates):
            return refuted(f"{where}: {kept}, status {status}, passes {passes} instead of {answer}, {candidates}")
        if answer.threshold is not None and (threshold, equal) != (answer.threshold, answer.num_equal):
            return refuted(f"{where}: T = {threshold}, num_eq = {equal} instead of {answer}")
    share = "every request" if values_step == 1 else f"requests of every {values_step}th combination of values"
    return sampled(count, f"{share}: {ITEMS} items of {VALUE_BITS} bits, all valid bits, all k")
