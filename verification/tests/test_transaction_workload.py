import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.config import AcceleratorConfig, Config, ConfigError, KeepSchedule, PruningConfig, QuantizationConfig
from models.reference.integer import IntegerArithmetic
from models.reference.payload import dense_payload
from models.reference.stack import prepare
from models.reference.top_k import lfsr_pivots, quick_select
from models.transaction import generated
from models.transaction.counting import dense, dense_operations, payload, performed_operations
from models.transaction.generated import Profile, generate
from models.transaction.replay import replay
from models.transaction.workload import LayerWork, ModelShape, WorkloadError
from traces.reading import read
from traces.trace import TraceError
from traces.workload import read_workload
from verification.recorded import recorded_layers
from verification.tests.sequences import prunings, quantizations, random_sequence
from verification.transaction_workloads import read_recorded, recorded_workload, trace_workload

TRACES = Path(__file__).resolve().parents[2] / "traces"
RELEASED = TRACES.parents[1] / "shared" / "workloads" / "gpt2-small-wikitext2.csv"
MACHINE = AcceleratorConfig()


@settings(max_examples=30)
@given(data=st.data(), pruning=prunings(), bits=quantizations, group=st.sampled_from([1, 2, 4]))
def test_a_replayed_run_counts_what_the_reference_counts(data, pruning, bits, group):
    tokens = data.draw(st.integers(1, 12))
    prompt = data.draw(st.none() | st.integers(1, tokens))
    sequence = random_sequence(data.draw(st.integers(0, 99)), tokens=tokens, group=group, prompt=prompt)
    run = prepare(sequence, IntegerArithmetic(bits), pruning, bits)
    works = list(replay(run, "random", "test", lanes=4).layers())
    results = list(run.passes())
    assert len(works) == len(results)
    for work, result in zip(works, results, strict=True):
        assert (work.step, work.layer) == (result.step, result.layer)
        assert payload(work) == result.payload
        assert work.visible.tolist() == result.attention.visible.sum(-1).expand(1, work.rows)[0].tolist()
        for index in range(len(work.heads)):
            assert np.array_equal(work.kept_slots(index), result.attention.kept[index].numpy())


@settings(max_examples=20)
@given(seed=st.integers(0, 99), pruning=prunings(), prompt=st.none() | st.integers(1, 8))
def test_the_passes_of_a_replayed_run_are_those_of_quick_select(seed, pruning, prompt):
    run = prepare(random_sequence(seed, tokens=10, prompt=prompt), IntegerArithmetic(QuantizationConfig()), pruning)
    for work, result in zip(replay(run, "random", "test", lanes=4).layers(), run.passes(), strict=True):
        for head, rows in enumerate(work.value_passes or ()):
            for row, passes in enumerate(rows):
                seen = result.attention.prob[head, row][: work.visible[row]].tolist()
                chosen = quick_select(seen, int(work.kept[head, row]), lfsr_pivots(4))
                assert chosen.candidates == passes
                assert list(chosen.kept) == np.flatnonzero(work.kept_slots(head)[row]).tolist()
        for selection in (work.token_selection, work.head_selection):
            if selection is not None:
                assert 1 <= selection.kept < selection.candidates
                if selection.passes is not None:
                    assert selection.passes[0] == selection.candidates


@settings(max_examples=15)
@given(pruning=prunings(), prompt=st.integers(1, 6), seed=st.integers(0, 99))
def test_a_selection_is_among_the_tokens_that_are_still_there(pruning, prompt, seed):
    """Counted with sets: what the layer before left, less what earlier passes freed for good."""
    run = prepare(random_sequence(seed, tokens=10, prompt=prompt), IntegerArithmetic(QuantizationConfig()), pruning)
    gone = {layer: set() for layer in range(3)}
    here = set()
    for work in replay(run, "random", "test").layers():
        here = (set(range(work.tokens)) if work.layer == 0 else here) - gone[work.layer]
        left, current = set(work.key_ids.tolist()), work.tokens - 1
        selection = work.token_selection
        assert (selection is not None) == (left != here and left != {current})
        if selection is not None:
            assert (selection.candidates, selection.kept) == (len(here - {current}), len(left - {current}))
        if pruning.scope == "sequence":
            for layer in range(work.layer, 3):
                gone[layer] |= set(range(work.tokens)) - left
        here = left


def example(keys=4, rows=4, causal=False, step=0, **changes):
    """A layer of one head of a model of two."""
    fields = {
        "model": ModelShape("example", layers=2, heads=2, kv_heads=1, head_dim=8),
        "step": step,
        "layer": 1,
        "causal": causal,
        "tokens": max(keys, rows) + 2,
        "key_ids": np.arange(keys),
        "row_ids": np.arange(rows),
        "heads": np.array([1]),
        "kept": np.ones((1, rows), np.int64),
        "flat": np.zeros((1, rows), np.bool_),
        "msb_bits": 8,
        "lsb_bits": 4,
        "query_bits": 12,
    }
    return LayerWork(**fields | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer": 2}, "example, step 0, layer 2: layer 2 of 2"),
        ({"key_ids": np.array([0, 2, 1, 3])}, "key ids must be rising numbers below 6"),
        ({"key_ids": np.array([0, 1, 2, 6])}, "key ids must be rising numbers below 6"),
        ({"heads": np.array([2])}, "heads must be rising numbers below 2"),
        ({"heads": np.zeros(0, np.int64)}, "heads must be"),
        ({"step": 1}, "4 rows in a generation step, not 1"),
        ({"flat": np.zeros((2, 4), np.bool_)}, r"flat \(2, 4\), not \(1, 4\)"),
        ({"kept": np.full((1, 4), 5)}, "1 to the keys it sees"),
        ({"causal": True, "kept": np.full((1, 4), 2)}, "1 to the keys it sees"),
        ({"lsb_bits": 0, "flat": np.ones((1, 4), np.bool_)}, "flat rows without LSBs"),
        ({"kept_mask": np.ones((1, 4, 4), np.bool_)}, "must agree with their number"),
    ],
)
def test_a_layer_that_cannot_be_is_refused(changes, message):
    with pytest.raises(WorkloadError, match=message):
        example(**changes)


@given(
    keys=st.integers(1, 40),
    causal=st.booleans(),
    ratio=st.floats(0.01, 1),
    seed=st.integers(0, 1000),
)
def test_drawn_kept_values_are_as_many_as_said_visible_and_the_same_every_time(keys, causal, ratio, seed):
    visible = np.arange(1, keys + 1) if causal else np.full(keys, keys)
    kept = np.maximum(1, (visible * ratio).astype(np.int64))[None]
    work = example(keys=keys, rows=keys, causal=causal, kept=kept, seed=seed)
    slots = work.kept_slots(0)
    assert slots.sum(1).tolist() == kept[0].tolist()
    assert not slots[np.arange(keys) >= work.visible[:, None]].any()
    assert np.array_equal(slots, work.kept_slots(0))


def test_lsbs_of_v_are_fetched_for_what_flat_rows_keep():
    mask = np.array([[[1, 0, 0, 1], [0, 1, 0, 1], [0, 1, 1, 0], [1, 0, 0, 1]]], np.bool_)
    work = example(kept=mask.sum(2), kept_mask=mask, flat=np.array([[False, True, False, False]]))
    assert work.flat_value_slots(0).tolist() == [False, True, False, True]
    assert payload(work).v_lsb_bits == 2 * 8 * 4
    assert payload(example(kept=mask.sum(2), kept_mask=mask)).v_lsb_bits == 0


def test_operations_of_a_layer_worked_by_hand():
    flat = np.array([[False, True, False, False]])
    work = example(causal=True, kept=np.array([[1, 1, 2, 2]]), flat=flat)
    # rows see 1, 2, 3 and 4 keys, the second row twice: 12 scores; 6 values; D = 8
    assert performed_operations(work) == 2 * 8 * (12 + 6)
    assert dense_operations(work) == 4 * 8 * 2 * (6 * 7 // 2)
    assert dense_operations(example()) == 4 * 8 * 2 * 36
    assert dense(work, 12) == dense_payload(2, 1, 6, 6, 8, 12, generation=False)


def test_published_operations_of_gpt2_medium():
    """Table IV's dense attention: sum over 32 steps of 24 x 4 x 1024 x (993 + i)."""
    workload = generate(Profile("dense", generated.GPT2_MEDIUM, 992, 32, encoder=False))
    layers = list(workload.layers())
    assert sum(w.flat.size for w in layers) == 12_288
    expected = sum(24 * 4 * 1024 * (993 + i) for i in range(32))
    assert sum(map(dense_operations, layers)) == sum(map(performed_operations, layers)) == expected


@settings(max_examples=30)
@given(data=st.data(), pruning=prunings(), prompt=st.none() | st.integers(1, 11))
def test_generated_counts_are_those_of_a_run(data, pruning, prompt):
    """With scope `step` they do not depend on values."""
    pruning = replace(pruning, scope="step", protected_ids=tuple(sorted(data.draw(st.sets(st.integers(0, 11))))))
    sequence = random_sequence(3, tokens=12, prompt=prompt)
    run = prepare(sequence, IntegerArithmetic(QuantizationConfig()), pruning)
    model = ModelShape("random", 3, 4, 4, 8)
    profile = Profile(
        "random", model, prompt or 12, 12 - (prompt or 12), prompt is None, prompt_pass=True, pruning=pruning
    )
    for drawn, work in zip(generate(profile).layers(), replay(run, "random", "test").layers(), strict=True):
        assert (drawn.step, drawn.layer, drawn.tokens) == (work.step, work.layer, work.tokens)
        assert (drawn.keys, drawn.rows, len(drawn.heads)) == (work.keys, work.rows, len(work.heads))
        assert np.array_equal(drawn.kept, work.kept)
        for ours, theirs in (
            (drawn.token_selection, work.token_selection),
            (drawn.head_selection, work.head_selection),
        ):
            assert (ours is None) == (theirs is None)
            assert ours is None or (ours.candidates, ours.kept) == (theirs.candidates, theirs.kept)


@given(seed=st.integers(0, 50))
def test_generated_survivors_are_a_cascade(seed):
    pruning = PruningConfig(tokens=KeepSchedule(average=0.5, start=0.8), heads=KeepSchedule(average=0.6, start=0.9))
    profile = Profile("gpt2", generated.GPT2_SMALL, 40, 3, encoder=False, pruning=pruning, seed=seed)
    before = None
    for work in generate(profile).layers():
        assert work.key_ids[-1] == work.tokens - 1
        if before is not None and before.step == work.step:
            assert set(work.key_ids) <= set(before.key_ids)
            assert set(work.heads) <= set(before.heads)
        before = work


@given(pruning=prunings(), seed=st.integers(0, 20))
def test_with_scope_sequence_a_token_dropped_stays_dropped(pruning, seed):
    pruning = replace(pruning, scope="sequence")
    profile = Profile("drops", ModelShape("m", 3, 4, 2, 8), 9, 4, encoder=False, pruning=pruning, seed=seed)
    alive = {}
    for work in generate(profile).layers():
        here = set(work.key_ids.tolist())
        known = alive.get(work.layer, here)
        assert {i for i in here if i < work.tokens - 1} <= known
        alive[work.layer] = here


@given(share=st.floats(0, 1))
def test_the_share_of_flat_rows_is_kept(share):
    profile = Profile(
        "flat",
        generated.BERT_BASE,
        9,
        quantization=QuantizationConfig(8, 4, 0.1),
        flat_share=share,
    )
    flat = sum(int(w.flat.sum()) for w in generate(profile).layers())
    assert flat == pytest.approx(12 * 12 * 9 * share, abs=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tokens": 0}, "0 tokens"),
        ({"tokens": 4, "generated": 2}, "generated tokens to a decoder only"),
        ({"tokens": 4, "encoder": False}, "there is nothing to run"),
        ({"tokens": 4, "flat_share": 0.5}, "0 without LSBs"),
    ],
)
def test_a_profile_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(WorkloadError, match=message):
        Profile("broken", generated.BERT_BASE, **arguments)


def test_a_profile_is_written_as_a_model_and_its_lengths():
    pruning, bits = PruningConfig(value_ratio=0.5), QuantizationConfig(8, 4, 0.1)
    bert = generated.parse_profile("bert-large:384", pruning, bits)
    assert (bert.model, bert.tokens, bert.generated, bert.encoder) == (generated.BERT_LARGE, 384, 0, True)
    assert (bert.pruning, bert.quantization) == (pruning, bits)
    llama = generated.parse_profile("llama-3.2-1b:500+7", pruning, bits)
    assert (llama.model.kv_heads, llama.tokens, llama.generated, llama.encoder) == (8, 500, 7, False)
    works = list(generate(llama).layers())
    assert len(works) == 7 * 16
    assert np.array_equal(works[0].kv_heads, np.arange(32) // 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bert-bas:384", "did you mean 'bert-base'"),
        ("bert-base", "write it like bert-base:384"),
        ("bert-base:12+3", "write it like bert-base:384"),
        ("gpt2-small:992", r"write it like gpt2-small:992\+32"),
        ("gpt2-small:-1+3", r"write it like gpt2-small:992\+32"),
        ("gpt2-small:9+0", "nothing to run"),
        ("bert-base:0", "0 tokens"),
    ],
)
def test_a_text_that_is_no_profile_is_refused(text, message):
    with pytest.raises(WorkloadError, match=message):
        generated.parse_profile(text, PruningConfig(), QuantizationConfig())


def test_a_schedule_for_another_model_is_refused_before_the_run():
    pruning = PruningConfig(tokens=KeepSchedule(ratios=(1.0, 0.5)))
    with pytest.raises(ConfigError, match="2 ratios for 12 layers"):
        generate(Profile("bert", generated.BERT_BASE, 8, pruning=pruning))


def test_what_a_machine_cannot_hold_or_convert_is_refused():
    llama = generate(Profile("llama", generated.LLAMA_1B, 1020, 32, encoder=False))
    with pytest.raises(ConfigError, match=r"1052 tokens .* holds 1024"):
        llama.check(MACHINE)
    with pytest.raises(ConfigError, match=r"set accelerator\.datapath_bits = 16"):
        generate(Profile("b", generated.BERT_BASE, 8, quantization=QuantizationConfig(12, 4))).check(MACHINE)
    generate(Profile("b", generated.BERT_BASE, 8, quantization=QuantizationConfig(8, 4))).check(MACHINE)


def test_a_shipped_trace_becomes_a_workload():
    trace = read(TRACES / "minilm-film-station.npz").sequence("film")
    pruning = PruningConfig(tokens=KeepSchedule(average=0.5, start=0.7), value_ratio=0.4)
    config = Config(MACHINE, pruning, QuantizationConfig(8, 4, 0.1))
    works = list(trace_workload(trace, config).layers())
    assert [w.keys for w in works] == list(pruning.tokens.layer_counts(6, 23, 0.15))
    assert all(w.exact and w.kept_mask is not None and w.value_passes is not None for w in works)
    selection = works[1].token_selection
    assert selection is not None
    assert selection.passes is not None
    assert selection.passes[0] == selection.candidates == 22
    assert next(trace_workload(trace, config, with_passes=False).layers()).value_passes is None


@pytest.mark.parametrize("path", [TRACES / "gpt2-lighthouse.csv", RELEASED], ids=lambda p: p.stem)
def test_a_recorded_workload_counts_what_its_file_says(path):
    if not path.exists():
        pytest.skip("the released workload is not beside the checkout")
    recorded = read_workload(path)
    works = list(recorded_workload(recorded, MACHINE, "recorded").layers())
    assert sum(len(w.heads) for w in works) == recorded.rows
    for layer, counts in enumerate(recorded_layers(recorded)):
        here = [w for w in works if w.layer == layer]
        total = sum((payload(w) for w in here[1:]), payload(here[0]))
        assert total == counts.payload
        assert sum(int(w.flat.sum()) for w in here) == counts.flat_rows
        assert np.mean([w.keys for w in here]) == pytest.approx(counts.tokens)


def test_a_run_and_its_recording_are_the_same_counts():
    """`gpt2-lighthouse.csv` was recorded from the trace of that name, with the settings that its page states."""
    pruning = PruningConfig(
        tokens=KeepSchedule(average=0.5, start=0.7), heads=KeepSchedule(average=0.75, start=0.875), value_ratio=0.4
    )
    config = Config(MACHINE, pruning, QuantizationConfig(6, 4, 0.1))
    trace = read(TRACES / "gpt2-lighthouse.npz").sequences[0]
    run = (w for w in trace_workload(trace, config, with_passes=False).layers() if w.step)
    for ours, theirs in zip(run, read_recorded(TRACES / "gpt2-lighthouse.csv", MACHINE).layers(), strict=True):
        assert (ours.step, ours.layer, ours.tokens, ours.keys) == (
            theirs.step,
            theirs.layer,
            theirs.tokens,
            theirs.keys,
        )
        for name in ("heads", "kept", "flat", "row_ids"):
            assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name
        assert payload(ours) == payload(theirs)
        assert (ours.token_selection is None) == (theirs.token_selection is None)
        if ours.token_selection is not None:
            both = [(s.candidates, s.kept) for s in (ours.token_selection, theirs.token_selection)]
            assert both[0] == both[1]


@pytest.mark.parametrize(
    ("line", "column", "value", "message"),
    [
        (7, "key_fetch_num", "3", "line 7, column key_fetch_num: is 3; the heads of a layer see the same keys"),
        (2, "key_fetch_num", "-7", r"line 2, column key_fetch_num"),
        (5, "quant_key_bit", "7", r"line 5, column quant_key_bit: is 7; the machine converts \(4, 6, 8, 10, 12\)"),
        (4, "quant_key_bit", "10", r"line 4, column auto_requant_incre: .* wider than the 12-bit datapath"),
        (4, "auto_requant_incre", "2", r"line 4, column auto_requant_incre: is 2; the machine converts 4 bits more"),
        (4, "quant_key_bit", "8", r"line 4, column quant_key_bit: is 8; the heads of a layer have the same bits"),
        (6, "quant_value_bit", "8", r"line 6, column quant_value_bit: is 8; K and V have the same bits"),
        (9, "head_id", "2000000000", r"line 9, column head_id: is 2000000000; this machine takes 64 heads, 0 to 63"),
        (3, "quant_query_bit", "8", r"line \d+, column quant_query_bit: .*the heads of a layer have the same bits"),
    ],
)
def test_a_broken_recording_is_an_error_with_file_line_and_column(tmp_path, line, column, value, message):
    path = tmp_path / "broken.csv"
    lines = (TRACES / "gpt2-lighthouse.csv").read_text().splitlines()
    names = lines[0].split(",")
    cells = lines[line - 1].split(",")
    cells[names.index(column)] = value
    if column == "key_fetch_num":
        cells[names.index("value_fetch_num")] = "1"
    lines[line - 1] = ",".join(cells)
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(TraceError, match=message) as caught:
        read_recorded(path, MACHINE)
    assert str(caught.value).startswith(str(path))


def test_a_recording_that_lost_the_row_of_a_head_is_refused(tmp_path):
    """Unless it is the last layer of the head: a pruned head has no row."""
    lines = (TRACES / "gpt2-lighthouse.csv").read_text().splitlines()
    heads_of = {}
    for number, line in enumerate(lines[1:-1]):
        iteration, layer, head = map(int, line.split(",")[:3])
        heads_of.setdefault((iteration, layer), []).append((head, number + 1))
    refused = 0
    for (iteration, layer), heads in heads_of.items():
        head, number = heads[len(heads) // 2]
        following = dict(heads_of.get((iteration, layer + 1), []))
        if iteration > 1:
            continue
        path = tmp_path / "broken.csv"
        path.write_text("\n".join(lines[:number] + lines[number + 1 :]) + "\n")
        if head not in following:
            assert sum(len(work.heads) for work in read_recorded(path, MACHINE).layers()) == len(lines) - 3
            continue
        refused += 1
        where = rf"line {following[head]}, column head_id: is {head}, which did not run in layer {layer} of this token"
        with pytest.raises(TraceError, match=where):
            read_recorded(path, MACHINE)
    assert refused >= 4


def test_more_heads_than_the_machine_takes_are_refused():
    with pytest.raises(WorkloadError, match="wide: 65 heads of a layer; the machine takes 64"):
        generate(Profile("wide", ModelShape("wide", 1, 65, 65, 64), 8)).check(MACHINE)


def test_a_recording_longer_than_the_machine_is_refused(tmp_path):
    path = tmp_path / "long.csv"
    shutil.copy(TRACES / "gpt2-lighthouse.csv", path)
    small = replace(MACHINE, context_keys=256)
    with pytest.raises(TraceError, match=r"line 2, column key_fetch_num: is 257; this machine holds 256 keys"):
        read_recorded(path, small)
