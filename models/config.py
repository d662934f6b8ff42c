"""The machine, the pruning schedule and the quantization as frozen, validated values, in and out of TOML.

`AcceleratorConfig` holds every row of the architecture page's table, `PruningConfig` sections 2-4 and 12 of the
algorithm page, `QuantizationConfig` section 5; `Config` is the three together, the content of one TOML file. Whatever
is wrong, in a value or in a file, is a `ConfigError`. This module imports nothing of the project.
"""

import difflib
import math
import tomllib
import types
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import tomli_w

T = TypeVar("T")

DATAPATH_BITS = (12, 14, 16)
MSB_BITS = (4, 6, 8, 10, 12)
LSB_BITS = (0, 4)
FRONT_TOKENS = 0.15
FRONT_HEADS = 0.30
_INT_LIMIT = 2**31 - 1


class ConfigError(ValueError):
    """A configuration that cannot be read or cannot be built; the message says what, where and what would work."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def _nearest_power_of_two(value: int) -> int:
    return 1 << max(0, round(math.log2(max(1, value))))


@dataclass(frozen=True)
class AcceleratorConfig:
    """The size of the machine (architecture page, "Configurations"). The defaults are the published SpAtten.

    Raises:
        ConfigError: for a machine that cannot be built, with the reason and the nearest one that can.
    """

    clock_period_ps: int = 1000
    datapath_bits: int = 12
    qk_multipliers: int = 512
    pv_multipliers: int = 512
    native_head_dim: int = 64
    max_head_dim: int = 512
    context_keys: int = 1024
    key_sram_bytes: int = 196_608
    value_sram_bytes: int = 196_608
    softmax_lanes: int = 8
    softmax_fifo_rows: int = 128
    top_k_engines: int = 2
    top_k_lanes: int = 16
    top_k_fifo_rows: int = 64
    fetch_queues: int = 32
    address_queue_depth: int = 64
    address_queue_bytes: int = 8
    data_queue_depth: int = 64
    data_queue_bytes: int = 16
    hbm_channels: int = 16
    hbm_channel_bits: int = 128
    hbm_transfers_per_us: int = 2000

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            _require(
                type(value) is int and 0 < value <= _INT_LIMIT,
                f"accelerator.{f.name}: {value!r} must be a whole number from 1 to {_INT_LIMIT}",
            )
        for name in (
            *("qk_multipliers", "pv_multipliers", "native_head_dim", "max_head_dim", "softmax_lanes"),
            *("top_k_lanes", "fetch_queues", "hbm_channels", "hbm_channel_bits"),
        ):
            value = getattr(self, name)
            _require(
                value & (value - 1) == 0,
                f"accelerator.{name}: {value} is not a power of two, as lanes and their trees must be; "
                f"the nearest is {_nearest_power_of_two(value)}",
            )
        _require(
            self.datapath_bits in DATAPATH_BITS,
            f"accelerator.datapath_bits: {self.datapath_bits} is not one of {DATAPATH_BITS}",
        )
        _require(
            self.pv_multipliers == self.qk_multipliers,
            f"accelerator.pv_multipliers: {self.pv_multipliers} differs from qk_multipliers = {self.qk_multipliers}; "
            f"both arrays share the lanes of a key row: use {self.qk_multipliers} for both",
        )
        _require(
            self.native_head_dim <= self.max_head_dim <= self.qk_multipliers,
            f"accelerator.max_head_dim: {self.max_head_dim} does not divide the array of {self.qk_multipliers} "
            f"multipliers from native_head_dim = {self.native_head_dim} on; "
            f"use {self.native_head_dim if self.max_head_dim < self.native_head_dim else self.qk_multipliers}",
        )
        lanes = self.qk_multipliers // self.native_head_dim
        _require(
            self.softmax_lanes == lanes,
            f"accelerator.softmax_lanes: {self.softmax_lanes} lanes cannot take the {lanes} scores a cycle that "
            f"{self.qk_multipliers} multipliers give at D = {self.native_head_dim}; use {lanes}",
        )
        for name, sram_bytes in (
            ("key_sram_bytes", self.key_sram_bytes),
            ("value_sram_bytes", self.value_sram_bytes),
        ):
            row_bits = self.qk_multipliers * self.datapath_bits
            rows, rest = divmod(sram_bytes * 8, 2 * row_bits)
            _require(
                rows >= 1 and rest == 0,
                f"accelerator.{name}: {sram_bytes} bytes are not a whole number of double-buffered rows of "
                f"2 x {row_bits} bits; use {max(1, rows) * 2 * row_bits // 8}",
            )
            key_bits = 2 * self.datapath_bits * self.native_head_dim
            _require(
                sram_bytes * 8 >= self.context_keys * key_bits,
                f"accelerator.{name}: {sram_bytes} bytes hold {sram_bytes * 8 // key_bits} keys of "
                f"D = {self.native_head_dim} twice, fewer than context_keys = {self.context_keys}; "
                f"use {self.context_keys * key_bits // 8}",
            )
        for stage, rows, lanes in (
            ("softmax", self.softmax_fifo_rows, self.softmax_lanes),
            ("top_k", self.top_k_fifo_rows, self.top_k_lanes),
        ):
            _require(
                rows * lanes >= self.context_keys,
                f"accelerator.{stage}_fifo_rows: {rows} rows of {lanes} lanes hold fewer than context_keys = "
                f"{self.context_keys} items; use {-(-self.context_keys // lanes)}",
            )
        _require(
            self.top_k_engines in (1, 2),
            f"accelerator.top_k_engines: {self.top_k_engines} is not 1 (shared) or 2 (the published machine)",
        )
        _require(
            self.fetch_queues >= self.hbm_channels,
            f"accelerator.fetch_queues: {self.fetch_queues} queues cannot feed {self.hbm_channels} channels; "
            f"use {self.hbm_channels} or more",
        )

    @classmethod
    def preset(cls, name: str) -> "AcceleratorConfig":
        """The machine called `name`: `spatten`, `spatten-1-8` or `tiny` (small enough for tests).

        Raises:
            ConfigError: for another name; the message has the closest one.
        """
        require_choice(name, PRESETS, "preset")
        return _PRESETS[name]

    @property
    def hbm_bytes_per_s(self) -> int:
        """Peak DRAM bandwidth."""
        return self.hbm_channels * self.hbm_channel_bits // 8 * self.hbm_transfers_per_us * 1_000_000

    def lanes(self, head_dim: int) -> int:
        """P of the algorithm page: keys that one cycle of the array takes at head dimension `head_dim`."""
        return self.qk_multipliers // max(self.padded_head_dim(head_dim), self.native_head_dim)

    def padded_head_dim(self, head_dim: int) -> int:
        """Head dimension on chip: `native_head_dim` doubled until it holds `head_dim`.

        Raises:
            ConfigError: if the array cannot hold it.
        """
        _require(
            1 <= head_dim <= self.max_head_dim,
            f"head dimension {head_dim} does not fit this machine; it takes 1 to {self.max_head_dim}",
        )
        padded = self.native_head_dim
        while padded < head_dim:
            padded *= 2
        return padded

    def max_keys(self, head_dim: int) -> int:
        """Keys that one buffer of the Key SRAM (and of the Value SRAM) holds at head dimension `head_dim`."""
        bits = min(self.key_sram_bytes, self.value_sram_bytes) * 8 // 2
        return min(self.context_keys, bits // (self.datapath_bits * self.padded_head_dim(head_dim)))

    def check_sequence(self, head_dim: int, keys: int) -> None:
        """Refuse a sequence that the on-chip memories cannot hold.

        Raises:
            ConfigError: naming the longest that fits.
        """
        longest = self.max_keys(head_dim)
        _require(
            keys <= longest,
            f"a sequence of {keys} tokens at head dimension {head_dim} does not fit this machine; it holds {longest}",
        )


_PRESETS = {
    "spatten": AcceleratorConfig(),
    "spatten-1-8": AcceleratorConfig(
        qk_multipliers=64,
        pv_multipliers=64,
        max_head_dim=64,
        softmax_lanes=1,
        softmax_fifo_rows=1024,
        fetch_queues=4,
        hbm_channels=2,
    ),
    "tiny": AcceleratorConfig(
        qk_multipliers=32,
        pv_multipliers=32,
        native_head_dim=8,
        max_head_dim=32,
        context_keys=512,
        key_sram_bytes=12_288,
        value_sram_bytes=12_288,
        softmax_lanes=4,
        softmax_fifo_rows=128,
        top_k_lanes=4,
        top_k_fifo_rows=128,
        fetch_queues=4,
        address_queue_depth=8,
        data_queue_depth=8,
        hbm_channels=2,
    ),
}
PRESETS = tuple(_PRESETS)


@dataclass(frozen=True)
class KeepSchedule:
    """How many tokens or heads each layer keeps (section 2), in one of three forms.

    `ratios`: kept share per layer; `counts`: kept number per layer; or the published rule, `average` and `start`: the
    front layers keep all, over the rest the share goes linearly from `start` to `2 * average - start`. None of the
    three: everything is kept.
    """

    ratios: tuple[float, ...] | None = None
    counts: tuple[int, ...] | None = None
    average: float | None = None
    start: float | None = None

    def __post_init__(self) -> None:
        rule = self.average is not None or self.start is not None
        forms = [name for name, used in (("ratios", self.ratios), ("counts", self.counts)) if used is not None] + [
            "average and start"
        ] * rule
        _require(len(forms) <= 1, f"keep schedule: {' and '.join(forms)} exclude each other; give one of them")
        if rule:
            _require(
                self.average is not None and self.start is not None,
                "keep schedule: average and start go together (the published rule needs both); "
                f"for a constant share give both as {self.average if self.average is not None else self.start}",
            )
            average, start = cast(float, self.average), cast(float, self.start)
            _check_share(average, "keep schedule: average")
            _check_share(start, "keep schedule: start")
            end = 2 * average - start
            _require(
                0 < end <= 1,
                f"keep schedule: start {start} and average {average} end at {end:g}, outside (0, 1]; "
                f"with this average, start can be {max(0.0, 2 * average - 1):g} to {min(1.0, 2 * average):g}",
            )
        for ratio in self.ratios or ():
            _check_share(ratio, "keep schedule: a ratio")
        for count in self.counts or ():
            _require(
                type(count) is int and 1 <= count <= _INT_LIMIT,
                f"keep schedule: count {count!r} must be a whole number of at least 1",
            )
        _require(self.ratios != () and self.counts != (), "keep schedule: empty; give one value for each layer")

    def layer_counts(self, layers: int, length: int, front: float) -> tuple[int, ...]:
        """Count k_l for each of `layers` layers, of `length` tokens or heads: `max(1, floor(keep_l * length))`.

        `front` is the share of layers that the published rule leaves whole (`FRONT_TOKENS` or `FRONT_HEADS`).

        Raises:
            ConfigError: if the schedule was written for another number of layers.
        """
        if self.counts is not None:
            _require(
                len(self.counts) == layers,
                f"keep schedule: {len(self.counts)} counts for {layers} layers; give {layers}",
            )
            return tuple(min(count, length) for count in self.counts)
        return tuple(max(1, math.floor(keep * length)) for keep in self.layer_ratios(layers, front))

    def layer_ratios(self, layers: int, front: float) -> tuple[float, ...]:
        """Kept share of each of `layers` layers, for the forms that are shares."""
        if self.ratios is not None:
            _require(
                len(self.ratios) == layers,
                f"keep schedule: {len(self.ratios)} ratios for {layers} layers; give {layers}",
            )
            return self.ratios
        if self.average is None or self.start is None:
            return (1.0,) * layers
        whole = math.floor(front * layers + 0.5)
        rest = layers - whole
        if rest == 1:
            return (*(1.0,) * whole, self.average)
        step = 2 * (self.average - self.start) / (rest - 1) if rest else 0.0
        return (*(1.0,) * whole, *(self.start + step * i for i in range(rest)))


def _check_share(value: float, where: str) -> None:
    _require(0 < value <= 1, f"{where} of {value:g} is outside (0, 1]")


@dataclass(frozen=True)
class PruningConfig:
    """Cascade token and head pruning and local value pruning (sections 2-4, 12). The defaults keep everything.

    `protected_ids` come on top of the ones the algorithm protects (the first token of an encoder input unless
    `protect_first` is off, the current token of a decoder). `importance` and `selection` other than the defaults leave
    the published method.
    """

    tokens: KeepSchedule = field(default_factory=KeepSchedule)
    heads: KeepSchedule = field(default_factory=KeepSchedule)
    value_ratio: float = 1.0
    protect_first: bool = True
    protected_ids: tuple[int, ...] = ()
    scope: Literal["step", "sequence"] = "step"
    prune_prompt: bool = False
    rescale: bool = False
    importance: Literal["cumulative", "per_query"] = "cumulative"
    selection: Literal["importance", "random", "recent", "first_recent"] = "importance"
    selection_seed: int = 0
    selection_first: int = 4

    def __post_init__(self) -> None:
        _check_share(self.value_ratio, "pruning.value_ratio")
        for name, options in _literals(PruningConfig).items():
            require_choice(getattr(self, name), options, f"pruning.{name}")
        for name in ("selection_seed", "selection_first"):
            value = getattr(self, name)
            _require(0 <= value <= _INT_LIMIT, f"pruning.{name}: {value} is outside 0 to {_INT_LIMIT}")
        _require(
            all(type(i) is int and 0 <= i <= _INT_LIMIT for i in self.protected_ids)
            and list(self.protected_ids) == sorted(set(self.protected_ids)),
            f"pruning.protected_ids: {list(self.protected_ids)} must be rising token ids from 0 on; "
            f"use {sorted({i for i in self.protected_ids if type(i) is int and i >= 0})}",
        )

    @property
    def value_ratio16(self) -> int:
        """`ratio16` of section 4."""
        return math.ceil(65536 * self.value_ratio)

    @property
    def prunes_values(self) -> bool:
        """Rows keep not all of the values that they see."""
        return self.value_ratio16 < 1 << 16


@dataclass(frozen=True)
class QuantizationConfig:
    """Bits of K and V in DRAM, `msb_bits + lsb_bits`, and the threshold of progressive quantization (section 5)."""

    msb_bits: int = 12
    lsb_bits: int = 0
    threshold: float = 0.0

    def __post_init__(self) -> None:
        _require(self.msb_bits in MSB_BITS, f"quantization.msb_bits: {self.msb_bits} is not one of {MSB_BITS}")
        _require(
            self.lsb_bits in LSB_BITS,
            f"quantization.lsb_bits: {self.lsb_bits} is not 0 (static) or 4 (progressive)",
        )
        _require(
            0 <= self.threshold <= 1,
            f"quantization.threshold: {self.threshold:g} is not a probability from 0 to 1",
        )
        _require(
            self.lsb_bits > 0 or self.threshold == 0,
            f"quantization.threshold: {self.threshold:g} needs LSBs to fetch, and lsb_bits is 0; "
            "set lsb_bits = 4, or threshold = 0",
        )

    @property
    def bits(self) -> int:
        """B of section 5: all bits of a K or V element in DRAM."""
        return self.msb_bits + self.lsb_bits

    @property
    def threshold12(self) -> int:
        """The threshold in units of a 12-bit probability, rounded half to even."""
        return round(4096 * self.threshold)

    def check_fits(self, datapath_bits: int) -> None:
        """Refuse elements wider than a datapath of `datapath_bits`.

        Raises:
            ConfigError: naming the datapath width that is needed.
        """
        _require(
            self.bits <= datapath_bits,
            f"quantization: {self.msb_bits}+{self.lsb_bits} = {self.bits} bits are wider than the "
            f"{datapath_bits}-bit datapath; set accelerator.datapath_bits = "
            f"{next((w for w in DATAPATH_BITS if w >= self.bits), DATAPATH_BITS[-1])}",
        )


@dataclass(frozen=True)
class Config:
    """Everything one run needs: the machine, what it prunes, how it quantizes."""

    accelerator: AcceleratorConfig = field(default_factory=AcceleratorConfig)
    pruning: PruningConfig = field(default_factory=PruningConfig)
    quantization: QuantizationConfig = field(default_factory=QuantizationConfig)

    def __post_init__(self) -> None:
        self.quantization.check_fits(self.accelerator.datapath_bits)

    def to_toml(self) -> str:
        """The configuration as TOML, every value written out."""
        return tomli_w.dumps(to_mapping(self))

    @classmethod
    def from_toml(cls, text: str, source: str = "configuration") -> Self:
        """The configuration written in `text`; what it leaves out keeps its default.

        Raises:
            ConfigError: for text that is not TOML, an unknown key or a value that cannot be.
        """
        try:
            data = tomllib.loads(text)
        except RecursionError:
            raise ConfigError(f"{source}: nested too deeply; a configuration needs three levels") from None
        except ValueError as error:
            raise ConfigError(f"{source}: not TOML: {error}") from None
        return from_mapping(cls, data, source)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The configuration in the TOML file at `path`.

        Raises:
            ConfigError: as `from_toml`, and if the file cannot be read.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: not UTF-8 text at byte {error.start}") from None
        return cls.from_toml(text, str(path))


def to_mapping(value: Any) -> dict[str, Any]:
    """A configuration dataclass as nested plain values; `None` is left out."""
    result: dict[str, Any] = {}
    for f in fields(value):
        item = getattr(value, f.name)
        if is_dataclass(item):
            result[f.name] = to_mapping(item)
        elif item is not None:
            result[f.name] = list(item) if isinstance(item, tuple) else item
    return result


def from_mapping(cls: type[T], data: Any, where: str) -> T:
    """Build the configuration dataclass `cls` from nested plain values, strictly.

    Raises:
        ConfigError: for an unknown key, a value of the wrong type, or a combination that `cls` refuses.
    """
    _require(isinstance(data, dict), f"{where}: expected a table, found {_shown(data)}")
    hints = get_type_hints(cls)
    for key in data:
        require_choice(key, tuple(hints), f"{where}: unknown key")
    arguments = {key: _convert(hints[key], item, f"{where}: {key}") for key, item in data.items()}
    try:
        return cls(**arguments)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}" if not str(error).startswith(where) else str(error)) from None


def _convert(hint: Any, item: Any, where: str) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(option for option in get_args(hint) if option is not type(None))
    if is_dataclass(hint):
        return from_mapping(cast(type[Any], hint), item, where)
    if get_origin(hint) is tuple:
        _require(isinstance(item, list), f"{where}: expected a list, found {_shown(item)}")
        return tuple(_convert(get_args(hint)[0], entry, f"{where}[{i}]") for i, entry in enumerate(item))
    if get_origin(hint) is Literal:
        require_choice(item, get_args(hint), where)
        return item
    if hint is float:
        _require(type(item) in (int, float), f"{where}: expected a number, found {_shown(item)}")
        _require(abs(item) <= _INT_LIMIT, f"{where}: expected a finite number of moderate size")
        return float(item)
    names = {int: "a whole number", bool: "true or false"}
    _require(type(item) is hint, f"{where}: expected {names[hint]}, found {_shown(item)}")
    if hint is int:
        _require(abs(item) <= _INT_LIMIT, f"{where}: expected a whole number within +-{_INT_LIMIT}")
    return item


def _shown(item: Any) -> str:
    if isinstance(item, str):
        return f"the text {item[:40]!r}"
    if isinstance(item, bool) or (isinstance(item, int | float) and abs(item) <= _INT_LIMIT):
        return str(item)
    return "a table" if isinstance(item, dict) else f"a {type(item).__name__}"


def _literals(cls: type) -> dict[str, tuple[Any, ...]]:
    return {name: get_args(hint) for name, hint in get_type_hints(cls).items() if get_origin(hint) is Literal}


def require_choice(value: Any, options: tuple[Any, ...], where: str) -> None:
    """Refuse a value that is not one of `options`.

    Raises:
        ConfigError: saying `where`, and the closest option.
    """
    if value in options:
        return
    close = difflib.get_close_matches(str(value)[:80] if isinstance(value, str) else "", options, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ConfigError(f"{where}: {_shown(value)} is not known; {hint}there are {', '.join(map(str, options))}")
