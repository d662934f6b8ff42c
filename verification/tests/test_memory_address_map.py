"""Address map: the bits the specification fixes, a bijection, and errors that name the way out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.memory.address_map import FIELDS, AddressMap
from models.memory.hbm2 import Hbm2Memory
from models.memory.ports import locate
from models.memory.timing import Hbm2Timing

TIMING = Hbm2Timing.default()
FULL = AddressMap.default(16, TIMING)


@given(st.integers(0, FULL.capacity_bytes - 1))
def test_default_map_is_the_specification(address):
    where = FULL.decode(address)
    assert where.channel == (address >> 5) & 15
    assert where.pseudo_channel == (address >> 9) & 1


def test_capacity_is_that_of_the_organization():
    assert FULL.capacity_bytes == 16 * 2 * 16 * 32768 * 1024


def test_stream_rotates_over_bank_groups_and_opens_few_rows():
    where = FULL.decode(np.arange(4 * 32 * 32) * 32)
    mine = (where.channel == 3) & (where.pseudo_channel == 1)
    groups = where.bank_group[mine]
    assert (groups[1:] != groups[:-1]).all()
    assert set(zip(where.bank[mine].tolist(), where.row[mine].tolist(), strict=True)) == {(0, 0)}


@st.composite
def maps(draw):
    """Every way of cutting the fields' bits into segments, in any order, with and without the hash."""
    segments = [(name, FULL.bits_of(name)) for name in FIELDS if name not in ("row", "column")]
    low = draw(st.integers(0, 15))
    segments += [("row", low), ("row", 15 - low), ("column", 2), ("column", 3)]
    return AddressMap(tuple(draw(st.permutations(segments))), hash_bank=draw(st.booleans()))


@given(maps(), st.lists(st.integers(0, FULL.capacity_bytes // 32 - 1), min_size=1, max_size=20))
def test_encode_inverts_decode(address_map, bursts):
    addresses = np.array(bursts) * 32
    where = address_map.decode(addresses + 31)
    assert (address_map.encode(where) == addresses).all()
    for name in FIELDS:
        assert (address_map.field(addresses, name) == getattr(where, name)).all()
    for i, address in enumerate(addresses.tolist()):
        bank = where.bank_group[i] * 4 + where.bank[i]
        compiled = locate(address, address_map.layout(), 2)
        assert compiled == (where.channel[i], where.pseudo_channel[i], bank, where.row[i], where.column[i])


def test_hash_spreads_a_stride_over_all_banks():
    stride = np.arange(64) * (1 << 19)
    plain = FULL.decode(stride)
    hashed = AddressMap(FULL.segments, hash_bank=True).decode(stride)
    assert len(set(zip(plain.bank_group.tolist(), plain.bank.tolist(), strict=True))) == 1
    assert len(set(zip(hashed.bank_group.tolist(), hashed.bank.tolist(), strict=True))) == 16


@pytest.mark.parametrize("address", [-1, FULL.capacity_bytes])
def test_address_outside_is_refused(address):
    with pytest.raises(ValueError, match=f"{address:#x} is outside the memory"):
        FULL.decode([0, address])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AddressMap.default(12, TIMING), "channels = 12 is not a power of two; 8 works"),
        (lambda: AddressMap((("bankgroup", 2),)), "names 'bankgroup'; the fields are channel"),
        (lambda: AddressMap((("row", -1),)), "gives row -1 bits; 0 is the least"),
        (lambda: AddressMap(FULL.segments, burst_bytes=48), "burst_bytes = 48 is not a power of two"),
        (lambda: Hbm2Memory(8, address_map=FULL), "gives channel 4 bits, but there are 8; 3 bits work"),
        (
            lambda: Hbm2Memory(16, address_map=AddressMap(FULL.segments, burst_bytes=64)),
            "of 64 bytes, the memory of 32",
        ),
    ],
)
def test_map_that_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
