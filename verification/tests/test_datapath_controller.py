"""The controller: layers from descriptor to answer, beside any memory; bad descriptors leave memory as it was."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hls import technology
from hls.datapaths import control_read, control_write, controller, head_walk, memory_port, selection
from hls.datapaths.controller_checks import CHECKED, FOUND, checks_graph
from hls.datapaths.descriptor import (
    ADDRESS_FIELDS,
    ANSWER,
    DESCRIPTOR,
    HEAD_ENTRY,
    STATUS_MESSAGES,
    LayerStatus,
    pack,
)
from hls.estimate_block import estimate_block
from hls.evaluate import evaluate
from hls.lower import Netlist
from hls.simulate import open_simulator
from hls.types import HlsError
from models.config import AcceleratorConfig
from models.memory.hbm2 import Hbm2Memory
from models.memory.variants import AdversarialMemory, IdealMemory
from verification.evidence.controller_bench import Bench
from verification.evidence.controller_model import HostLayer, random_layer, status_of
from verification.evidence.controller_netlist import build
from verification.evidence.planted import faults
from verification.tests.datapath_machines import machine, seeds

TINY = machine("tiny")
PATIENCE_CYCLES = 100
MODULES = (control_read, control_write, controller, head_walk, memory_port, selection)


@pytest.fixture(scope="module")
def netlist():
    return build(TINY, PATIENCE_CYCLES)


@pytest.fixture(scope="module")
def simulation(netlist):
    with open_simulator(netlist, "fast") as simulator:
        yield simulator


@pytest.fixture
def tiny(simulation):
    """A simulator in reset state; what the memories hold is of the test before."""
    simulation.reset()
    return simulation


def layer_of(seed: int, region: int = 1 << 24, **fixed: int) -> HostLayer:
    return random_layer(TINY, np.random.default_rng(seed), region, **fixed)


def run_layers(bench: Bench, rng: np.random.Generator, layers: int) -> None:
    """Random layers, of which the first clears all scores."""
    for i in range(layers):
        clears = {} if i == 0 else {"clear_tokens": int(rng.integers(2)), "clear_heads": int(rng.integers(2))}
        bench.run(random_layer(TINY, rng, (i + 1) << 24, **clears), (i + 1) << 23)


@settings(max_examples=3, deadline=None)
@given(seeds)
def test_layers_one_after_the_other(simulation, seed):
    simulation.reset()
    memory = AdversarialMemory(2, seed, max_latency_cycles=40, accept=0.8, answer=0.8)
    run_layers(Bench(TINY, simulation, memory, seed), np.random.default_rng(seed), 2)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(20))
def test_many_layers(seed):
    """With the patience of the machine: a refresh of HBM2 takes longer than that of the other tests."""
    memory = (IdealMemory(2, 1 + seed), AdversarialMemory(2, seed, max_latency_cycles=60), Hbm2Memory(channels=2))
    with open_simulator(build(TINY), "auto") as simulator:
        bench = Bench(TINY, simulator, memory[seed % 3], seed, chance=(0.2, 1.0)[seed % 2])
        run_layers(bench, np.random.default_rng(seed), 10)


@pytest.mark.parametrize(
    ("protected", "next_keys", "kept"),
    [
        ((), 6, 6),  # nobody leaves
        ((), 2, 2),
        ((0, 5), 3, 3),  # one beside the two that are protected
        ((0, 5, 9), 2, 3),  # they outnumber the count
        ((0, 1, 5, 9), 4, 4),  # a protected id that is dead does not shrink the count
    ],
)
def test_protected_ids(tiny, protected, next_keys, kept):
    fixed = {"position": 12, "keys": 6, "next_keys": next_keys, "protected_count": len(protected), "head_dim": 8}
    layer = replace(layer_of(7, **fixed), survivors=(0, 2, 5, 7, 9, 11), protected=protected)
    run = Bench(TINY, tiny, IdealMemory(2, 3), 7).run(layer, 1 << 23)
    assert run.answer["survivors"] == kept


def test_tokens_are_selected_before_the_outputs_are_there(tiny):
    """V of the last rows, prob x V and write-back take longer than all that is known from their probabilities."""
    bench = Bench(TINY, tiny, IdealMemory(2, 3), 11, chance=1.0)
    bench.late_outputs = True
    given = {"stage": 0, "position": 40, "keys": 30, "rows": 30, "heads": 4, "head_dim": 8, "next_heads": 2}
    for seed, next_keys in ((5, 12), (6, 30)):
        layer = layer_of(seed, region=seed << 24, **given, next_keys=next_keys, protected_count=2)
        layer = replace(layer, protected=(3, 17))
        assert bench.run(layer, seed << 23).status == LayerStatus.OK


def bad_layers(good: HostLayer) -> list[tuple[LayerStatus, HostLayer]]:
    """One request for each status but OK and MEMORY_SILENT, wrong in one thing."""
    f, h = good.fields, good.heads[-1]
    entry = good.table[h]

    def with_entry(**values: int) -> HostLayer:
        return replace(good, table=(*good.table[:h], {**entry, **values}, *good.table[h + 1 :]))

    ids, position = good.survivors, f["position"]
    protected = good.protected
    return [
        (LayerStatus.VERSION, good.with_fields(version=2)),
        (LayerStatus.RESERVED, replace(good, spoilt_bits=(28,))),
        (LayerStatus.RESERVED, replace(good, spoilt_bits=(8 * DESCRIPTOR.size_bytes - 1,))),
        (LayerStatus.STAGE, good.with_fields(stage=2)),
        (LayerStatus.WIDTH, good.with_fields(width=14)),
        (LayerStatus.FORMAT, good.with_fields(msb_bits=5)),
        (LayerStatus.FORMAT, good.with_fields(lsb_bits=2)),
        (LayerStatus.TOO_WIDE, good.with_fields(msb_bits=10, lsb_bits=4)),
        (LayerStatus.HEAD_DIM, good.with_fields(head_dim=0)),
        (LayerStatus.HEAD_DIM, good.with_fields(head_dim=12)),
        (LayerStatus.HEAD_DIM, good.with_fields(head_dim=64)),
        (LayerStatus.HEADS, good.with_fields(heads=65)),
        (LayerStatus.HEAD_MASK, good.with_fields(head_mask=0)),
        (LayerStatus.HEAD_MASK, good.with_fields(head_mask=f["head_mask"] | 1 << f["heads"])),
        (LayerStatus.GROUP, good.with_fields(group=0)),
        (LayerStatus.GROUP, good.with_fields(group=f["heads"] + 1)),
        (LayerStatus.NO_KEYS, good.with_fields(keys=0, rows=0)),
        (LayerStatus.TOO_MANY_KEYS, good.with_fields(keys=513, rows=513, position=600)),
        (LayerStatus.TOO_MANY_KEYS, good.with_fields(keys=129, rows=129, position=129, head_dim=32)),
        (LayerStatus.POSITION, good.with_fields(position=f["keys"] - 1)),
        (LayerStatus.POSITION, good.with_fields(position=513)),
        (LayerStatus.ROWS, good.with_fields(rows=f["keys"] - 1)),
        (LayerStatus.ROWS, good.with_fields(stage=1, rows=2)),
        (LayerStatus.NEXT_KEYS, good.with_fields(next_keys=0)),
        (LayerStatus.NEXT_HEADS, good.with_fields(next_heads=0)),
        (LayerStatus.RATIO, good.with_fields(ratio16=0)),
        (LayerStatus.RATIO, good.with_fields(ratio16=65537)),
        (LayerStatus.THRESHOLD, good.with_fields(threshold=4097)),
        (LayerStatus.PROTECTED_COUNT, good.with_fields(protected_count=position + 1)),
        *((LayerStatus.ALIGNMENT, good.with_fields(**{name: f[name] + 256})) for name, _ in ADDRESS_FIELDS[::6]),
        *((LayerStatus.ADDRESS, good.with_fields(**{name: 1 << 34})) for name, _ in ADDRESS_FIELDS[1::6]),
        (LayerStatus.HEAD_TABLE, with_entry(mantissa=32767)),
        (LayerStatus.HEAD_TABLE, with_entry(value_mantissa=0)),
        (LayerStatus.HEAD_TABLE, with_entry(exponent=64)),
        (LayerStatus.HEAD_TABLE, with_entry(value_shift=-65)),
        (LayerStatus.SURVIVOR_ORDER, replace(good, survivors=(*ids[:3], ids[2], *ids[4:]))),
        (LayerStatus.SURVIVOR_ORDER, replace(good, survivors=(*ids[:3], ids[4], ids[3], *ids[5:]))),
        (LayerStatus.SURVIVOR_RANGE, replace(good, survivors=(*ids[:-1], position))),
        (LayerStatus.SURVIVOR_RANGE, replace(good, survivors=(*ids[:-1], 65535))),
        (LayerStatus.PROTECTED_ORDER, replace(good, protected=(protected[1], protected[0], *protected[2:]))),
        (LayerStatus.PROTECTED_RANGE, replace(good, protected=(*protected[:-1], position))),
    ]


def good_layer() -> HostLayer:
    given = {"stage": 0, "position": 20, "keys": 9, "rows": 9, "heads": 12, "head_dim": 8, "protected_count": 3}
    layer = layer_of(3, **given)
    return replace(layer, survivors=(0, 1, 3, 4, 7, 8, 11, 15, 18), protected=(0, 4, 6))


def test_bad_descriptors_change_nothing(tiny):
    bench = Bench(TINY, tiny, IdealMemory(2, 2), 0, chance=1.0)
    good = good_layer()
    bench.run(good, 1 << 23)
    seen = {bench.run(layer, 1 << 23).status for _, layer in bad_layers(good)}
    assert seen == set(LayerStatus) - {LayerStatus.OK, LayerStatus.MEMORY_SILENT}
    # the scores are still those of the first layer
    assert bench.run(good.with_fields(clear_tokens=0, clear_heads=0), 1 << 23).status == LayerStatus.OK


def test_the_model_refuses_what_is_bad():
    for wanted, layer in bad_layers(good_layer()):
        assert status_of(TINY, layer) == wanted
    assert status_of(TINY, good_layer()) == LayerStatus.OK


@settings(max_examples=40, deadline=None)
@given(seeds, st.sampled_from(["tiny", "spatten", "spatten-1-8"]), st.sampled_from([12, 16]))
def test_checks_of_any_fields(checks_of, seed, preset, bits):
    config, graph = checks_of[preset, bits]
    rng = np.random.default_rng(seed)
    layer = replace(random_layer(config, rng, 1 << 24), survivors=(), protected=(), table=())
    changed = {}
    for name in rng.choice(CHECKED, int(rng.integers(0, 4)), replace=False).tolist():
        field = DESCRIPTOR.field(name)
        near = layer.fields[name] + int(rng.integers(-2, 3))
        changed[name] = int(rng.choice([near, field.high, int(rng.integers(0, 1 << min(field.bits, 62)))]))
        changed[name] = min(max(changed[name], field.low), field.high)
    layer = layer.with_fields(**changed)
    found = evaluate(graph, {**{n: layer.fields[n] for n in CHECKED}, **dict.fromkeys(FOUND, 0)})
    assert found["status"] == status_of(config, layer)


@pytest.fixture(scope="module")
def checks_of():
    machines = {(p, b): machine(p, b) for p in ("tiny", "spatten", "spatten-1-8") for b in (12, 16)}
    return {key: (config, checks_graph(config)) for key, config in machines.items()}


@pytest.mark.parametrize("silent_after", [0, 3, 8, 12])
def test_a_silent_memory_ends_the_layer(tiny, silent_after):
    memory = AdversarialMemory(2, 1, accept=1.0, answer=1.0, silent_after=silent_after)
    with pytest.raises(AssertionError, match="MEMORY_SILENT"):
        Bench(TINY, tiny, memory, 0).run(good_layer(), 1 << 23)
    assert not tiny.step({})["see_start_ready"]


@pytest.mark.parametrize(
    "fault",
    [
        ("enable", r"^control_write\.list_row_offset$", "never"),
        ("enable", r"^controller\.added_row$", "never"),
        pytest.param(("reset value", r"^memory_port\.owed_control_0$", "bit 0"), marks=pytest.mark.full),
        ("stage added", r"^selection\.fixed_count$", ""),
        pytest.param(("stage added", r"^head_walk\.in_group$", ""), marks=pytest.mark.full),
        pytest.param(("stage added", r"^control_read\.slot$", ""), marks=pytest.mark.full),
        pytest.param(("reset value", r"^selection\.mask_finished$", ""), marks=pytest.mark.full),
    ],
    ids=lambda fault: f"{fault[1].strip('^$')} {fault[0]}",
)
def test_planted_faults_are_noticed(netlist, fault):
    faulty = Netlist("faulty", faults(netlist.block, fault)[0].build())
    given = {"stage": 0, "position": 40, "keys": 30, "rows": 30, "heads": 12, "group": 3, "protected_count": 3}
    layer = layer_of(5, **given, head_dim=8, next_keys=20, next_heads=6)
    with open_simulator(faulty, "fast") as simulator:
        bench = Bench(TINY, simulator, IdealMemory(2, 30), 0, chance=1.0)
        with pytest.raises(AssertionError):
            bench.run(layer, 1 << 23, limit_cycles=2000)


@pytest.mark.parametrize(
    "preset", ["tiny", *(pytest.param(p, marks=pytest.mark.full) for p in ("spatten", "spatten-1-8"))]
)
@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_a_part_meets_its_clock(module, preset):
    config = AcceleratorConfig.preset(preset)
    estimate = estimate_block(module.build(config).block, technology.load(), config.clock_period_ps, module.__name__)
    assert estimate.slack_ps >= 0, str(estimate.delay)


def test_machines_that_cannot_select():
    with pytest.raises(HlsError, match="use 16"):
        selection.build(replace(machine(), top_k_lanes=32))
    with pytest.raises(HlsError, match="use 64"):
        selection.build(replace(TINY, context_keys=48))


def test_a_descriptor_as_bytes():
    data = pack(head_dim=64, keys=1000, answer_address=1 << 20, head_mask=5)
    assert len(data) == 192
    assert data[0:2] == b"\1\0"
    assert data[4] == 64
    assert int.from_bytes(data[12:14], "little") == 1000
    assert DESCRIPTOR.unpack(data)["answer_address"] == 1 << 20
    assert HEAD_ENTRY.pack({"exponent": -1})[2] == 255
    assert HEAD_ENTRY.unpack(HEAD_ENTRY.pack({"value_shift": -64}))["value_shift"] == -64


@pytest.mark.parametrize("layout", [DESCRIPTOR, HEAD_ENTRY, ANSWER], ids=lambda layout: layout.name)
def test_fields_do_not_overlap(layout):
    used = [bit for field in layout.fields for bit in range(field.offset, field.offset + field.bits)]
    assert len(used) == len(set(used))
    assert sorted({*used, *layout.reserved_bits}) == list(range(8 * layout.size_bytes))
    assert all(field.name in layout.table() for field in layout.fields)


def test_every_status_has_a_message():
    assert set(STATUS_MESSAGES) == set(LayerStatus)


@pytest.mark.parametrize(
    ("values", "message"),
    [({"head_dims": 1}, "did you mean 'head_dim'"), ({"keys": 1 << 16}, "nearest value is 65535")],
)
def test_what_a_descriptor_cannot_hold(values, message):
    with pytest.raises(HlsError, match=message):
        pack(**values)


def test_a_record_of_another_size():
    with pytest.raises(HlsError, match="it has 32"):
        ANSWER.unpack(bytes(31))
