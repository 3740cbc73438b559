"""Payloads of AIS messages to fixes and static data: six-bit armour to bits to fields, whole batches at once.

Places, lengths and scales of the fields are those of ITU-R M.1371-5 annex 8. Sixty bits go into one integer, so that a
field is a shift and a mask over the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]

WORD_BITS = 60
WORD_CHARS = WORD_BITS // 6

BAD_CHAR = 64
"""What ``SIX_BITS`` gives for a character that is none of the armour."""

SIX_BITS: Final = np.full(256, BAD_CHAR, np.uint8)
"""Character of the armour -> its six bits (IEC 61162-1: '0' to 'W' are 0-39, '`' to 'w' are 40-63)."""
SIX_BITS[48:88] = np.arange(40)
SIX_BITS[96:120] = np.arange(40, 64)


class Field(NamedTuple):
    """Where a number stands in a payload."""

    start: int
    length: int
    signed: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """One kind of message.

    Attributes:
        fields: name -> place.
        least_bits: a shorter payload is refused; static data may lack the end of their last text.
        texts: name -> (first bit, characters).
    """

    fields: Mapping[str, Field]
    least_bits: int
    texts: Mapping[str, tuple[int, int]]


MMSI = Field(8, 30)


def _layout(least_bits: int, /, **fields: Field) -> Layout:
    return Layout({"mmsi": MMSI, **fields}, least_bits, {})


def _static(least_bits: int, texts: Mapping[str, tuple[int, int]], /, **fields: Field) -> Layout:
    return replace(_layout(least_bits, **fields), texts=texts)


def _box(start: int) -> dict[str, Field]:
    """Distances from the antenna to the ends and sides of a ship, metres."""
    return {
        "bow": Field(start, 9),
        "stern": Field(start + 9, 9),
        "port": Field(start + 18, 6),
        "starboard": Field(start + 24, 6),
    }


CLASS_A = _layout(
    143,
    status=Field(38, 4),
    rot=Field(42, 8, True),
    sog=Field(50, 10),
    lon=Field(61, 28, True),
    lat=Field(89, 27, True),
    cog=Field(116, 12),
    heading=Field(128, 9),
    second=Field(137, 6),
)
BASE = _layout(
    134,
    year=Field(38, 14),
    month=Field(52, 4),
    day=Field(56, 5),
    hour=Field(61, 5),
    minute=Field(66, 6),
    utc_second=Field(72, 6),
    lon=Field(79, 28, True),
    lat=Field(107, 27, True),
)
AIRCRAFT = _layout(
    134,
    sog_whole=Field(50, 10),
    lon=Field(61, 28, True),
    lat=Field(89, 27, True),
    cog=Field(116, 12),
    second=Field(128, 6),
)
_CLASS_B = {
    "sog": Field(46, 10),
    "lon": Field(57, 28, True),
    "lat": Field(85, 27, True),
    "cog": Field(112, 12),
    "heading": Field(124, 9),
    "second": Field(133, 6),
}
CLASS_B = _layout(139, **_CLASS_B)
CLASS_B_LONG = _layout(301, **_CLASS_B)
AID = _layout(259, lon=Field(164, 28, True), lat=Field(192, 27, True), second=Field(253, 6))
LONG_RANGE = _layout(
    94,
    status=Field(40, 4),
    lon_tenths=Field(44, 18, True),
    lat_tenths=Field(62, 17, True),
    sog_whole=Field(79, 6),
    cog_whole=Field(85, 9),
)

POSITIONS: Final[Mapping[int, Layout]] = {
    **dict.fromkeys((1, 2, 3), CLASS_A),
    **dict.fromkeys((4, 11), BASE),
    9: AIRCRAFT,
    18: CLASS_B,
    19: CLASS_B_LONG,
    21: AID,
    27: LONG_RANGE,
}
"""Type of message -> layout, of those that carry a position: 4 and 11 also carry a date and time."""

VOYAGE = _static(
    302,
    {"callsign": (70, 7), "name": (112, 20), "destination": (302, 20)},
    imo=Field(40, 30),
    ship_type=Field(232, 8),
    draught=Field(294, 8),
    **_box(240),
)
CLASS_B_STATIC = _static(301, {"name": (143, 20)}, ship_type=Field(263, 8), **_box(271))
PART_A = _static(160, {"name": (40, 20)})
PART_B = _static(162, {"callsign": (90, 7)}, ship_type=Field(40, 8), **_box(132))

STATICS: Final[Mapping[int, Layout]] = {5: VOYAGE, 19: CLASS_B_STATIC, 240: PART_A, 241: PART_B}
"""As ``POSITIONS``, of those with static data; 240 and 241 are the parts A and B of type 24."""

PART_FIELD = Field(38, 2)
"""Which part of type 24: 0 is A, 1 is B."""

HEAD_CHARS = 7
"""Characters that hold the type, the MMSI and the part."""


@dataclass(frozen=True, slots=True)
class Payloads:
    """A batch of whole payloads.

    Attributes:
        text: (bytes,) the characters of all payloads and whatever stands between them.
        start: (n,) index into ``text``.
        chars: (n,) characters.
        fill: (n,) bits at the end, 0-5, that carry nothing.
        row: (n,) number of the line.
        stamp_us: (n,) time of the line in microseconds since 1970, ``geodiff.vessels.nmea_stamps.NO_TIME`` without.
    """

    text: Bytes
    start: Ints
    chars: Ints
    fill: Ints
    row: Ints
    stamp_us: Ints

    def __len__(self) -> int:
        return self.start.size

    def pick(self, which: Bools | Ints) -> Payloads:
        """Those that ``which`` selects."""
        return Payloads(self.text, *(a[which] for a in (self.start, self.chars, self.fill, self.row, self.stamp_us)))

    @property
    def bits(self) -> Ints:
        """(n,) length without the fill bits."""
        return self.chars * 6 - self.fill

    @property
    def types(self) -> Ints:
        """(n,) type of message, 0-63; 64 where the first character is none of the armour."""
        return SIX_BITS[self.text[self.start]].astype(np.int64)

    def words(self, chars: int) -> Ints:
        """(word, n): the first ``chars`` characters, ten to an integer; what lies beyond a payload's end is zero."""
        count = -(-chars // WORD_CHARS)
        words = np.zeros((count, len(self)), np.int64)
        short = bool((self.chars < chars).any())
        for place in range(count * WORD_CHARS):
            word = words[place // WORD_CHARS]
            word <<= 6
            if place < chars:
                six = SIX_BITS[self.text.take(self.start + place, mode="clip")]
                word |= np.where(self.chars > place, six, 0) if short else six
        return words


def extract(words: Ints, field: Field) -> Ints:
    """(n,) the number at ``field`` of each payload; ``words`` as ``Payloads.words`` gives them."""
    first, offset = divmod(field.start, WORD_BITS)
    beyond = offset + field.length - WORD_BITS
    if beyond <= 0:
        value: Ints = words[first] >> -beyond
    else:
        value = (words[first] << beyond) | (words[first + 1] >> (WORD_BITS - beyond))
    value &= (1 << field.length) - 1
    if field.signed:
        value -= (value >> (field.length - 1)) << field.length
    return value


def read_fields(payloads: Payloads, layout: Layout) -> dict[str, Ints]:
    """The fields of payloads of one layout, raw."""
    last = max(field.start + field.length for field in layout.fields.values())
    words = payloads.words(-(-last // 6))
    return {name: extract(words, field) for name, field in layout.fields.items()}


def read_text(payloads: Payloads, start: int, chars: int) -> npt.NDArray[np.str_]:
    """(n,) text of six-bit characters from bit ``start``, up to the first '@', without blanks around it."""
    words = payloads.words(-(-(start + 6 * chars) // 6))
    codes = np.stack([extract(words, Field(start + 6 * place, 6)) for place in range(chars)], axis=1)
    codes += np.where(codes < 32, 64, 0)
    codes[np.logical_or.accumulate(codes == ord("@"), axis=1)] = 0
    letters = np.ascontiguousarray(codes.astype(np.uint8)).view(f"S{chars}")[:, 0]
    return np.strings.strip(letters.astype(f"U{chars}"))
