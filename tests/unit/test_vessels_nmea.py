"""What the NMEA reader gives for messages whose content is known."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import zstandard

from geodiff.schema import GeodiffError, UsageError
from geodiff.testing.nmea import checksum, message, position, sentence, tagged
from geodiff.tracks import STATIC_TYPES
from geodiff.vessels.nmea import NmeaReader, open_nmea
from geodiff.vessels.nmea_bytes import LineSource
from geodiff.vessels.reading import FIX_SCHEMA

T0 = 1_700_000_000
"""2023-11-14 22:13:20 UTC."""


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(T0, UTC) + timedelta(seconds=seconds)


def instrument(body: str) -> str:
    return f"${body}*{checksum(body)}"


def stamped(*lines: str, step: int = 10) -> list[str]:
    """Lines with tag blocks, ``step`` seconds apart."""
    return [tagged(line, s="r1", c=T0 + step * number) for number, line in enumerate(lines)]


def read(lines: list[str] | bytes, **options: object) -> tuple[pl.DataFrame, NmeaReader]:
    raw = lines if isinstance(lines, bytes) else "".join(line + "\n" for line in lines).encode("latin-1")
    reader = open_nmea(io.BytesIO(raw), **options)  # type: ignore[arg-type]
    frames = list(reader.batches())
    empty = FIX_SCHEMA.to_frame()
    return (pl.concat(frames) if frames else empty), reader


def accounts(reader: NmeaReader) -> bool:
    counts = reader.counts
    return counts.read == counts.kept + sum(counts.refused.values()) + sum(reader.skipped.values())


def test_a_fix_has_every_field_in_its_unit() -> None:
    line = position(msg_type=1, speed=12.3, course=224.5, heading=215, turn=-12.0, status=5, second=59)
    fixes, reader = read(stamped(line))
    assert fixes.columns == [*FIX_SCHEMA, *STATIC_TYPES]
    assert fixes.select(FIX_SCHEMA.names()).schema == FIX_SCHEMA
    fix = fixes.row(0, named=True)
    assert (fix["vessel_id"], fix["time"], fix["source"], fix["row"]) == (244_660_274, at(0), "nmea:1", 1)
    assert (fix["lon_deg"], fix["lat_deg"]) == pytest.approx((5.7, 52.8), abs=1e-6)
    assert (fix["sog_kn"], fix["cog_deg"], fix["heading_deg"], fix["nav_status"]) == (
        pytest.approx(12.3),
        pytest.approx(224.5),
        215,
        5,
    )
    assert fix["rot_deg_min"] == pytest.approx(-12, rel=0.1)  # sent as a root in whole steps
    assert fix["ship_type"] is None
    assert (reader.counts.read, reader.counts.kept) == (1, 1)


@pytest.mark.parametrize(
    ("fields", "column"),
    [
        ({"speed": 102.3}, "sog_kn"),
        ({"speed": 51.2}, "sog_kn"),
        ({"course": 360.0}, "cog_deg"),
        ({"heading": 511}, "heading_deg"),
        ({"turn": -128}, "rot_deg_min"),
        ({"turn": 127}, "rot_deg_min"),
        ({"status": 15}, "nav_status"),
    ],
)
def test_codes_for_not_available_become_null(fields: dict[str, float], column: str) -> None:
    known = {"speed": 1.0, "course": 1.0, "heading": 1, "turn": 1.0, "status": 1}
    fixes, _ = read(stamped(position(**known), position(**(known | fields))))
    assert fixes[column].is_null().to_list() == [False, True]


def test_sixty_three_knots_are_no_speed_of_message_27_only() -> None:
    fixes, reader = read(stamped(*(position(msg_type=kind, speed=63) for kind in (27, 1, 18, 9))))
    assert fixes["sog_kn"].to_list() == [None, 63.0, 63.0, 63.0]
    assert reader.counts.blanked == {}


def test_values_that_nobody_defines_become_null_and_are_counted() -> None:
    fixes, reader = read(stamped(position(heading=400), position(heading=511), position(course=370.0)))
    assert fixes["heading_deg"].is_null().to_list() == [True, True, False]
    assert reader.counts.blanked == {"heading undefined": 1, "course undefined": 1}
    assert reader.counts.examples["course undefined"] == [3]


@pytest.mark.parametrize("kind", [1, 2, 3, 9, 18, 19, 21, 27])
def test_every_type_with_a_position_gives_a_fix(kind: int) -> None:
    lines = message(msg_type=kind, mmsi=244_660_274, lon=-70.25, lat=-33.5, speed=10, course=123.0)
    fixes, reader = read([tagged(line, c=T0) for line in lines])
    fix = fixes.row(0, named=True)
    assert fix["source"] == f"nmea:{kind}"
    assert (fix["lon_deg"], fix["lat_deg"]) == pytest.approx((-70.25, -33.5), abs=1e-3)
    assert (fix["sog_kn"], fix["cog_deg"]) == ((None, None) if kind == 21 else (10, 123))
    assert accounts(reader)


def base_station(when: datetime, mmsi: int = 2_442_000, kind: int = 4) -> str:
    parts = {name: getattr(when, name) for name in ("year", "month", "day", "hour", "minute", "second")}
    return message(msg_type=kind, mmsi=mmsi, lon=4.0, lat=52.0, **parts)[0]


def test_base_stations_are_fixes_of_their_own_time_where_no_line_is_stamped() -> None:
    fixes, _ = read([base_station(at(5))])
    assert fixes["source"].to_list() == ["nmea:4"]
    assert fixes["time"].to_list() == [at(5)]
    fixes, _ = read(stamped(base_station(at(5))))
    assert fixes["time"].to_list() == [at(0)]


def test_own_ship_counts_as_well() -> None:
    line = message(msg_type=1, mmsi=211_000_001, lon=1.0, lat=2.0, talker="AIVDO")[0]
    assert line.startswith("!AIVDO")
    assert read(stamped(line))[0]["vessel_id"].to_list() == [211_000_001]


@pytest.mark.parametrize("fields", [{"lon": 181.0}, {"lat": 91.0}, {"lon": 181.0, "lat": 91.0}])
def test_fixes_without_a_position_are_refused(fields: dict[str, float]) -> None:
    for kind in (1, 4, 18, 27):
        lines = message(**({"msg_type": kind, "mmsi": 1, "lon": 1.0, "lat": 1.0} | fields))
        _, reader = read(stamped(position(), *lines))
        assert reader.counts.refused == {"position not available": 1}
        assert reader.counts.examples == {"position not available": [2]}


# Times -----------------------------------------------------------------------------------------------------------


def test_null_island_and_times_to_come_are_refused_with_their_lines() -> None:
    nowhere = position(lon=0.0, lat=0.0)
    sound = position(lon=0.0, lat=51.5)  # Greenwich
    lines = [
        tagged(nowhere, s="r1", c=T0),
        tagged(sound, s="r1", c=T0 + 10),
        tagged(sound, s="r1", c=T0 + 2 * 86_400),
    ]
    fixes, reader = read(lines, now=at(0))
    assert fixes["row"].to_list() == [2]
    assert reader.counts.refused == {"null island (position 0, 0)": 1, "time in the future": 1}
    assert reader.counts.examples == {"null island (position 0, 0)": [1], "time in the future": [3]}
    assert accounts(reader)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (f"{T0} ", "", at(0)),
        (f"{T0}.25,", "", at(0.25)),
        (f"{T0}250;", "", at(0.25)),
        (f"{T0}250123\t", "", at(0.250123)),
        ("2023-11-14T22:13:20Z ", "", at(0)),
        ("2023-11-14 22:13:20.5,", "", at(0.5)),
        ("[2023/11/14 22:13:20] ", "", at(0)),
        ("20231114T221320Z|", "", at(0)),
        ("20231114221320 ", "", at(0)),
        ("20231114_221320 ", "", at(0)),
        ("2023-11-14 23:13:20+01:00 ", "", at(0)),
        ("2023-11-14T20:13:20.25-0200 ", "", at(0.25)),
        ("7,2023-11-14 22:13:20,station 12,", "", at(0)),
        ("", f",{T0}", at(0)),
        ("", f",s28089,d-103,T39.44353985,x147521,r08TPHI1,{T0}", at(0)),
        ("", f",b003660465,{T0}", at(0)),
        ("", " 2023-11-14T22:13:20Z", at(0)),
        (instrument("PGHP,1,2023,11,14,22,13,20,250,219,,2190047,1,00") + "\n", "", at(0.25)),
        (tagged("", c=T0), "", at(0)),
    ],
)
def test_the_common_ways_to_stamp_a_line(before: str, after: str, expected: datetime) -> None:
    fixes, _ = read([before + position() + after])
    assert fixes["time"].to_list() == [expected]


@pytest.mark.parametrize("number", [T0 * 1000 + 250, f"{T0}.25"])
def test_tag_blocks_in_fractions_of_a_second(number: object) -> None:
    assert read([tagged(position(), c=number)])[0]["time"].to_list() == [at(0.25)]


@pytest.mark.parametrize(
    "before",
    [
        "14/11/2023 22:13:20 ",
        "2023-13-14 22:13:20 ",
        "2023-02-30 22:13:20 ",
        "0000000012 ",
        "22:13:20 ",
        tagged("", c=12),
    ],
)
def test_no_time_is_invented(before: str) -> None:
    fixes, reader = read([before + position()])
    assert fixes.is_empty()
    assert reader.counts.refused == {"no time: no stamp on the line and no clock before it": 1}
    assert reader.counts.examples["no time: no stamp on the line and no clock before it"] == [1]


def test_the_receivers_clock_and_the_second_of_the_report_make_the_time() -> None:
    rmc = instrument("GPRMC,221320.00,A,5250.53669,N,00542.34920,E,0.020,,141123,,,A")
    fixes, reader = read([position(second=30), rmc, position(second=18), position(second=60), position(second=55)])
    assert fixes["row"].to_list() == [3, 4]
    assert fixes["time"].to_list() == [at(-2), at(0)]
    assert reader.counts.refused == {
        "no time: no stamp on the line and no clock before it": 1,
        "second of the report disagrees with the clock": 1,
    }


def test_the_clock_goes_on_with_the_traffic() -> None:
    seconds = [(20 + number) % 60 for number in range(300)]
    lines = [position(mmsi=211_000_000 + number, second=second) for number, second in enumerate(seconds)]
    fixes, _ = read(lines, start=at(0))
    assert fixes["time"].to_list() == [at(number) for number in range(300)]


def test_one_ship_with_a_wrong_clock_does_not_move_the_clock() -> None:
    lines = []
    for number in range(120):
        lines += [position(second=(20 + number) % 60), position(mmsi=3, second=(35 + number) % 60)][
            : 1 + number % 3 // 2
        ]
    fixes, _ = read(lines, start=at(0))
    good = fixes.filter(pl.col("vessel_id") != 3)
    assert good["time"].to_list() == [at(number) for number in range(120)]


def test_a_ship_is_not_believed_because_of_another_whose_clock_is_half_as_wrong() -> None:
    """Of five reports one is 15 s ahead and one half a minute."""
    lines = []
    for number in range(60):
        sent = [position(mmsi=211_000_000 + each, second=(20 + number) % 60) for each in range(3)]
        lines += [*sent, position(mmsi=3, second=(35 + number) % 60), position(mmsi=4, second=(50 + number) % 60)]
    fixes, reader = read(lines, start=at(0))
    good = fixes.filter(pl.col("vessel_id") > 4)
    assert good["time"].to_list() == [at(number) for number in range(60) for _ in range(3)]
    assert 4 not in fixes["vessel_id"]
    assert reader.counts.refused == {"second of the report disagrees with the clock": 60}


def test_three_ships_that_report_every_ten_seconds_keep_the_clock_going() -> None:
    seconds = [10 * number for number in range(30) for _ in range(3)]
    lines = [position(mmsi=211_000_000 + n % 3, second=(20 + second) % 60) for n, second in enumerate(seconds)]
    fixes, _ = read(lines, start=at(0))
    assert fixes["time"].to_list() == [at(second) for second in seconds]


@pytest.mark.parametrize("step", [4, 5, 8, 10])
def test_reports_that_come_seldom_keep_the_clock_going(step: int) -> None:
    seconds = list(range(0, 900, step))
    fixes, reader = read([position(second=(20 + each) % 60) for each in seconds], start=at(0))
    assert fixes["time"].to_list() == [at(each) for each in seconds]
    assert not reader.counts.refused


@pytest.mark.parametrize("every_s", [0.1, 1.0])
def test_many_wrong_seconds_in_a_dense_recording_do_not_lose_the_clock(every_s: float) -> None:
    rng = np.random.default_rng(0)
    times = np.floor(np.cumsum(rng.exponential(every_s, 1500))).astype(int)
    wrong = rng.random(len(times)) < 0.25
    seconds = np.where(wrong, rng.integers(0, 60, len(times)), (20 + times) % 60)
    lines = [position(mmsi=3 + 211_000_000 * (not bad), second=int(s)) for s, bad in zip(seconds, wrong, strict=True)]
    fixes, _ = read(lines, start=at(0))
    good = fixes.filter(pl.col("vessel_id") != 3)
    assert good["time"].to_list() == [at(int(each)) for each in times[~wrong]]


def test_a_base_station_with_a_wrong_date_is_outvoted() -> None:
    off = base_station(at(-86_400), mmsi=2_050_000)
    lines = [
        base_station(at(0)),
        position(second=21),
        off,
        position(second=22),
        base_station(at(3)),
        position(second=24),
    ]
    fixes, reader = read(lines)
    assert fixes.filter(source="nmea:1")["time"].to_list() == [at(1), at(4)]
    assert reader.counts.refused == {"no time: no stamp on the line and no clock before it": 1}


def test_base_stations_yield_to_the_receiver() -> None:
    lines = [tagged(position(second=20), c=T0), base_station(at(-30)), position(second=21)]
    assert read(lines)[0]["time"].to_list() == [at(0), at(-30), at(1)]


def test_start_must_name_its_zone() -> None:
    with pytest.raises(UsageError, match="no time zone"):
        open_nmea(io.BytesIO(b""), start=datetime(2023, 11, 14))


# Messages of several sentences -------------------------------------------------------------------------------------


def voyage(mmsi: int, name: str, *, sequence: int = 1, channel: str = "A", **fields: object) -> list[str]:
    made = {"imo": 9_688_893, "ship_type": 70, "to_bow": 100, "to_stern": 20, "to_port": 8, "to_starboard": 9}
    return message(
        **{"msg_type": 5, "mmsi": mmsi, "shipname": name, "sequence": sequence, "channel": channel, **made, **fields}
    )


def names(fixes: pl.DataFrame) -> dict[int, str | None]:
    return dict(fixes.select("vessel_id", "name").iter_rows())


def three(order: list[int]) -> list[str]:
    """Static data of three ships, their six sentences in the given order, then a fix of each."""
    whole = [
        *voyage(1, "ONE", sequence=1),
        *voyage(2, "TWO", sequence=2),
        *voyage(3, "THREE", sequence=1, channel="B"),
    ]
    return stamped(*(whole[place] for place in order), *(position(mmsi=mmsi) for mmsi in (1, 2, 3)), step=1)


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [0, 2, 4, 1, 3, 5], [5, 3, 1, 0, 2, 4], [1, 0, 3, 2, 5, 4]])
def test_parts_come_in_any_order(order: list[int]) -> None:
    fixes, reader = read(three(order))
    assert names(fixes) == {1: "ONE", 2: "TWO", 3: "THREE"}
    assert reader.skipped == {"further part of a message": 3, "static data": 3}
    assert accounts(reader)


def test_stations_keep_their_parts_apart() -> None:
    one, two = voyage(1, "ONE"), voyage(2, "TWO")
    lines = [
        tagged(one[0], s="x", c=T0),
        tagged(two[0], s="y", c=T0),
        tagged(one[1], s="x", c=T0),
        tagged(two[1], s="y", c=T0),
        *stamped(position(mmsi=1), position(mmsi=2)),
    ]
    assert names(read(lines)[0]) == {1: "ONE", 2: "TWO"}


def test_groups_of_tag_blocks_hold_parts_together_and_give_them_their_time() -> None:
    one, two = voyage(1, "ONE"), voyage(2, "TWO")
    lines = [
        tagged(one[0], g="1-2-7", s="x", c=T0),
        tagged(two[0], g="1-2-8", s="y", c=T0),
        tagged(two[1], g="2-2-8"),
        tagged(one[1], g="2-2-7"),
        tagged(position(mmsi=1), g="1-2-9", c=T0),
        tagged(position(mmsi=2), g="2-2-9"),
    ]
    fixes, reader = read(lines)
    assert names(fixes) == {1: "ONE", 2: "TWO"}
    assert fixes["time"].to_list() == [at(0), at(0)]
    assert accounts(reader)


def test_incomplete_messages_are_counted_with_their_lines() -> None:
    one, two = voyage(1, "ONE"), voyage(2, "TWO", sequence=2)
    fixes, reader = read(stamped(one[0], two[1], position(mmsi=1)))
    assert names(fixes) == {1: None}
    assert reader.counts.refused == {"message with parts missing": 2}
    assert reader.counts.examples["message with parts missing"] == [1, 2]
    assert accounts(reader)


def test_parts_far_apart_do_not_make_a_message() -> None:
    one = voyage(1, "ONE")
    late = [tagged(one[0], c=T0), tagged(position(mmsi=1), c=T0), tagged(one[1], c=T0 + 600)]
    assert read(late)[1].counts.refused == {"message with parts missing": 2}
    far = stamped(one[0], *[position(mmsi=1)] * 2_100, one[1], step=0)
    assert read(far)[1].counts.refused == {"message with parts missing": 2}


def orphan_then_whole(between: list[str], when: Callable[[int], dict[str, object]]) -> tuple[pl.DataFrame, NmeaReader]:
    """The second part of a voyage of ship 1, lines between, and a voyage of ship 2 under the same number."""
    lost, whole = voyage(1, "ONE", destination="FAR"), voyage(2, "TWO", destination="NEAR")
    # Another line between the two, or they would need no waiting.
    later = [tagged(whole[0], **when(1)), tagged(position(mmsi=1), c=T0 + 40), tagged(whole[1], **when(2))]
    return read([tagged(lost[1], **when(0)), *between, *later, tagged(position(mmsi=2), c=T0 + 41)])


@pytest.mark.parametrize("stamps", [(0, 40, 40), (None, None, None), (0, None, 40)], ids=str)
def test_a_later_part_does_not_take_the_first_of_another_message(stamps: tuple[int | None, ...]) -> None:
    between = [tagged(position(mmsi=1), c=T0 + number / 10) for number in range(110)]
    told = [{"s": "r1"} if stamp is None else {"s": "r1", "c": T0 + stamp} for stamp in stamps]
    fixes, reader = orphan_then_whole(between, lambda part: dict(told[part]))
    assert fixes.filter(vessel_id=2).select("name", "destination").rows() == [("TWO", "NEAR")]
    assert reader.counts.refused == {"message with parts missing": 1}
    assert reader.counts.examples == {"message with parts missing": [1]}
    assert accounts(reader)


@pytest.mark.parametrize("stamped_parts", [True, False])
def test_a_later_part_waits_a_little_for_its_first(stamped_parts: bool) -> None:
    one = voyage(1, "ONE", destination="FAR")
    when: list[dict[str, object]] = [{"c": T0}, {"c": T0 + 4}] if stamped_parts else [{}, {}]
    between = [tagged(position(mmsi=1), c=T0)] * (300 if stamped_parts else 90)
    fixes, reader = read([tagged(one[1], **when[0]), *between, tagged(one[0], **when[1])])
    assert fixes["destination"].unique().to_list() == ["FAR"]
    assert reader.counts.refused == {}


def test_a_part_heard_twice_counts_once() -> None:
    one = voyage(1, "ONE")
    fixes, reader = read(stamped(one[0], one[0], one[1], position(mmsi=1), step=1))
    assert names(fixes) == {1: "ONE"}
    assert accounts(reader)


def test_lines_that_belong_together_are_not_cut_apart() -> None:
    receipt = instrument("PGHP,1,2023,11,14,22,13,20,250,219,,2190047,1,00")
    stale, whole = voyage(9, "STALE")[1], voyage(1, "WHOLE", sequence=1)
    raw = "\n".join([stale, receipt, *whole, receipt, position(mmsi=1), receipt, position(mmsi=2)]).encode()
    for block_bytes in range(20, len(raw), 7):
        reader = NmeaReader(LineSource(io.BytesIO(raw), block_bytes))
        fixes = pl.concat(reader.batches())
        assert names(fixes) == {1: "WHOLE", 2: None}
        assert fixes["time"].to_list() == [at(0.25), at(0.25)]
        assert reader.counts.refused == {"message with parts missing": 1}


# Static data -------------------------------------------------------------------------------------------------------


def test_static_data_of_a_voyage() -> None:
    lines = voyage(1, "COASTAL ROAMER", callsign="PCXX", draught=1.8, destination="LEMMER")
    fix = read(stamped(*lines, position(mmsi=1)))[0].row(0, named=True)
    assert {name: fix[name] for name in ("imo", "name", "callsign", "length_m", "width_m", "destination")} == {
        "imo": 9_688_893,
        "name": "COASTAL ROAMER",
        "callsign": "PCXX",
        "length_m": 120,
        "width_m": 17,
        "destination": "LEMMER",
    }
    assert fix["draught_m"] == pytest.approx(1.8)
    assert fix["ship_type"] == 70


def test_the_latest_static_data_by_then_count_else_the_first_later() -> None:
    lines = [
        *(position(mmsi=1), position(mmsi=2)),
        *voyage(1, "OLD", ship_type=70),
        position(mmsi=1),
        *voyage(1, "NEW", ship_type=0),
        position(mmsi=1),
    ]
    fixes, _ = read(stamped(*lines))
    ours = fixes.filter(vessel_id=1)
    assert ours["name"].to_list() == ["OLD", "OLD", "NEW"]
    assert ours["ship_type"].to_list() == [70, 70, 70]  # type 0, "not available", does not overrule
    assert fixes.filter(vessel_id=2)["name"].to_list() == [None]


def test_both_parts_of_type_24_and_type_19() -> None:
    a = message(msg_type=24, mmsi=5, partno=0, shipname="SMALL ONE")
    b = message(msg_type=24, mmsi=5, partno=1, callsign="AB1", ship_type=37, to_bow=7, to_stern=5, to_port=1)
    long = message(msg_type=19, mmsi=6, lon=1.0, lat=1.0, shipname="LONG", ship_type=36, to_bow=3, to_stern=4)
    auxiliary = message(msg_type=24, mmsi=982_110_001, partno=1, ship_type=37, mothership_mmsi=211_000_001)
    others = (position(mmsi=5, msg_type=18), *long, *auxiliary, position(mmsi=982_110_001))
    fixes, reader = read(stamped(*a, *b, *others))
    small, other, tender = fixes.to_dicts()
    assert (small["name"], small["callsign"], small["ship_type"], small["length_m"]) == ("SMALL ONE", "AB1", 37, 12)
    assert (other["name"], other["ship_type"], other["length_m"], other["source"]) == ("LONG", 36, 7, "nmea:19")
    assert (tender["ship_type"], tender["length_m"]) == (37, None)  # there stands the MMSI of her mother ship
    assert accounts(reader)


def test_what_is_not_yet_said_comes_from_later() -> None:
    a = message(msg_type=24, mmsi=5, partno=0, shipname="SMALL ONE")
    b = message(msg_type=24, mmsi=5, partno=1, callsign="AB1", ship_type=37)
    fixes, _ = read(stamped(*a, position(mmsi=5), *b))
    assert fixes.select("name", "callsign", "ship_type").row(0) == ("SMALL ONE", "AB1", 37)


def test_what_ships_said_later_is_not_known_by_then() -> None:
    lines = [
        position(mmsi=1),
        *voyage(1, "KNOWN", ship_type=70),
        position(mmsi=1),
        *voyage(1, "LATER", ship_type=60),
        position(mmsi=1),
        *voyage(2, "UNKNOWN", ship_type=60),
        position(mmsi=2),
    ]
    fixes, _ = read(stamped(*lines), known_by=at(35))
    assert fixes.filter(vessel_id=1)["name"].to_list() == ["KNOWN", "KNOWN", "KNOWN"]
    assert fixes.filter(vessel_id=1)["ship_type"].to_list() == [70, 70, 70]
    assert fixes.filter(vessel_id=2)["name"].to_list() == [None]
    whole, _ = read(stamped(*lines))
    assert whole["name"].to_list() == ["KNOWN", "KNOWN", "LATER", "UNKNOWN"]


def test_static_data_join_by_time_not_by_line() -> None:
    early, late = voyage(1, "EARLY"), voyage(1, "LATE")
    lines = [
        *(tagged(line, c=T0 + 100) for line in late),
        *(tagged(line, c=T0) for line in early),
        tagged(position(mmsi=1), c=T0 + 50),
    ]
    assert read(lines)[0]["name"].to_list() == ["EARLY"]


# Bad input -----------------------------------------------------------------------------------------------------------


def flipped(line: str) -> str:
    return line[:20] + ("0" if line[20] != "0" else "1") + line[21:]


GOOD = tagged(position(), c=T0)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (flipped(position()), "bad checksum"),
        (position()[:30], "truncated sentence"),
        (position().partition("*")[0], "truncated sentence"),
        ("!AIVDM,1,1", "truncated sentence"),
        (sentence("13aDp<P"), "payload too short for its type"),
        (sentence("1"), "payload too short for its type"),
        (sentence("13aDp<PP000IwSlN?Wm@0?wN2<1T", fill=6), "bad field of the sentence"),
        (sentence("13aDp<PP000IwSlN?Wm@0?wN2<1T", parts=(3, 2)), "bad field of the sentence"),
        (sentence(""), "empty payload"),
        (sentence("13aDp<PP000IwSl\\?Wm@0?wN2<1T"), "bad character in the payload"),
        (sentence("13aDp<PP000IwSl~?Wm@0?wN2<1T"), "bad character in the payload"),
        (sentence("w3aDp<PP000IwSlN?Wm@0?wN2<1T"), "no such type of message"),
        (sentence("1" + "w" * 27), "MMSI out of range"),
        (sentence("1" + "0" * 27), "MMSI out of range"),
        ("AIVDM,1,1,,A,13aDp<PP000IwSlN?Wm@0?wN2<1T,0*00", "not an AIS sentence"),
        ("\x00\xff\xfe binary \x7f", "not an AIS sentence"),
        ("$GPRMC,221320.00,A,5250.53669,N,00542.34920,E,0.020,,141123,,,A*00", "bad checksum"),
        (f"\\c:{T0}*00\\{position()}", "bad checksum of the tag block"),
        ("x" * 2_000 + position(), "line too long"),
    ],
)
def test_what_is_wrong_is_said_with_the_line(line: str, reason: str) -> None:
    fixes, reader = read([GOOD, line, GOOD])
    assert fixes["row"].to_list() == [1, 3]
    assert reader.counts.refused == {reason: 1}
    assert reader.counts.examples[reason] == [2]
    assert accounts(reader)


def test_a_sentence_cut_off_by_the_next_costs_only_itself() -> None:
    fixes, reader = read([f"{T0} " + position(mmsi=1)[:25] + position(mmsi=2), GOOD])
    assert fixes["row"].to_list() == [2]
    assert reader.counts.refused["truncated sentence"] == 1
    assert accounts(reader)


def test_other_lines_are_skipped_and_counted() -> None:
    lines = [
        "# a comment",
        "",
        "$GPVTG,,T,,M,0.020,N,0.038,K,A*2A",
        GOOD,
        tagged("$GPVTG,,T,,M,0.020,N,0.038,K,A*2A", s="x"),
    ]
    _, reader = read(lines)
    assert reader.skipped == {"comment": 1, "other NMEA sentence": 2}
    assert (reader.counts.read, reader.counts.refused) == (4, {})


@pytest.mark.parametrize("ending", ["\n", "\r\n", " \r\n", "\n\n"])
def test_line_endings(ending: str) -> None:
    fixes, _ = read((GOOD + ending + GOOD).encode())
    assert fixes.height == 2


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "not one valid AIS sentence"),
        (b"\n\n", "not one valid AIS sentence"),
        (b"MMSI,BaseDateTime,LAT,LON\n1,2020-01-01T00:00:00,1,2\n", "not an AIS sentence \\(2, line 1, 2\\)"),
        (b"\x00" * 3_000_000, "line too long \\(1, line 1\\)"),
        (flipped(position()).encode(), "bad checksum \\(1, line 1\\)"),
    ],
)
def test_a_file_without_one_valid_sentence_is_an_error(raw: bytes, says: str) -> None:
    with pytest.raises(GeodiffError, match=says):
        read(raw)


def test_an_overlong_line_is_passed_over_in_pieces() -> None:
    raw = GOOD.encode() + b"\n" + b"A" * 5_000_000 + b"\n" + GOOD.encode() + b"\n"
    fixes, reader = read(raw)
    assert fixes["row"].to_list() == [1, 3]
    assert reader.counts.refused == {"line too long": 1}


def test_an_overlong_line_after_a_part_of_a_message_is_passed_over_too() -> None:
    part = voyage(1, "CUT")[0]
    raw = f"{GOOD}\n{part}\n".encode() + b"\0" * 5_000_000 + f"\n{GOOD}\n".encode()
    source = LineSource(io.BytesIO(raw))
    assert max(len(block.data) for block in source.blocks()) <= 2 * source.block_bytes
    fixes, reader = read(raw)
    assert fixes["row"].to_list() == [1, 4]
    assert reader.counts.refused == {"line too long": 1, "message with parts missing": 1}
    assert accounts(reader)


def packed(raw: bytes, how: str) -> bytes:
    return {"plain": raw, "gz": gzip.compress(raw), "zst": zstandard.ZstdCompressor(write_checksum=True).compress(raw)}[
        how
    ]


MANY = "".join(
    tagged(position(mmsi=number + 1, lon=number / 100), c=T0 + number) + "\n" for number in range(5_000)
).encode()


@pytest.mark.parametrize("how", ["plain", "gz", "zst"])
def test_compression_is_told_by_content(tmp_path: Path, how: str) -> None:
    path = tmp_path / "recording.txt"
    path.write_bytes(packed(MANY, how) + (packed(MANY, how) if how != "plain" else MANY))
    reader = open_nmea(path)
    assert sum(frame.height for frame in reader.batches()) == 10_000
    assert reader.counts.refused == {}


@pytest.mark.parametrize("how", ["gz", "zst"])
def test_a_compressed_file_that_ends_early_gives_what_it_has(how: str) -> None:
    whole = packed(MANY, how)
    fixes, reader = read(whole[: len(whole) * 2 // 3])
    assert 1_000 < fixes.height < 5_000
    assert reader.counts.refused.pop("compressed data end early") == 1
    assert reader.counts.examples["compressed data end early"] == [reader.counts.read]


@pytest.mark.parametrize("how", ["gz", "zst"])
def test_damaged_compression_is_told(how: str) -> None:
    # Two members: the first is whole, so that there is something to give.
    first, second = packed(MANY, how), bytearray(packed(MANY, how))
    middle = len(second) // 2
    second[middle : middle + 64] = bytes(byte ^ 0xA5 for byte in second[middle : middle + 64])
    fixes, reader = read(first + bytes(second))
    assert fixes.height >= 5_000
    assert {"compressed data are damaged", "compressed data end early"} & set(reader.counts.refused)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(GeodiffError, match="cannot be read"):
        list(open_nmea(tmp_path / "none.nmea").batches())


def test_a_reader_reads_once() -> None:
    reader = open_nmea(io.BytesIO(MANY))
    assert sum(frame.height for frame in reader.batches(rows=900)) == 5_000
    with pytest.raises(UsageError, match="read already"):
        next(reader.batches())


def test_workers_must_be_positive() -> None:
    with pytest.raises(UsageError, match="workers"):
        open_nmea(io.BytesIO(MANY), workers=0)


# Real recordings -----------------------------------------------------------------------------------------------------

SAMPLES = {
    # fixes, refused, west, south, east, north of the bulk of them
    "nmea_denmark_2010.txt.gz": (3_127, 29, (-70, 10, 47, 77)),
    "nmea_greece.txt": (560, 328, (19, 35, 26, 39)),
    "test_data_20211101.nm4": (930, 3, (-180, -60, 180, 85)),
    "gpsd/ais-nmea.log": (141, 3, (5.6, 52.8, 5.8, 52.9)),
    "gpsd/ais-18-27.log": (0, 138, (0, 0, 0, 0)),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_real_recordings(geodiff_data: Path, name: str) -> None:
    kept, refused, (west, south, east, north) = SAMPLES[name]
    reader = open_nmea(geodiff_data / "ais" / "formats" / name)
    frames = list(reader.batches())
    assert reader.counts.kept == kept
    assert sum(reader.counts.refused.values()) == refused
    assert accounts(reader)
    for fixes in frames:
        assert fixes["lon_deg"].is_between(west, east).all()
        assert fixes["lat_deg"].is_between(south, north).all()
        spread = fixes["time"].max() - fixes["time"].min()  # type: ignore[operator]
        assert spread < timedelta(minutes=10)
