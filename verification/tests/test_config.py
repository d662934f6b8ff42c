import math
import string
from contextlib import suppress
from dataclasses import replace

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from models.config import (
    FRONT_HEADS,
    FRONT_TOKENS,
    LSB_BITS,
    MSB_BITS,
    PRESETS,
    AcceleratorConfig,
    Config,
    ConfigError,
    KeepSchedule,
    PruningConfig,
    QuantizationConfig,
    from_mapping,
    to_mapping,
)

shares = st.floats(0.01, 1.0)


@st.composite
def keep_schedules(draw):
    form = draw(st.sampled_from(["all", "ratios", "counts", "published"]))
    if form == "ratios":
        return KeepSchedule(ratios=tuple(draw(st.lists(shares, min_size=1, max_size=6))))
    if form == "counts":
        return KeepSchedule(counts=tuple(draw(st.lists(st.integers(1, 2000), min_size=1, max_size=6))))
    if form == "published":
        average = draw(shares)
        start = draw(st.floats(max(0.005, 2 * average - 1), min(1.0, 2 * average - 0.005)))
        return KeepSchedule(average=average, start=start)
    return KeepSchedule()


pruning_configs = st.builds(
    PruningConfig,
    tokens=keep_schedules(),
    heads=keep_schedules(),
    value_ratio=shares,
    protect_first=st.booleans(),
    protected_ids=st.sets(st.integers(0, 50)).map(lambda ids: tuple(sorted(ids))),
    scope=st.sampled_from(["step", "sequence"]),
    prune_prompt=st.booleans(),
    rescale=st.booleans(),
    importance=st.sampled_from(["cumulative", "per_query"]),
    selection=st.sampled_from(["importance", "random", "recent", "first_recent"]),
    selection_seed=st.integers(0, 2**31 - 1),
    selection_first=st.integers(0, 100),
)


@st.composite
def configs(draw):
    low = draw(st.sampled_from(LSB_BITS))
    quantization = QuantizationConfig(
        draw(st.sampled_from([m for m in MSB_BITS if m + low <= 12])), low, draw(st.floats(0, 1)) if low else 0.0
    )
    accelerator = AcceleratorConfig.preset(draw(st.sampled_from(PRESETS)))
    return Config(accelerator, draw(pruning_configs), quantization)


@given(configs())
def test_round_trip_through_toml(config):
    assert Config.from_toml(config.to_toml()) == config


@given(st.text(max_size=200) | st.text(string.printable, max_size=200))
def test_any_text_gives_a_configuration_or_our_error(text):
    with suppress(ConfigError):
        Config.from_toml(text)


toml_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.just(10**4000)
    | st.dates()
    | st.sampled_from(["spatten", 12, 0.5, -1, 0]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
known_keys = st.sampled_from(
    sorted({*to_mapping(Config()), *(k for t in to_mapping(Config()).values() for k in t), "ratios", "counts", "start"})
)


@given(st.dictionaries(known_keys, toml_values | st.dictionaries(known_keys, toml_values, max_size=3), max_size=3))
def test_any_mapping_gives_a_configuration_or_our_error(data):
    for cls in (Config, AcceleratorConfig, PruningConfig, QuantizationConfig, KeepSchedule):
        with suppress(ConfigError):
            from_mapping(cls, data, "test")


@pytest.mark.parametrize(
    "text", ["[" * 5000, "a = 0x" + "f" * 6000, "a = " + "9" * 6000, "\x00", "[accelerator]\n" * 2]
)
def test_hostile_text_gives_our_error(text):
    with pytest.raises(ConfigError, match="configuration"):
        Config.from_toml(text)


def test_a_file_that_is_missing_or_not_text_gives_our_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        Config.load(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"a = 1\xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        Config.load(tmp_path / "binary.toml")
    (tmp_path / "fine.toml").write_text(Config().to_toml())
    assert Config.load(tmp_path / "fine.toml") == Config()


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("[acelerator]", "did you mean 'accelerator'"),
        ("[accelerator]\nsoftmax_lane = 8", "did you mean 'softmax_lanes'"),
        ("[pruning]\nscope = 'sequnce'", "did you mean 'sequence'"),
        ("[pruning.tokens]\nratio = [1.0]", "did you mean 'ratios'"),
        ("[quantization]\nmsb_bits = '8'", "expected a whole number, found the text '8'"),
        ("[pruning]\nrescale = 1", "expected true or false, found 1"),
        ("[pruning]\nvalue_ratio = nan", "finite"),
        ("[pruning]\nprotected_ids = [3, 1]", r"use \[1, 3\]"),
        ("[pruning]\nprotected_ids = 3", "expected a list"),
        ("[pruning]\ntokens = 3", "expected a table"),
    ],
)
def test_a_mistake_in_a_file_is_named_with_what_would_work(text, hint):
    with pytest.raises(ConfigError, match=hint):
        Config.from_toml(text)


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"softmax_lanes": 6}, "not a power of two.*nearest is 8"),
        ({"softmax_lanes": 4}, "use 8"),
        ({"pv_multipliers": 256}, "use 512 for both"),
        ({"max_head_dim": 1024}, "does not divide the array.*use 512"),
        ({"max_head_dim": 32}, "use 64"),
        ({"key_sram_bytes": 1000}, "double-buffered rows.*use 1536"),
        ({"key_sram_bytes": 98304}, "fewer than context_keys.*use 196608"),
        ({"softmax_fifo_rows": 64}, "use 128"),
        ({"top_k_fifo_rows": 63}, "use 64"),
        ({"fetch_queues": 8}, "use 16 or more"),
        ({"datapath_bits": 13}, r"not one of \(12, 14, 16\)"),
        ({"top_k_engines": 3}, "2 \\(the published machine\\)"),
        ({"clock_period_ps": 0}, "whole number from 1"),
        ({"hbm_channels": True}, "whole number"),
    ],
)
def test_a_machine_that_cannot_be_built_is_refused_with_one_that_can(changes, hint):
    with pytest.raises(ConfigError, match=hint):
        replace(AcceleratorConfig(), **changes)


def test_the_presets_are_the_published_sizes():
    full, eighth = AcceleratorConfig.preset("spatten"), AcceleratorConfig.preset("spatten-1-8")
    assert full.hbm_bytes_per_s == 512_000_000_000
    assert eighth.hbm_bytes_per_s == 64_000_000_000
    assert [full.lanes(d) for d in (32, 64, 128, 256, 512)] == [8, 8, 4, 2, 1]
    assert [full.max_keys(d) for d in (32, 64, 80, 128, 512)] == [1024, 1024, 512, 512, 128]
    assert eighth.lanes(64) == 1
    assert full.key_sram_bytes == 2 * 1024 * 64 * 12 // 8
    with pytest.raises(ConfigError, match="did you mean 'spatten-1-8'"):
        AcceleratorConfig.preset("spatten-1/8")
    with pytest.raises(ConfigError, match="takes 1 to 512"):
        full.lanes(513)


@pytest.mark.parametrize("bits", [12, 14, 16])
def test_a_wide_datapath_needs_wider_srams(bits):
    sram = 2 * 1024 * 64 * bits // 8
    config = AcceleratorConfig(datapath_bits=bits, key_sram_bytes=sram, value_sram_bytes=sram)
    assert config.max_keys(64) == 1024


def test_elements_wider_than_the_datapath_name_the_width_needed():
    with pytest.raises(ConfigError, match=r"14 bits.*datapath_bits = 14"):
        Config(quantization=QuantizationConfig(10, 4, 0.1))
    with pytest.raises(ConfigError, match=r"16 bits.*datapath_bits = 16"):
        QuantizationConfig(12, 4, 0.1).check_fits(12)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ((5, 0, 0.0), "not one of"),
        ((8, 3, 0.1), "0 \\(static\\) or 4"),
        ((8, 4, 1.5), "probability"),
        ((8, 0, 0.1), "set lsb_bits = 4"),
    ],
)
def test_a_quantization_that_cannot_be_is_refused(arguments, hint):
    with pytest.raises(ConfigError, match=hint):
        QuantizationConfig(*arguments)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ({"ratios": (0.5,), "counts": (1,)}, "exclude each other"),
        ({"average": 0.5}, "go together"),
        ({"average": 0.4, "start": 0.9}, "start can be 0 to 0.8"),
        ({"ratios": (0.0,)}, "outside"),
        ({"counts": (0,)}, "at least 1"),
        ({"counts": ()}, "empty"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(arguments, hint):
    with pytest.raises(ConfigError, match=hint):
        KeepSchedule(**arguments)


def test_a_schedule_for_another_number_of_layers_is_refused():
    with pytest.raises(ConfigError, match="2 ratios for 3 layers"):
        KeepSchedule(ratios=(1.0, 0.5)).layer_counts(3, 10, 0.15)
    with pytest.raises(ConfigError, match="1 counts for 3 layers"):
        KeepSchedule(counts=(4,)).layer_counts(3, 10, 0.15)


def test_the_published_rule_on_twelve_layers():
    ratios = KeepSchedule(average=0.6, start=0.8).layer_ratios(12, FRONT_TOKENS)
    assert ratios[:2] == (1.0, 1.0)
    assert ratios[2:] == pytest.approx([0.8 - 0.4 * i / 9 for i in range(10)])
    assert KeepSchedule(average=0.6, start=0.8).layer_ratios(12, FRONT_HEADS)[:5] == (1.0, 1.0, 1.0, 1.0, 0.8)


@given(layers=st.integers(1, 48), length=st.integers(1, 2000), schedule=keep_schedules(), front=shares)
def test_counts_stay_within_the_length(layers, length, schedule, front):
    try:
        counts = schedule.layer_counts(layers, length, front)
    except ConfigError:
        assert layers != len(schedule.ratios or schedule.counts)
        return
    assert len(counts) == layers
    assert all(1 <= count <= length for count in counts)


@given(layers=st.integers(2, 48), average=shares, start=shares)
def test_the_published_rule_keeps_its_average(layers, average, start):
    end = 2 * average - start
    if not 0 < end <= 1:
        return
    ratios = KeepSchedule(average=average, start=start).layer_ratios(layers, FRONT_TOKENS)
    rest = ratios[math.floor(FRONT_TOKENS * layers + 0.5) :]
    assert sum(rest) / len(rest) == pytest.approx(average)


def test_toml_of_the_defaults_says_every_value():
    assert tomli_w.dumps(to_mapping(Config())).count("=") == sum(len(t) for t in to_mapping(Config()).values()) - 2
