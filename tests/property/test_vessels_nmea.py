"""What holds for any recording: the same fields as pyais reads, the same table however it is cut, and no crash."""

from __future__ import annotations

import io
import math
from typing import Any

import polars as pl
import pyais
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geodiff.schema import GeodiffError
from geodiff.testing.nmea import checksum, message, position, sentence, tagged
from geodiff.vessels.nmea import NmeaReader
from geodiff.vessels.nmea_bytes import LineSource

ARMOUR = [chr(code) for code in (*range(48, 88), *range(96, 120))]
T0 = 1_700_000_000

# Type of message -> characters of its payload.
LENGTHS = {1: 28, 2: 28, 3: 28, 4: 28, 5: 71, 9: 28, 11: 28, 18: 28, 19: 52, 21: 46, 24: 28, 27: 16}
POSITIONS = sorted(set(LENGTHS) - {5, 24})

# Many messages at once in one reader: the batch is what is under test.
several = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def read(
    raw: bytes, *, block_bytes: int = 1 << 20, workers: int = 1, rows: int = 500_000
) -> tuple[pl.DataFrame, NmeaReader]:
    reader = NmeaReader(LineSource(io.BytesIO(raw), block_bytes), workers=workers)
    frames = list(reader.batches(rows=rows))
    return (pl.concat(frames) if frames else pl.DataFrame()), reader


def outcome(raw: bytes, *, rows: int = 500_000, **options: int) -> tuple[Any, NmeaReader]:
    """The table, or what the error says."""
    reader = NmeaReader(
        LineSource(io.BytesIO(raw), options.get("block_bytes", 1 << 20)), workers=options.get("workers", 1)
    )
    try:
        frames = list(reader.batches(rows=rows))
    except GeodiffError as error:
        return str(error), reader
    return pl.concat(frames) if frames else pl.DataFrame(), reader


def lines_of(lines: list[str]) -> bytes:
    return "".join(line + "\n" for line in lines).encode()


@st.composite
def payloads(draw: st.DrawFn, kinds: list[int]) -> str:
    """Any bits at all behind a type and an MMSI that exists."""
    kind = draw(st.sampled_from(kinds))
    mmsi = draw(st.integers(1, 999_999_999))
    head = f"{kind:06b}{draw(st.integers(0, 3)):02b}{mmsi:030b}"
    body = draw(st.lists(st.integers(0, 63), min_size=LENGTHS[kind] - 6, max_size=LENGTHS[kind] - 6))
    bits = head + draw(st.sampled_from(["0000", "1010", "0001"])) + "".join(f"{six:06b}" for six in body)
    return "".join(ARMOUR[int(bits[start : start + 6], 2)] for start in range(0, 6 * LENGTHS[kind], 6))


def expected(line: str) -> dict[str, Any] | None:
    """The fix as pyais reads the line and the standard's tables say; None for no position."""
    found = pyais.decode(line)
    told = found.asdict(enum_as_int=True)
    if abs(told["lon"]) > 180 or abs(told["lat"]) > 90 or told["lon"] == told["lat"] == 0:
        return None
    speed, course, heading, turn = (told.get(name) for name in ("speed", "course", "heading", "turn"))
    none = {1: 102.3, 2: 102.3, 3: 102.3, 18: 102.3, 19: 102.3, 27: 63, 9: 1023}.get(told["msg_type"])
    return {
        "vessel_id": told["mmsi"],
        "source": f"nmea:{told['msg_type']}",
        "lon_deg": told["lon"],
        "lat_deg": told["lat"],
        "sog_kn": None
        if speed is None or (speed in (none, 51.2) and told["msg_type"] not in (9, 27)) or speed == none
        else speed,
        "cog_deg": None if course is None or course >= 360 else course,
        "heading_deg": None if heading is None or heading >= 360 else heading,
        "rot_deg_min": None if turn is None or abs(turn) in (127, 128) else turn,
        "nav_status": None if told.get("status") in (None, 15) else told["status"],
    }


@several
@given(st.lists(payloads(POSITIONS), min_size=1, max_size=60))
def test_positions_are_those_of_pyais(texts: list[str]) -> None:
    lines = [sentence(text) for text in texts]
    wanted = [fix for fix in map(expected, lines) if fix is not None]
    fixes, reader = read(lines_of([tagged(line, c=T0) for line in lines]))
    assert reader.counts.kept == len(wanted)
    for fix, want in zip(fixes.iter_rows(named=True), wanted, strict=False):
        for name, value in want.items():
            if isinstance(value, float):
                # pyais rounds degrees to six places and rates of turn to whole degrees a minute.
                within = {"lon_deg": 5.1e-7, "lat_deg": 5.1e-7, "rot_deg_min": 0.51}.get(name, 1e-4)
                assert math.isclose(fix[name], value, abs_tol=within), (name, want, fix)
            else:
                assert fix[name] == value, (name, want, fix)


def expected_static(line: list[str]) -> dict[str, Any]:
    told = pyais.decode(*line).asdict(enum_as_int=True)
    length = told.get("to_bow", 0) + told.get("to_stern", 0)
    width = told.get("to_port", 0) + told.get("to_starboard", 0)
    imo, kind, draught = told.get("imo", 0), told.get("ship_type", 0), told.get("draught", 0)
    return {
        "name": told.get("shipname") or None,
        "callsign": told.get("callsign") or None,
        "destination": told.get("destination") or None,
        "length_m": length or None,
        "width_m": width or None,
        "imo": imo if 1_000_000 <= imo <= 9_999_999 else None,
        "ship_type": kind if 0 < kind < 100 else None,
        "draught_m": pytest.approx(draught) if draught else None,
    }


texts20 = st.text(alphabet="ABCXYZ 0123456789-/.", max_size=20)
sizes = {"to_bow": 511, "to_stern": 511, "to_port": 63, "to_starboard": 63}


@st.composite
def ships(draw: st.DrawFn) -> dict[str, Any]:
    """What a ship may say of itself in message 5."""
    made: dict[str, Any] = {name: draw(st.integers(0, most)) for name, most in sizes.items()}
    return made | {
        "shipname": draw(texts20),
        "callsign": draw(texts20)[:7],
        "destination": draw(texts20),
        "imo": draw(st.sampled_from([0, 12, 9_074_729, 1_000_000_000])),
        "ship_type": draw(st.integers(0, 99)),
        "draught": draw(st.integers(0, 255)) / 10,
    }


@several
@given(st.lists(ships(), min_size=1, max_size=20))
def test_static_data_are_those_of_pyais(said: list[dict[str, Any]]) -> None:
    made = [message(msg_type=5, mmsi=1 + number, sequence=number % 10, **ship) for number, ship in enumerate(said)]
    lines = [line for parts in made for line in parts] + [position(mmsi=1 + number) for number in range(len(said))]
    fixes, _ = read(lines_of([tagged(line, c=T0) for line in lines]))
    for fix, parts in zip(fixes.iter_rows(named=True), made, strict=True):
        want = expected_static(parts)
        assert {name: fix[name] for name in want} == want


@st.composite
def recordings(draw: st.DrawFn) -> bytes:
    """Lines of all kinds, some of them stamped, some broken."""
    lines: list[str] = []
    for number in range(draw(st.integers(1, 40))):
        kind = draw(st.sampled_from(["fix", "bare", "static", "apart", "station", "clock", "junk", "blank", "long"]))
        mmsi, second = draw(st.integers(1, 4)), draw(st.integers(0, 63))
        whole = message(msg_type=5, mmsi=mmsi, shipname=f"N{number}", sequence=number % 3)
        if kind == "fix":
            lines.append(
                tagged(position(mmsi=mmsi, second=second, heading=draw(st.sampled_from([1, 400]))), c=T0 + number)
            )
        elif kind == "bare":
            lines.append(position(mmsi=mmsi, second=second))
        elif kind == "static":
            lines += whole
        elif kind == "apart":
            lines.append(draw(st.sampled_from(whole)))
        elif kind == "station":
            minute, shift = draw(st.sampled_from([13, 14, 40])), {"second": second % 60}
            when = {"year": 2023, "month": 11, "day": 14, "hour": 22, "minute": minute} | shift
            lines += message(msg_type=4, mmsi=9, lon=1.0, lat=1.0, **when)
        elif kind == "clock":
            body = "PGHP,1,2023,11,14,22,13,20,250,219,,2190047,1,00"
            lines.append(f"${body}*{checksum(body)}")
        elif kind == "long":
            lines.append("z" * draw(st.sampled_from([1_000, 1_100, 5_000])))
        else:
            lines.append("" if kind == "blank" else draw(st.sampled_from(["nonsense", position()[:30], "!AIVDM,,"])))
    return lines_of(lines)


@several
@given(recordings(), st.integers(30, 3_000), st.integers(1, 3), st.integers(1, 50))
def test_blocks_workers_and_batches_change_nothing(raw: bytes, block_bytes: int, workers: int, rows: int) -> None:
    whole, one = outcome(raw)
    cut, other = outcome(raw, block_bytes=block_bytes, workers=workers, rows=rows)
    assert type(cut) is type(whole)
    assert cut == whole if isinstance(whole, str) else cut.equals(whole)
    assert other.counts == one.counts
    assert other.skipped == one.skipped
    assert one.counts.read == one.counts.kept + sum(one.counts.refused.values()) + sum(one.skipped.values())


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A recording with bytes changed, taken out, put in, or cut off."""
    raw = bytearray(draw(recordings()))
    for _ in range(draw(st.integers(1, 30))):
        place = draw(st.integers(0, max(len(raw) - 1, 0)))
        what = draw(st.sampled_from(["change", "remove", "insert", "repeat"]))
        if what == "change":
            raw[place : place + 1] = bytes([draw(st.integers(0, 255))])
        elif what == "remove":
            del raw[place : place + draw(st.integers(1, 50))]
        elif what == "insert":
            raw[place:place] = draw(st.binary(max_size=40))
        else:
            raw[place:place] = raw[place : place + draw(st.integers(1, 200))]
    return bytes(raw)


PARTS_OF_LINES = st.sampled_from(
    [b"!AIVDM,", b"!AIVDO,2,1,", b"\\", b"*", b"\\c:", b"g:1-2-3", b"\n", b"$PGHP,1,", b"$GPRMC,", b",", b"0*"]
)


@several
@given(
    mutated()
    | st.binary(max_size=3_000)
    | st.lists(PARTS_OF_LINES | st.binary(max_size=12), max_size=200).map(b"".join)
)
def test_nothing_makes_it_fail(raw: bytes) -> None:
    for head in (b"", b"\x1f\x8b", b"\x28\xb5\x2f\xfd"):
        try:
            fixes, reader = read(head + raw, block_bytes=500)
        except GeodiffError:
            continue
        counts = reader.counts
        damage = sum(count for reason, count in counts.refused.items() if reason.startswith("compressed"))
        assert counts.read == counts.kept + sum(counts.refused.values()) - damage + sum(reader.skipped.values())
        if not fixes.is_empty():
            assert fixes["lon_deg"].is_between(-180, 180).all()
            assert fixes["lat_deg"].is_between(-90, 90).all()
            assert fixes["cog_deg"].drop_nulls().is_between(0, 360, closed="left").all()
            assert fixes["time"].null_count() == 0
            assert fixes["row"].is_sorted()


@several
@given(st.permutations(range(12)))
def test_parts_may_come_in_any_order(order: list[int]) -> None:
    whole = [
        line for ship in range(6) for line in message(msg_type=5, mmsi=1 + ship, shipname=f"S{ship}", sequence=ship)
    ]
    lines = [whole[place] for place in order] + [position(mmsi=1 + ship) for ship in range(6)]
    fixes, _ = read(lines_of([tagged(line, c=T0) for line in lines]))
    assert fixes["name"].to_list() == [f"S{ship}" for ship in range(6)]


@several
@given(st.lists(st.booleans(), min_size=2, max_size=12), st.booleans())
def test_static_data_are_never_of_two_ships(lost: list[bool], stamps: bool) -> None:
    """Messages under one number, some without their first part, further apart than a later part waits."""
    lines: list[str] = []
    for ship, first_is_lost in enumerate(lost, 1):
        whole = message(msg_type=5, mmsi=ship, shipname=f"S{ship}", destination=f"D{ship}", sequence=1)
        at = {"c": T0 + 10 * ship} if stamps else {}
        fix = tagged(position(mmsi=ship), c=T0 + 10 * ship)
        lines += [fix] if first_is_lost else [tagged(whole[0], **at), fix]
        lines += [tagged(whole[1], **at), *[fix] * 100]
    fixes, reader = read(lines_of(lines))
    said = fixes.group_by("vessel_id", maintain_order=True).agg(pl.col("name", "destination").first())
    wanted = [(ship, *((None, None) if gone else (f"S{ship}", f"D{ship}"))) for ship, gone in enumerate(lost, 1)]
    assert said.rows() == wanted
    assert reader.counts.refused.get("message with parts missing", 0) == sum(lost)
