import json
import math
from pathlib import Path

import numpy as np
import pytest

from models.config import FRONT_HEADS, FRONT_TOKENS, AcceleratorConfig
from models.transaction.benchmarks import benchmark, benchmark_names, table
from models.transaction.counting import dense, payload
from models.transaction.generated import generate
from models.transaction.workload import WorkloadError
from traces.workload import read_workload

SHARED = Path(__file__).resolve().parents[3] / "shared"
FAMILIES = ("bert", "gpt2")


def keep_of(name):
    profile = benchmark(name)
    return profile.pruning.tokens.layer_ratios(profile.model.layers, FRONT_TOKENS)


def test_there_are_thirty_and_each_runs_on_the_published_machine():
    assert len(set(benchmark_names())) == 30
    for name in benchmark_names():
        profile = benchmark(name)
        workload = generate(profile)
        workload.check(AcceleratorConfig())
        first = next(workload.layers())
        assert (first.tokens, first.keys) in {(profile.tokens, profile.tokens), (993, math.floor(0.9 * 993))}


def test_names_and_published_numbers_are_those_of_the_paper():
    path = SHARED / "spec" / "paper.json"
    if not path.exists():
        pytest.skip("the published figures are not beside the checkout")
    paper = json.loads(path.read_text())
    assert list(benchmark_names()) == paper["fig14"]["benchmark_order"]
    for name, shape in paper["eval_setup"]["models"]["value"].items():
        assert {k: table()["models"][name][k] for k in shape} == shape
    assert benchmark("gpt2-small-ptb").tokens == paper["eval_setup"]["gpt2_initial_len"]["value"]
    assert benchmark("gpt2-small-ptb").generated == paper["eval_setup"]["gpt2_generated_tokens"]["value"]
    assert table()["gpt2"]["flat_share"]["value"] == paper["headline"]["fraction_inputs_needing_lsb"]["value"]


def test_every_number_says_where_it_is_from():
    for entry in (*table()["benchmark"], *(table()[f][s] for f in FAMILIES for s in table()[f])):
        assert entry["provenance"] in {"published", "measured", "assumed"}
        assert len(entry["reason"]) > 20
    assert all(m["provenance"] == "published" for m in table()["models"].values())


def test_another_name_is_refused_with_the_closest():
    with pytest.raises(WorkloadError, match="did you mean 'bert-base-squad-v1'"):
        benchmark("bert-base-squadv1")


@pytest.mark.parametrize("name", ["bert-base-cola", "bert-large-cola"])
def test_bert_keeps_what_the_printed_means_leave_for_it(name):
    """(1.9^30 / 3.8^8)^(1/22) = 1.48 for tokens, 1.1 for heads, as the table of assumptions says."""
    left = (1.9**30 / 3.8**8) ** (1 / 22)
    assert 1 / np.mean(np.square(keep_of(name))) == pytest.approx(left, rel=0.005)
    profile = benchmark(name)
    assert 1 / np.mean(profile.pruning.heads.layer_ratios(profile.model.layers, FRONT_HEADS)) == pytest.approx(
        1.1, abs=0.01
    )


def test_the_assumed_bits_of_bert_are_the_nearest_to_the_printed_reduction():
    left = (1.9**30 / 3.8**8) ** (1 / 22)
    gpt2 = 3.8 * 1.1 * 5.13

    def all_thirty(bits):
        return ((left * 1.1 * 32 / bits) ** 22 * gpt2**8) ** (1 / 30)

    assert min((4, 8, 12), key=lambda bits: abs(all_thirty(bits) - 10.0)) == table()["bert"]["bits"]["msb_bits"]
    assert all_thirty(8) == pytest.approx(8.9, abs=0.05)
    assert all_thirty(12) == pytest.approx(6.6, abs=0.05)


@pytest.mark.parametrize("name", ["gpt2-small-wikitext2", "gpt2-medium-1bw"])
def test_gpt2_keeps_a_quarter_of_the_tokens_and_fetches_a_fraction_of_the_bytes(name):
    assert 1 / np.mean(keep_of(name)) == pytest.approx(4.0, abs=0.01)
    works = list(generate(benchmark(name)).layers())
    read = sum(payload(w).read_bits for w in works)
    assert sum(dense(w, 32).read_bits for w in works) / read > 3.8 * 32 / 10
    assert sum(w.flat.sum() for w in works) == pytest.approx(0.059 * sum(w.flat.size for w in works), rel=0.01)


def test_the_gpt2_schedule_is_that_of_the_released_workload():
    path = SHARED / "workloads" / "gpt2-small-wikitext2.csv"
    if not path.exists():
        pytest.skip("the released workload is not beside the checkout")
    recorded = read_workload(path)
    later = recorded.iteration > 0  # in its first step nothing is pruned yet
    assert later.any()
    keep = np.array(keep_of("gpt2-small-wikitext2"))[recorded.layer[later]]
    final = int(recorded.length.max())  # it counts from the length at the end, in every step
    assert np.array_equal(recorded.keys[later], np.floor(keep * final))
    assert recorded.values[later] / recorded.keys[later] == pytest.approx(0.2, abs=0.005)
    assert recorded.requant.mean() == pytest.approx(0.070, abs=0.0005)
