"""Opus packets in one blob: what goes in comes out, and nothing else is taken for a blob."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pommai.errors import AudioError
from pommai.packets import pack, unpack
from pommai.protocol import MAX_PACKET_BYTES

PACKETS = st.lists(st.binary(min_size=1, max_size=MAX_PACKET_BYTES), max_size=8)


def test_the_format_byte_for_byte() -> None:
    assert pack([b"abc", b"d"]) == b"\x00\x03abc\x00\x01d"
    assert pack([bytes(258)])[:2] == b"\x01\x02"
    assert pack([]) == b"" and unpack(b"") == ()


@given(PACKETS)
def test_what_was_packed_is_unpacked(packets: list[bytes]) -> None:
    assert unpack(pack(iter(packets))) == tuple(packets)


@given(st.binary(max_size=4000))
def test_a_blob_is_read_in_one_way_or_not_at_all(blob: bytes) -> None:
    try:
        packets = unpack(blob)
    except AudioError:
        return
    assert pack(packets) == blob


@given(PACKETS.filter(bool), st.data())
def test_a_blob_that_was_cut_short_never_gives_a_packet_that_was_not_there(
    packets: list[bytes], data: st.DataObject
) -> None:
    blob = pack(packets)
    cut = blob[: data.draw(st.integers(0, len(blob) - 1))]
    try:
        rest = unpack(cut)
    except AudioError:
        return
    assert rest == tuple(packets[: len(rest)])


@pytest.mark.parametrize(
    ("blob", "what"),
    [
        (b"\x00", "middle of a length"),
        (b"\x00\x01a\x00", "middle of a length"),
        (b"\x00\x02a", "middle of a packet"),
        (b"\x00\x00", "of 0 bytes"),
        (b"\x04\xfc" + bytes(1276), "of 1276 bytes"),
    ],
)
def test_a_bad_blob(blob: bytes, what: str) -> None:
    with pytest.raises(AudioError, match=what):
        unpack(blob)


@pytest.mark.parametrize("length", [0, MAX_PACKET_BYTES + 1, 70_000])
def test_a_packet_that_no_blob_takes(length: int) -> None:
    with pytest.raises(AudioError, match=f"of {length} bytes"):
        pack([b"a", bytes(length)])
