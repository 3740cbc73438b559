"""NMEA sentences made for tests, from messages whose content is known."""

from __future__ import annotations

from functools import reduce
from operator import xor
from typing import Any

from pyais.encode import encode_dict


def checksum(text: str) -> str:
    """Two hexadecimal digits: exclusive or of the characters (IEC 61162-1)."""
    return f"{reduce(xor, text.encode('latin-1'), 0):02X}"


def sentence(
    payload: str,
    *,
    fill: int = 0,
    parts: tuple[int, int] = (1, 1),
    sequence: str = "",
    channel: str = "A",
    talker: str = "AIVDM",
) -> str:
    """One sentence.

    Args:
        payload: characters of the armour.
        fill: bits at its end that carry nothing.
        parts: which part of how many.
        sequence: what the parts of a message share.
        channel: of the radio.
        talker: and kind, such as ``BSVDM`` or ``AIVDO``.
    """
    part, count = parts
    body = f"{talker},{count},{part},{sequence},{channel},{payload},{fill}"
    return f"!{body}*{checksum(body)}"


def message(*, sequence: int = 1, channel: str = "A", talker: str = "AIVDM", **fields: Any) -> list[str]:
    """The sentences of a message; ``fields`` as pyais names them, ``msg_type`` and ``mmsi`` among them."""
    made = encode_dict(fields, talker_id=talker[:2], sentence_type=talker[2:], radio_channel=channel, seq_id=sequence)
    return [line for line in made if line]


def position(
    mmsi: int = 244_660_274,
    lon: float = 5.7,
    lat: float = 52.8,
    *,
    msg_type: int = 1,
    second: int = 30,
    **fields: Any,
) -> str:
    """A position report of one sentence."""
    if msg_type != 27:
        fields["second"] = second
    return message(msg_type=msg_type, mmsi=mmsi, lon=lon, lat=lat, **fields)[0]


def tagged(line: str, **fields: object) -> str:
    r"""The sentence with a tag block, such as ``c=1700000000, s="station"``."""
    body = ",".join(f"{name}:{value}" for name, value in fields.items())
    return f"\\{body}*{checksum(body)}\\{line}"
