"""Readers of tables: every form of file gives the fixes that were written into it, and bad input a clear message."""

from __future__ import annotations

import gzip
import io
import math
import re
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from geodiff.schema import GeodiffError, UsageError
from geodiff.testing.nmea import checksum, position, tagged
from geodiff.tracks import STATIC_TYPES
from geodiff.vessels import tables_parquet
from geodiff.vessels.codes import HASHED_FROM
from geodiff.vessels.read import open_fixes, read_fixes
from geodiff.vessels.reading import FIX_SCHEMA, ReadCounts
from geodiff.vessels.tables_text import as_utf8

NOW = datetime(2021, 6, 1, tzinfo=UTC)
START = datetime(2021, 1, 25, 23, 58, tzinfo=UTC)
HEAD = "MMSI,BaseDateTime,LAT,LON,SOG,COG,Heading,VesselName"


def noaa(count: int = 5, change: Callable[[int], dict[str, Any]] = lambda n: {}) -> str:
    """A table in the layout of NOAA; ``change`` alters the fields of row ``n``."""
    lines = [HEAD]
    for n in range(count):
        row: dict[str, Any] = {
            "MMSI": 219000001 + n % 2,
            "BaseDateTime": (START + timedelta(minutes=n)).strftime("%Y-%m-%dT%H:%M:%S"),
            "LAT": f"{55 + n * 1e-3:.5f}",
            "LON": f"{10 + n * 1e-3:.5f}",
            "SOG": "10.1",
            "COG": "80.0",
            "Heading": "81.0",
            "VesselName": "TESTER",
        }
        lines.append(",".join(str(value) for value in (row | change(n)).values()))
    return "\n".join(lines) + "\n"


@pytest.fixture
def put(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


Put = Callable[[str, str | bytes], Path]


def zipped(**members: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(f"{name}.csv", text)
    return buffer.getvalue()


def as_parquet(text: str) -> bytes:
    buffer = io.BytesIO()
    pl.read_csv(io.StringIO(text)).write_parquet(buffer)
    return buffer.getvalue()


PACKINGS: dict[str, Callable[[str], bytes]] = {
    "plain": str.encode,
    "crlf": lambda text: text.replace("\n", "\r\n").encode(),
    "byte order mark": lambda text: ("\ufeff" + text).encode(),
    "semicolons": lambda text: text.replace(",", ";").encode(),
    "tabs": lambda text: text.replace(",", "\t").encode(),
    "all quoted": lambda text: "\n".join(
        ",".join(f'"{value}"' for value in line.split(",")) for line in text.splitlines()
    ).encode(),
    "trailing delimiter": lambda text: text.replace("\n", ",\n").replace(HEAD + ",", HEAD).encode(),
    "gzip": lambda text: gzip.compress(text.encode()),
    "two gzip members": lambda text: gzip.compress(text.encode()[:200]) + gzip.compress(text.encode()[200:]),
    "zstd": lambda text: zstandard.compress(text.encode()),
    "zip": lambda text: zipped(a=text),
}


@pytest.mark.parametrize("pack", PACKINGS.values(), ids=PACKINGS)
def test_a_table_reads_the_same_however_it_is_packed(put: Put, pack: Callable[[str], bytes]) -> None:
    fixes, counts = read_fixes(put("a.dat", pack(noaa())), now=NOW)
    assert fixes.schema == pl.Schema({**FIX_SCHEMA, "name": pl.String()})
    assert (counts.read, counts.kept, counts.refused) == (5, 5, {})
    assert fixes["row"].to_list() == [2, 3, 4, 5, 6]  # lines; the header is the first
    assert fixes["time"].to_list() == [START + timedelta(minutes=n) for n in range(5)]
    assert fixes["lon_deg"].to_list() == pytest.approx([10 + n * 1e-3 for n in range(5)])
    assert fixes["vessel_id"].to_list() == [219000001, 219000002] * 2 + [219000001]
    assert fixes["source"].unique().to_list() == ["noaa"]


def test_parquet_counts_rows_from_one(put: Put) -> None:
    fixes, _ = read_fixes(put("a", as_parquet(noaa())), now=NOW)
    assert fixes["row"].to_list() == [1, 2, 3, 4, 5]
    assert fixes["lat_deg"].to_list() == pytest.approx([55 + n * 1e-3 for n in range(5)])


def test_the_name_of_a_file_says_nothing(put: Put) -> None:
    assert open_fixes(put("a.parquet", noaa())).layout == "noaa"
    assert open_fixes(put("b.csv", as_parquet(noaa()))).layout == "noaa"


def test_folders_globs_and_zips_are_many_files(put: Put, tmp_path: Path) -> None:
    put("a.csv", noaa(3))
    put("b.zip", zipped(x=noaa(4), y=noaa(2)))
    put(".hidden", b"\x00")
    assert read_fixes(tmp_path, now=NOW)[0].height == 9
    assert read_fixes(tmp_path / "*.csv", now=NOW)[0].height == 3
    reader = open_fixes(tmp_path / "b.zip", now=NOW)
    assert [batch["row"].to_list() for batch in reader.batches()] == [[2, 3, 4, 5], [2, 3]]
    assert (reader.layout, reader.counts.read, reader.counts.kept) == ("noaa", 6, 6)


def test_not_available_is_null_and_is_not_counted(put: Put) -> None:
    codes = [
        {"SOG": "102.3", "COG": "360.0", "Heading": "511"},
        {"SOG": "51.2", "COG": "", "Heading": "None"},
        {"SOG": "63.0", "COG": "nan", "Heading": "NULL", "VesselName": "@@@"},
        {"SOG": "-0.1", "COG": "-151.3"},  # counters with a sign, in files of 2015-2017
    ]
    fixes, counts = read_fixes(put("a", noaa(4, lambda n: codes[n])), now=NOW)
    assert fixes["sog_kn"].null_count() == 4
    assert fixes["cog_deg"].to_list() == [None, None, None, pytest.approx(258.3, abs=1e-4)]
    assert fixes["heading_deg"].null_count() == 3
    assert fixes["name"].to_list() == ["TESTER", "TESTER", None, "TESTER"]
    assert (counts.refused, counts.blanked) == ({}, {})


def test_fast_craft_keep_their_speed_where_a_course_tells_it_from_a_code(put: Put) -> None:
    said = [("51.1", "80"), ("51.2", "80"), ("51.2", "360"), ("62.9", "80"), ("63.0", "0"), ("63.0", "360.0")]
    text = noaa(6, lambda n: dict(zip(("SOG", "COG"), said[n], strict=True)))
    fixes, counts = read_fixes(put("a", text), now=NOW)
    assert fixes["sog_kn"].cast(pl.Float64).round(1).to_list() == [51.1, None, None, 62.9, 63.0, None]
    assert (counts.refused, counts.blanked) == ({}, {"speed of 51.2 kn": 1})
    assert counts.examples["speed of 51.2 kn"] == [3]
    bare = "\n".join(",".join(line.split(",")[:5]) for line in text.splitlines())  # courses are not said at all
    assert read_fixes(put("b", bare), now=NOW)[0]["sog_kn"].null_count() == 4


def test_a_speed_that_is_no_number_refuses_its_row(put: Put) -> None:
    fixes, counts = read_fixes(put("a", noaa(3, lambda n: {"SOG": "fast"} if n == 1 else {})), now=NOW)
    assert (fixes.height, counts.refused) == (2, {"speed is not a number": 1})


def test_rescue_aircraft_may_be_faster_than_any_ship(put: Put) -> None:
    speeds = ("102.2", "102.3", "150.0", "1022", "1023", "150.0")
    plane = [{"MMSI": "111232511", "SOG": speed} for speed in speeds[:-1]]
    fixes, counts = read_fixes(put("a", noaa(6, lambda n: [*plane, {"SOG": speeds[-1]}][n])), now=NOW)
    assert fixes["sog_kn"].to_list() == [pytest.approx(102.2), None, 150.0, 1022.0]
    assert counts.refused == {"speed out of range": 2}
    assert counts.examples["speed out of range"] == [6, 7]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"MMSI": ""}, "no identity"),
    ({"MMSI": "0"}, "no identity"),
    ({"MMSI": "ABC"}, "identity is not a number"),
    ({"MMSI": "12345678901"}, "identity out of range"),
    ({"MMSI": "-5"}, "identity out of range"),
    ({"BaseDateTime": ""}, "no time"),
    ({"BaseDateTime": "2021-13-45T00:00:00"}, "time cannot be read"),
    ({"BaseDateTime": "1980-01-06T00:00:00"}, "time before 1990"),
    ({"BaseDateTime": "2038-01-01T00:00:00"}, "time in the future"),
    ({"LAT": "91.0", "LON": "181.0"}, "position not available"),
    ({"LAT": ""}, "position not available"),
    ({"LAT": "x"}, "latitude is not a number"),
    ({"LAT": "1000000000"}, "latitude out of range"),
    ({"LON": "-180.1"}, "longitude out of range"),
    ({"LON": "inf"}, "longitude out of range"),
    ({"LAT": "0.0", "LON": "0.0"}, "null island (position 0, 0)"),
    ({"SOG": "1000000000"}, "speed out of range"),
    ({"SOG": "102.4"}, "speed out of range"),
    ({"COG": "410"}, "course out of range"),
    ({"Heading": "512"}, "heading out of range"),
    ({"Heading": "north"}, "heading is not a number"),
    ({"VesselName": "A,B"}, "other number of fields than the header"),
]


@pytest.mark.parametrize(("fields", "reason"), REFUSED, ids=[f"{reason} {fields}" for fields, reason in REFUSED])
def test_a_row_that_is_no_fix_is_refused_and_named(put: Put, fields: dict[str, Any], reason: str) -> None:
    fixes, counts = read_fixes(put("a", noaa(5, lambda n: fields if n == 2 else {})), now=NOW)
    assert counts.refused == {reason: 1}
    assert counts.examples[reason] == [4]
    assert fixes["row"].to_list() == [2, 3, 5, 6]
    assert counts.read == 5


def test_undefined_values_are_blanked_and_counted(put: Put) -> None:
    fixes, counts = read_fixes(put("a", noaa(3, lambda n: {"Heading": "480", "COG": "400"} if n else {})), now=NOW)
    assert fixes["heading_deg"].to_list() == [81, None, None]
    assert counts.blanked == {"heading undefined": 2, "course undefined": 2}
    assert counts.examples["heading undefined"] == [3, 4]


def test_the_edges_of_the_earth_are_on_it(put: Put) -> None:
    edges = [("90", "10"), ("-90", "10"), ("10", "180"), ("10", "-180"), ("0", "10")]
    text = noaa(5, lambda n: dict(zip(("LAT", "LON"), edges[n], strict=True)))
    assert read_fixes(put("a", text), now=NOW)[0].height == 5


def test_a_stray_quote_spoils_no_other_line(put: Put) -> None:
    names = ['SMITH "JOE', '"A, B"', 'X"Y"Z', '"say ""hi"""', "plain"]
    fixes, counts = read_fixes(put("a", noaa(5, lambda n: {"VesselName": names[n]})), now=NOW)
    assert fixes["name"].to_list() == ['SMITH "JOE', "A, B", 'X"Y"Z', 'say "hi"', "plain"]
    assert counts.refused == {}


def test_lines_are_numbered_through_blank_and_broken_ones(put: Put) -> None:
    lines = noaa(3).splitlines()
    text = "\n\n".join([lines[0], lines[1], "219,x,y", lines[2]]) + "\n" + lines[3][:20]
    fixes, counts = read_fixes(put("a", text), now=NOW)
    assert fixes["row"].to_list() == [3, 7]
    assert counts.refused == {"blank line": 3, "other number of fields than the header": 2}
    assert counts.examples["other number of fields than the header"] == [5, 8]


def test_a_latin_name_costs_no_row(put: Put) -> None:
    text = noaa(2, lambda n: {"VesselName": "MÆRSK"}).encode("latin-1")
    assert read_fixes(put("a", text), now=NOW)[0].height == 2


@pytest.mark.parametrize("rows", [2, 500_000])
def test_text_that_is_no_utf8_is_read_as_windows_1252(put: Put, caplog: pytest.LogCaptureFixture, rows: int) -> None:
    names = ["MÆRSK", "plain", "BLÅBÆR Ø", "BJØRN", "20 €"]
    lines = noaa(5, lambda n: {"VesselName": names[n]}).replace("VesselName", "VesselNáme").splitlines()
    kinds = ["cp1252", "cp1252", "ascii", "cp1252", "utf-8", "cp1252"]  # one name stands in UTF-8 among them
    raw = b"\n".join(line.encode(kind) for line, kind in zip(lines, kinds, strict=True)) + b"\n"
    layout = put(
        "map.yaml", "columns: {vessel_id: MMSI, time: BaseDateTime, lon_deg: LON, lat_deg: LAT, name: VesselNáme}"
    )
    reader = open_fixes(put("a.csv", raw), layout=layout, now=NOW)
    assert pl.concat(reader.batches(rows=rows))["name"].to_list() == names
    said = "lines that are no UTF-8, read as Windows-1252"
    assert (reader.counts.refused, reader.counts.noted) == ({}, {said: 3})
    assert reader.counts.examples[said] == [2, 4, 6]
    assert [record.getMessage().split("a.csv: ")[1] for record in caplog.records] == [f"3 {said} (such as row 2, 4, 6)"]
    total = ReadCounts()
    total.add(reader.counts)
    assert total == reader.counts


@given(
    st.lists(st.sampled_from([*b"\nA,\x80\x81\xc0\xc2\xc3\xa6\xed\xa0\xe2\x82\xac\xf0\xff"]), max_size=20).map(bytes)
)
def test_lines_are_told_apart_by_their_bytes(block: bytes) -> None:
    text, other = as_utf8(block)
    for number, (was, now) in enumerate(zip(block.split(b"\n"), text.split(b"\n"), strict=True)):
        if number in other.tolist():
            assert now.decode() == was.decode("cp1252", "replace")
            with pytest.raises(UnicodeDecodeError):
                was.decode()
        else:
            assert now == was
            now.decode()


# -- what a whole file is refused for ---------------------------------------------------------------------------------

BAD_FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", r"empty file \(0 bytes\)"),
    "blank": (b"\n \n", "empty file"),
    "only a header": (HEAD.encode(), "no rows below the header"),
    "another schema": (b"id,name,price\n1,a,2\n", "no known layout has the columns id, name, price"),
    "no header": ("\n".join(noaa().splitlines()[1:]).encode(), "needs a header"),
    "binary": (bytes(range(256)) * 20, "binary data"),
    "utf-16": (noaa().encode("utf-16"), "UTF-16"),
    "cut zip": (zipped(a=noaa())[:-30], "damaged zip"),
    "a header without end": (b"a," * 200_000 + b"\n1,2\n", "200,001 columns"),
    "zip of nothing": (zipped(), "a zip of 0 files"),
    "cut parquet": (as_parquet(noaa())[:-20], "damaged Parquet"),
    "one long line": (HEAD.encode() + b"\n" + b"1" * (3 << 20), "a line of more than"),
    "zone by letters": (
        noaa(change=lambda n: {"BaseDateTime": f"2021-02-03 10:00:0{n} CEST"}).encode(),
        "name their zone by 'CEST'",
    ),
    "day or month": (
        noaa(change=lambda n: {"BaseDateTime": f"03/04/2021 10:00:0{n}"}).encode(),
        "may be day first or month first",
    ),
    "no time": (
        noaa(change=lambda n: {"BaseDateTime": "yesterday"}).encode(),
        "no known form of time fits 'yesterday'",
    ),
    "swapped by range": (
        noaa(30, lambda n: {"LAT": f"{-120 + n / 100}", "LON": f"{35 + n / 100}"}).encode(),
        "longitude and latitude are swapped: 30 of 30 latitudes are beyond 90",
    ),
    "one row, swapped or damaged": (
        noaa(1, lambda n: {"LAT": "-120", "LON": "35"}).encode(),
        r"seem to be swapped: 1 of 1 latitudes .* if they are, name them .* `lon_deg: LAT, lat_deg: LON`; if not",
    ),
    "one damaged latitude of two": (
        noaa(2, lambda n: {"LAT": "-120", "LON": "350" if n else "35"}).encode(),
        r"no fix among 2 rows: latitude out of range 2 \(rows 2, 3\)",
    ),
}


@pytest.mark.parametrize(("content", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_that_cannot_be_read_says_why(put: Put, content: bytes, message: str) -> None:
    path = put("bad.csv", content)
    with pytest.raises(GeodiffError, match=message) as caught:
        list(open_fixes(path, now=NOW).batches())
    assert "bad.csv" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1


def test_a_column_of_sentences_is_no_mixture_of_formats(put: Put) -> None:
    rows = [f"2021-02-03T10:00:{n:02d}Z,r1,A,{position(lon=5.7 + n / 1000)}" for n in range(9)]
    fixes, _ = read_fixes(put("a", "\n".join(["received,station,channel,sentence", *rows])), now=NOW)
    assert fixes.height == 9


def test_all_refused_counts_reasons_with_rows(put: Put) -> None:
    path = put("a", noaa(9, lambda n: {"LAT": "91"} if n % 2 else {"BaseDateTime": "1970-01-01T00:00:00"}))
    with pytest.raises(GeodiffError) as caught:
        read_fixes(path, now=NOW)
    assert str(caught.value).endswith(
        "no fix among 9 rows: time before 1990 5 (rows 2, 4, 6, 8, 10); position not available 4 (rows 3, 5, 7, 9)"
    )


def test_one_fix_is_a_table(put: Put) -> None:
    assert read_fixes(put("a", noaa(1)), now=NOW)[0].height == 1


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
def test_a_truncated_stream_names_the_last_whole_line(put: Put, packing: str) -> None:
    text = noaa(8000, lambda n: {"LAT": f"{50 + math.sin(n * n):.6f}"})
    whole = PACKINGS[packing](text)
    reader = open_fixes(put("a", whole[: len(whole) // 2]), now=NOW)
    with pytest.raises(GeodiffError, match=rf"damaged {packing}.*after line (\d+)") as caught:
        list(reader.batches())
    line = int(str(caught.value).rsplit(" ", 1)[1])
    assert 1000 < line < 7000
    assert reader.counts.kept == line - 1


@pytest.mark.parametrize("share", [0.3, 0.75])
def test_a_short_truncated_stream_says_what_could_be_read_and_what_to_do(put: Put, share: float) -> None:
    whole = gzip.compress(noaa(200, lambda n: {"LAT": f"{50 + math.sin(n * n):.6f}"}).encode())
    path = put("a", whole[: int(len(whole) * share)])
    with pytest.raises(GeodiffError, match=r"damaged gzip .*: fetch it again; to take what is there, unpack") as caught:
        read_fixes(path, now=NOW)
    told = re.search(
        r": gzip -dc (\S+) > part.csv; (\d+) rows, (\d+) fixes until there, after line (\d+)$", str(caught.value)
    )
    assert told is not None, str(caught.value)
    rows = int(told[2])
    assert (told[1], int(told[3]), int(told[4])) == (str(path), rows, rows + 1)
    assert 150 * share < rows < 200 * share + 20


def test_a_stream_of_which_nothing_can_be_read_says_so(put: Put) -> None:
    long = noaa(9).replace(HEAD, HEAD + ",X" * 200)
    cut = gzip.compress(long.encode(), 0)[:300]  # stored as it stands, cut within the header
    with pytest.raises(GeodiffError, match=r"damaged gzip .*fetch it again; .* 0 rows, 0 fixes .* after line 0$"):
        read_fixes(put("a", cut), now=NOW)
    for content in (gzip.compress(long.encode())[:12], zstandard.compress(long.encode())[:-9]):
        with pytest.raises(GeodiffError, match=r"truncated or damaged .*: nothing of it can be read, fetch it again$"):
            read_fixes(put("a", content), now=NOW)


@pytest.mark.parametrize("minutes", [20, 60, 110])
@pytest.mark.parametrize("lat0", [-40.0, 1.0, 55.0])
@pytest.mark.parametrize("swapped", [True, False])
def test_fleets_that_report_hourly_are_told_by_motion_too(put: Put, minutes: int, lat0: float, swapped: bool) -> None:
    lon, lat, course, places = 10.0, lat0, 30.0, []
    for n in range(60):
        places.append((lon, lat, course))
        for _ in range(4):  # it turns on the way
            lat += 14 / 60 * minutes / 240 * math.cos(math.radians(course))
            lon += 14 / 60 * minutes / 240 * math.sin(math.radians(course)) / math.cos(math.radians(lat))
            course = (course + 6 * math.sin(n)) % 360

    def moved(n: int) -> dict[str, Any]:
        east, north, told = places[n]
        time = (START + timedelta(minutes=minutes * n)).strftime("%Y-%m-%dT%H:%M:%S")
        pair = (f"{east:.6f}", f"{north:.6f}") if swapped else (f"{north:.6f}", f"{east:.6f}")
        return {
            "MMSI": 219000001,
            "BaseDateTime": time,
            "LAT": pair[0],
            "LON": pair[1],
            "SOG": "14",
            "COG": f"{told:.1f}",
        }

    path = put("a", noaa(60, moved))
    if swapped:
        with pytest.raises(GeodiffError, match=r"swapped: of 59 steps .* `lon_deg: LAT, lat_deg: LON`"):
            read_fixes(path, now=NOW)
    else:
        assert read_fixes(path, now=NOW)[0].height == 60


def test_swapped_places_that_are_in_range_are_told_by_motion(put: Put) -> None:
    step = 10.1 / 60 / 60  # degrees of latitude that 10.1 knots make in a minute

    def moved(n: int) -> dict[str, Any]:
        north, east = 55 + n * step * 0.174, 10 + n * step * 0.985 / math.cos(math.radians(55))
        return {"MMSI": 219000001, "LAT": f"{east:.6f}", "LON": f"{north:.6f}"}

    with pytest.raises(GeodiffError, match=r"swapped: of 49 steps .* 100% agree .* `lon_deg: LAT, lat_deg: LON`"):
        read_fixes(put("a", noaa(50, moved)), now=NOW)


# -- times ------------------------------------------------------------------------------------------------------------

FORMS = {
    "blank between": "%Y-%m-%d %H:%M:%S",
    "fractions": "%Y-%m-%dT%H:%M:%S.000",
    "zulu": "%Y-%m-%dT%H:%M:%SZ",
    "utc": "%Y-%m-%d %H:%M:%S UTC",
    "offset": "%Y-%m-%dT%H:%M:%S+00:00",
    "slashes": "%Y/%m/%d %H:%M:%S",
    "compact": "%Y%m%d_%H%M%S",
    "digits": "%Y%m%d%H%M%S",
    "day first": "%d/%m/%Y %H:%M:%S",
    "month first": "%m/%d/%Y %H:%M:%S",
    "dots": "%d.%m.%Y %H:%M:%S",
    "twelve hours": "%m/%d/%Y %I:%M:%S %p",
    "month in letters": "%d-%b-%Y %H:%M:%S",
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_forms_of_time_are_told_by_samples(put: Put, form: str) -> None:
    text = noaa(5, lambda n: {"BaseDateTime": (START + timedelta(minutes=n)).strftime(form)})
    fixes, _ = read_fixes(put("a", text), now=NOW)
    assert fixes["time"].to_list() == [START + timedelta(minutes=n) for n in range(5)]


@pytest.mark.parametrize("factor", [1, 1000, 1_000_000])
def test_numbers_since_1970_are_told_by_their_size(put: Put, factor: int) -> None:
    text = noaa(2, lambda n: {"BaseDateTime": int((START.timestamp() + 60 * n) * factor)})
    assert read_fixes(put("a", text), now=NOW)[0]["time"].to_list() == [START, START + timedelta(minutes=1)]
    assert read_fixes(put("b", as_parquet(text)), now=NOW)[0]["time"][0] == START


def test_numbers_since_1970_may_have_blanks_around_them(put: Put) -> None:
    text = noaa(2, lambda n: {"BaseDateTime": f" {int(START.timestamp()) + 60 * n} "})
    assert read_fixes(put("a", text), now=NOW)[0]["time"].to_list() == [START, START + timedelta(minutes=1)]


def test_parquet_may_hold_times_of_any_offset(put: Put, tmp_path: Path) -> None:
    table = pa.Table.from_pylist(pl.read_csv(io.StringIO(noaa(2))).to_dicts())
    zone = pa.timestamp("ns", "+05:30")
    times = pa.array([START, START + timedelta(minutes=1)], pa.timestamp("ns", "UTC")).cast(zone)
    place = table.schema.get_field_index("BaseDateTime")
    pq.write_table(table.set_column(place, "BaseDateTime", times), tmp_path / "a")
    fixes, _ = read_fixes(tmp_path / "a", now=NOW)
    assert fixes["time"].to_list() == [START, START + timedelta(minutes=1)]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.dictionary(pa.int32(), pa.binary())], ids=str)
def test_parquet_may_hold_texts_as_bytes(tmp_path: Path, kind: pa.DataType) -> None:
    table = pa.Table.from_pylist(pl.read_csv(io.StringIO(noaa(4))).to_dicts())
    names = [b"LADY", "\u00c5SE".encode(), "\u00c5SE".encode("cp1252"), None]
    plain = pa.array(names, kind.value_type if pa.types.is_dictionary(kind) else kind)
    column = plain.dictionary_encode() if pa.types.is_dictionary(kind) else plain
    place = table.schema.get_field_index("VesselName")
    pq.write_table(table.set_column(place, "VesselName", column), tmp_path / "a")
    fixes, counts = read_fixes(tmp_path / "a", now=NOW)
    assert fixes["name"].to_list() == ["LADY", "\u00c5SE", "\u00c5SE", None]
    said = "lines that are no UTF-8, read as Windows-1252"
    assert (counts.noted, counts.examples[said]) == ({said: 1}, [3])


def with_column(path: Path, name: str, column: pa.Array) -> Path:
    """A sound Parquet table of as many rows as the column that takes the place of its own."""
    table = pa.Table.from_pylist(pl.read_csv(io.StringIO(noaa(len(column)))).to_dicts())
    place = table.schema.get_field_index(name)
    pq.write_table(table.set_column(place, name, column), path, use_dictionary=[name], compression="zstd")
    return path


@pytest.mark.parametrize("encoded", [True, False])
def test_a_long_text_that_all_rows_of_a_parquet_share_is_refused_before_it_is_copied(
    tmp_path: Path, encoded: bool
) -> None:
    texts: pa.Array = pa.array(["A" * (1 << 16)]).take(pa.array([0] * 400))
    column = texts.dictionary_encode() if encoded else texts
    path = with_column(tmp_path / "a", "VesselName", column)
    if not encoded:
        pq.write_table(pq.read_table(path), path, use_dictionary=False, compression="zstd")
    assert path.stat().st_size < 1 << 16
    before = pa.total_allocated_bytes()
    pa.default_memory_pool().release_unused()
    with pytest.raises(GeodiffError, match=r"column 'VesselName' holds texts of 65,\d{3} bytes, and at most 4,096"):
        read_fixes(path, now=NOW)
    assert pa.total_allocated_bytes() - before < 4 << 20


def test_texts_of_a_parquet_that_are_many_come_in_smaller_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables_parquet, "FRAME_BYTES", 41_000)
    path = with_column(tmp_path / "a", "VesselName", pa.array(["A" * 4_000] * 25).dictionary_encode())
    reader = open_fixes(path, now=NOW)
    batches = list(reader.batches())
    assert [batch.height for batch in batches] == [10, 10, 5]
    assert pl.concat(batches)["row"].to_list() == list(range(1, 26))


@pytest.mark.parametrize("timezone", [None, "Europe/Oslo"])
@pytest.mark.parametrize("kind", [pa.timestamp("ms"), pa.timestamp("us"), pa.timestamp("ms", "+05:30")], ids=str)
@pytest.mark.parametrize("ticks", [2**62, 2**63 - 1, 1 - 2**63])
def test_an_impossible_time_in_a_parquet_costs_its_row(
    tmp_path: Path, ticks: int, kind: pa.DataType, timezone: str | None
) -> None:
    sound = pa.array([START, START + timedelta(minutes=1)], pa.timestamp(kind.unit, "UTC")).cast(pa.int64()).to_pylist()
    column = pa.array([sound[0], ticks, sound[1]]).view(kind)
    fixes, counts = read_fixes(with_column(tmp_path / "a", "BaseDateTime", column), now=NOW, timezone=timezone)
    assert fixes["row"].to_list() == [1, 3]
    assert [why[:19] for why in counts.refused] == ["time cannot be read"]


@pytest.mark.parametrize("name", ["MMSI", "VesselName"])
@pytest.mark.parametrize("kind", [pa.duration("ms"), pa.decimal256(40, 2), pa.uuid(), pa.list_(pa.int64())], ids=str)
def test_columns_of_odd_kinds_are_refused_by_name(tmp_path: Path, kind: pa.DataType, name: str) -> None:
    path = with_column(tmp_path / "a", name, pa.nulls(3, kind))
    with pytest.raises(GeodiffError, match=rf"column '{name}' holds .*, which are no times, numbers or texts"):
        read_fixes(path, now=NOW)


def test_dates_beyond_the_calendar_are_no_names(tmp_path: Path) -> None:
    column = pa.array([2**31 - 1, 0], pa.int32()).view(pa.date32())
    assert read_fixes(with_column(tmp_path / "a", "VesselName", column), now=NOW)[0]["name"][1] == "1970-01-01"


def eastward(count: int, first: float = 179.0) -> str:
    """A table of one vessel that goes east by a hundredth of a degree a minute, counted from 0 to 360."""
    return noaa(count, lambda n: {"MMSI": 219000001, "LON": f"{first + n / 100:.2f}"})


@pytest.mark.parametrize("pack", [str.encode, as_parquet], ids=["text", "parquet"])
def test_a_file_may_count_longitudes_from_0_to_360(put: Put, pack: Callable[[str], bytes]) -> None:
    reader = open_fixes(put("a", pack(eastward(150))), now=NOW)
    for _ in range(2):  # each pass counts anew
        lon = pl.concat(list(reader.batches(rows=40)))["lon_deg"]
        wanted = [179 + n / 100 - (360 if n > 100 else 0) for n in range(150)]
        assert lon.to_list() == pytest.approx(wanted)
        assert reader.counts.refused == {}
        assert reader.counts.noted == {"longitudes beyond 180, counted from 0 to 360, brought home": 49}


def test_181_is_no_longitude_of_a_file_that_counts_to_360(put: Put) -> None:
    fixes, counts = read_fixes(put("a", eastward(300)), now=NOW)
    assert counts.refused == {"position not available": 1}
    assert fixes["lon_deg"].min() == pytest.approx(-179.99)


@pytest.mark.parametrize("among", [-10.0, 10.0])
def test_stray_longitudes_beyond_180_stay_refused(put: Put, among: float, caplog: pytest.LogCaptureFixture) -> None:
    """All of a file tells how it counts: nobody is below 0, and more are beyond 180 than damage explains."""
    text = noaa(2_000, lambda n: {"LON": "200.0" if n % 140 == 5 else str(among if n == 1_999 else 10 + n / 1e4)})
    reader = open_fixes(put("a", text), now=NOW)
    kept = sum(batch.height for batch in reader.batches(rows=500))
    assert (kept, reader.counts.refused) == (1_985, {"longitude out of range": 15})
    assert ("subtract 360" in caplog.text) == (among > 0)


def test_a_recording_may_begin_with_other_instruments(put: Put) -> None:
    body = "GPGGA,000000.00,5900.0,N,00500.0,E,1,08,1.0,0.0,M,0.0,M,,"
    bus = f"${body}*{checksum(body)}\r\n" * 1_200  # more than is looked at to tell the kind
    assert len(bus) > 65_536
    fixes, _ = read_fixes(put("a", bus + tagged(position(), c=1_600_000_000) + "\r\n"), now=NOW)
    assert fixes["row"].to_list() == [1_201]
    with pytest.raises(GeodiffError, match="not one valid AIS sentence"):
        read_fixes(put("b", bus), now=NOW)


def test_an_offset_is_turned_to_utc(put: Put) -> None:
    text = noaa(2, lambda n: {"BaseDateTime": f"2021-01-26T01:5{8 + n}:00+02:00"})
    assert read_fixes(put("a", text), now=NOW)[0]["time"].to_list() == [START, START + timedelta(minutes=1)]


def test_a_zone_is_applied_and_the_changed_hour_refused(put: Put) -> None:
    times = ["2020-10-25 01:30:00", "2020-10-25 02:30:00", "2020-10-25 03:30:00"]
    path = put("a", noaa(3, lambda n: {"BaseDateTime": times[n]}))
    fixes, counts = read_fixes(path, timezone="Europe/Oslo", now=NOW)
    assert [time.hour for time in fixes["time"]] == [23, 2]
    assert counts.refused == {"time cannot be read, or is skipped or repeated by the clocks of Europe/Oslo": 1}


def test_a_layout_of_local_times_needs_a_zone(put: Put) -> None:
    chart = put("map.yaml", "columns: {time: {column: BaseDateTime, timezone: local}, lon_deg: LON, lat_deg: LAT}")
    path = put("a", noaa())
    with pytest.raises(UsageError, match="times are local: name their zone"):
        open_fixes(path, layout=chart)
    fixes, _ = read_fixes(path, layout=chart, timezone="Europe/Oslo", now=NOW)
    assert fixes["time"][0] == START - timedelta(hours=1)
    assert fixes["vessel_id"].null_count() == 5
    with pytest.raises(UsageError, match="no time zone 'Mars'"):
        open_fixes(path, layout=chart, timezone="Mars")


def test_a_zone_by_letters_is_read_when_the_zone_is_given(put: Put) -> None:
    path = put("a", noaa(2, lambda n: {"BaseDateTime": f"2021-01-26 00:5{8 + n}:00 CET"}))
    assert read_fixes(path, timezone="Europe/Oslo", now=NOW)[0]["time"][0] == START


def test_times_of_day_need_a_date_and_pass_midnight(put: Put) -> None:
    rows = [("23:59:50", 1001), ("23:59:59", 1002), ("00:00:03", 1001), ("00:01:00", 1002)]
    text = "OBJECT_ID,VID,SEQUENCE_DTTM,LAT,LON,SPEED_OVER_GROUND,COURSE_OVER_GROUND\n"
    text += "".join(f"{n},{vid},{time},36.9,-76.1,35,792\n" for n, (time, vid) in enumerate(rows, 1))
    path = put("a", text)
    with pytest.raises(UsageError, match="times hold no date: give date"):
        open_fixes(path)
    for rows_at_once in (1, 100):
        batches = list(open_fixes(path, date="2021-01-25", now=NOW).batches(rows=rows_at_once))
        fixes = pl.concat(batches)
        assert [time.isoformat()[8:19] for time in fixes["time"]] == [
            "25T23:59:50",
            "25T23:59:59",
            "26T00:00:03",
            "26T00:01:00",
        ]
    assert fixes["vessel_id"].null_count() == 4  # the identity is the truth of a benchmark
    assert fixes["sog_kn"].to_list() == pytest.approx([3.5] * 4)
    assert fixes["cog_deg"].to_list() == pytest.approx([79.2] * 4)
    truth, _ = read_fixes(path, date="2021-01-25", truth=True, now=NOW)
    assert truth["vessel_id"].to_list() == [1001, 1002, 1001, 1002]
    with pytest.raises(UsageError, match="2020-01-31"):
        open_fixes(path, date="25.1.2021")


def test_a_row_that_comes_a_second_late_is_no_midnight(put: Put) -> None:
    times = ["01:00:00", "01:00:05", "01:00:04", "01:00:10"]
    text = noaa(4, lambda n: {"BaseDateTime": times[n]})
    fixes, _ = read_fixes(put("a", text), date="2021-01-25", now=NOW)
    assert [f"{time:%d %H:%M:%S}" for time in fixes["time"]] == [f"25 {time}" for time in times]


@pytest.mark.parametrize("rows_at_once", [1, 7, 100])
def test_times_of_day_of_a_file_sorted_by_vessel_begin_anew_with_each(put: Put, rows_at_once: int) -> None:
    text = "MMSI,BaseDateTime,LAT,LON\n"
    for vessel in range(3):
        for n in range(14):  # from 22:00 on the day before midnight to the next evening
            text += f"36700000{vessel + 1},{(22 + 2 * n) % 24:02d}:00:00,{30 + vessel},{-80 + n / 100}\n"
    reader = open_fixes(put("a", text), date="2021-01-25", now=NOW)
    fixes = pl.concat(list(reader.batches(rows=rows_at_once)))
    hours = [datetime(2021, 1, 25, 22, tzinfo=UTC) + timedelta(hours=2 * n) for n in range(14)]
    assert fixes["time"].to_list() == hours * 3
    said = "vessels in a file sorted by vessel, each taken to begin on the day that was given"
    assert (reader.counts.noted, reader.counts.examples[said]) == ({said: 2}, [16, 30])


def test_truth_that_is_not_there_cannot_be_asked_for(put: Put) -> None:
    with pytest.raises(UsageError, match="holds no truth"):
        open_fixes(put("a", noaa()), truth=True)


# -- layouts ----------------------------------------------------------------------------------------------------------


def test_danish_files_hold_words_and_stations(put: Put) -> None:
    head = (
        "# Timestamp,Type of mobile,MMSI,Latitude,Longitude,Navigational status,ROT,SOG,COG,Heading,IMO,Name,Ship type"
    )
    rows = [
        '01/02/2021 00:00:00,Class A,219000001,55.1,10.1,Moored,-3.5,0.1,12.0,13,9951824,"A, B",Cargo',
        "01/02/2021 00:00:01,Base Station,2190068,55.2,10.2,,,,,,Unknown,Unknown,Undefined",
        "01/02/2021 00:00:02,AtoN,992190001,55.3,10.3,Unknown value,,,,,Unknown,Unknown,Undefined",
        "01/02/2021 00:00:03,Class B,219000002,55.4,10.4,Unknown value,,5.0,90.0,,Unknown,Unknown,Zeppelin",
    ]
    fixes, counts = read_fixes(put("a", "\n".join([head, *rows])), now=NOW)
    assert counts.refused == {"base station": 1, "aid to navigation": 1}
    assert counts.blanked == {"ship type undefined": 1}
    assert fixes["time"][0] == datetime(2021, 2, 1, tzinfo=UTC)  # the layout says day first
    assert fixes["nav_status"].to_list() == [5, None]
    assert fixes["ship_type"].to_list() == [70, None]
    assert fixes["name"].to_list() == ["A, B", None]
    assert fixes["imo"].to_list() == [9951824, None]
    assert fixes["rot_deg_min"].to_list() == [-3.5, None]


def test_static_messages_join_the_later_fixes_of_their_vessel(put: Put) -> None:
    head = "MMSI,Message_ID,Time,Millisecond,Longitude,Latitude,SOG,Vessel_Name,Ship_Type,Dimension_to_Bow,"
    head += "Dimension_to_stern,Draught"
    rows = [
        "219000001,1,20210125_000001,250,10.1,55.1,5.0,None,None,None,None,None",
        "219000001,5,20210125_000002,0,None,None,None,SHIP ONE   ,70,90,10,63",
        "219000002,1,20210125_000003,0,10.2,55.2,5.0,None,None,None,None,None",
        "219000001,1,20210125_000004,0,10.1,55.1,5.0,None,None,None,None,None",
        "2190068,4,20210125_000005,0,10.1,55.1,None,None,None,None,None,None",
    ]
    path = put("a", "\n".join([head, *rows]))
    for rows_at_once in (1, 2, 100):
        reader = open_fixes(path, now=NOW)
        fixes = pl.concat(reader.batches(rows=rows_at_once))
        assert fixes["row"].to_list() == [2, 4, 5]
        assert fixes["name"].to_list() == [None, None, "SHIP ONE"]
        assert fixes["ship_type"].to_list() == [None, None, 70]
        assert fixes["length_m"].to_list() == [None, None, 100.0]
        assert fixes["draught_m"].to_list() == [None, None, pytest.approx(6.3)]
    assert fixes["time"][0] == datetime(2021, 1, 25, 0, 0, 1, 250_000, tzinfo=UTC)
    assert reader.counts.refused["base station"] == 1
    assert reader.counts.refused["no position: static data, joined to the fixes after it"] == 1


def test_a_draught_that_no_ship_can_report_is_none(put: Put) -> None:
    """Type 5 says 25.5 m at most."""
    rows = [f"219000001,2021-01-25T23:58:0{n},55,10,{draught}\n" for n, draught in enumerate((8.0, 25.5, 30.0))]
    fixes, _ = read_fixes(put("a", "MMSI,BaseDateTime,LAT,LON,Draft\n" + "".join(rows)), now=NOW)
    assert fixes["draught_m"].to_list() == [8.0, 25.5, None]


def test_marinetraffic_speaks_in_tenths(put: Put) -> None:
    text = "MMSI,SHIP_ID,STATUS,SPEED_KNOTSx10,LON,LAT,COURSE,HEADING,TIMESTAMP_UTC,VESSEL_TYPE,DRAUGHT_METERSx10\n"
    text += "305575000,1,99,171,-6.0,35.9,269,511,2016-06-01 04:43:50,Container Ship,72\n"
    text += "305575001,2,95,0,-6.0,35.9,0,511,2016-06-01 04:43:50,Manned VTS,\n"
    fixes, counts = read_fixes(put("a", text), now=NOW)
    assert counts.refused == {"base station": 1}
    row = fixes.row(0, named=True)
    assert (row["sog_kn"], row["draught_m"]) == (pytest.approx(17.1), pytest.approx(7.2))
    assert (row["nav_status"], row["heading_deg"], row["ship_type"]) == (None, None, 70)


def test_norwegian_files_may_write_commas(put: Put) -> None:
    text = "mmsi;date_time_utc;lon;lat;sog;cog;true_heading;nav_status\n"
    text += "219000001;2021-01-25 23:58:00;10,5;59,25;7,5;80,5;81;-99\n"
    row = read_fixes(put("a", text), now=NOW)[0].row(0, named=True)
    assert (row["lon_deg"], row["lat_deg"], row["sog_kn"], row["nav_status"]) == (10.5, 59.25, 7.5, None)


def test_separators_between_tracks_are_blank_rows(put: Put) -> None:
    text = "CRAFT_ID,LON,LAT,COURSE,SPEED,TIMESTAMP,Track_ID,SHIP_TYPE\n"
    text += "2111929706,115.8,-34.8,301.0,13.0,2018-04-07 11:48:51,T1,Cargo\nEND,,,,,,,Cargo\n"
    text += "1.2238e+10,115.8,-34.8,301.0,13.0,2018-04-07 11:48:51,T2,Passenger\n"
    fixes, counts = read_fixes(put("a", text), now=NOW)
    assert counts.refused == {"blank row": 1}
    assert fixes["vessel_id"][0] == 2111929706
    assert fixes["vessel_id"][1] >= HASHED_FROM
    assert fixes["name"].to_list() == [None, "1.2238e+10"]  # the text is kept where there is no name
    assert fixes["ship_type"].to_list() == [70, 60]


def test_old_codes_of_ships_become_those_of_the_standard(put: Put) -> None:
    text = "MMSI,BaseDateTime,LAT,LON,VesselType\n"
    text += "".join(
        f"219000001,2017-01-01T00:00:0{n},20,-80,{code}\n" for n, code in enumerate((1004, 1024, 1001, 70.0))
    )
    assert read_fixes(put("a", text), now=NOW)[0]["ship_type"].to_list() == [70, 80, 30, 70]


def test_our_own_table_reads_back(put: Put, tmp_path: Path) -> None:
    fixes, _ = read_fixes(put("a", noaa()), now=NOW)
    fixes.write_parquet(tmp_path / "b")
    again, counts = read_fixes(tmp_path / "b", now=NOW)
    assert again.select(fixes.columns).equals(fixes)
    assert counts.kept == fixes.height


def test_what_was_rejected_or_made_up_is_not_read_as_observed(put: Put, tmp_path: Path) -> None:
    fixes, _ = read_fixes(put("a", noaa(4)), now=NOW)
    states = pl.Series("state", ["observed", "imputed", "rejected", "forecast"])
    fixes.with_columns(states).write_parquet(tmp_path / "b")
    again, counts = read_fixes(tmp_path / "b", now=NOW)
    assert again["row"].to_list() == [2]
    assert counts.refused == {"rejected when it was cleaned": 1, "imputed, forecast or generated, not observed": 2}


def test_a_column_map_scales_adds_and_names(put: Put) -> None:
    chart = put(
        "map.yaml",
        """
        name: harbour
        columns:
          vessel_id: {column: craft, kind: text, join: [port]}
          time: when
          lon_deg: [easting, x]
          lat_deg: y
          sog_kn: {column: v, scale: 1.943844, nulls: [-1]}
          rot_deg_min: {column: turn, ais_rot: true}
          ship_type: {column: kind, values: {coaster: 71, 5: 80}}
          length_m: {column: bow, plus: stern}
        apart:
          - {column: kind, values: [buoy], reason: a buoy}
        """,
    )
    text = "craft|port|when|x|y|v|turn|kind|bow|stern\n"
    text += "7|OSL|2021-01-25 00:00|10|59|5|-47|Coaster|30|12\n"
    text += "8|OSL|2021-01-25 00:00|10|59|-1|-128|5|0|0\n"
    text += "9|OSL|2021-01-25 00:00|10|59|1|0|buoy|0|0\n"
    fixes, counts = read_fixes(put("a", text), layout=chart, now=NOW)
    assert counts.refused == {"a buoy": 1}
    assert fixes["source"].unique().to_list() == ["harbour"]
    assert fixes["name"].to_list() == ["7/OSL", "8/OSL"]
    assert fixes["sog_kn"].to_list() == [pytest.approx(9.71922), None]
    assert fixes["rot_deg_min"].to_list() == [pytest.approx(-((47 / 4.733) ** 2)), None]
    assert fixes["ship_type"].to_list() == [71, 80]
    assert fixes["length_m"].to_list() == [42.0, None]


def mapped(put: Put, columns: str, text: str, more: str = "") -> tuple[pl.DataFrame, ReadCounts]:
    """What is read of a text by a column map whose columns are given but for place and, unless given, identity."""
    chart = put("map.yaml", f"name: mine\n{more}columns:\n  lon_deg: X\n  lat_deg: Y\n{columns}")
    return read_fixes(put("a", text), layout=chart, now=NOW)


ZONED = {
    "%Y-%m-%d %H.%M.%S %z": "2021-02-01 12.00.00 +0200",
    "%d.%m.%Y %H:%M:%S %z": "01.02.2021 12:00:00 +0200",
    "%d.%m.%Y %H:%M:%S%:z": "01.02.2021 12:00:00+02:00",
    "%d.%m.%Y %H:%M:%S%#z": "01.02.2021 12:00:00+02",
}


@pytest.mark.parametrize("form", ZONED)
def test_an_offset_that_a_column_map_names_is_read(put: Put, form: str) -> None:
    columns = f"  vessel_id: ID\n  time: {{column: T, formats: ['{form}'], timezone: America/New_York}}\n"
    fixes, _ = mapped(put, columns, f"ID,T,X,Y\n219000001,{ZONED[form]},10,55\n")
    assert fixes["time"].to_list() == [datetime(2021, 2, 1, 10, tzinfo=UTC)]


def test_offsets_of_whole_hours_are_sniffed(put: Put) -> None:
    text = noaa(3, lambda n: {"BaseDateTime": f"2021-02-01 12:0{n}:00+02"})
    assert read_fixes(put("a", text), now=NOW)[0]["time"][2] == datetime(2021, 2, 1, 10, 2, tzinfo=UTC)


@pytest.mark.parametrize("when", ["01.02.2021 10:00:00", "1612173600"])
@pytest.mark.parametrize(
    "formats",
    ["'%d.%m.%Y %H:%M:%S', epoch_s", "epoch_s, '%d.%m.%Y %H:%M:%S'", "epoch_ms, epoch_s, '%d.%m.%Y %H:%M:%S'"],
)
def test_of_several_forms_of_time_the_one_that_fits_counts(put: Put, when: str, formats: str) -> None:
    columns = f"  vessel_id: ID\n  time: {{column: T, formats: [{formats}]}}\n"
    fixes, _ = mapped(put, columns, f"ID,T,X,Y\n219000001,{when},10,55\n")
    assert fixes["time"].to_list() == [datetime(2021, 2, 1, 10, tzinfo=UTC)]


def test_nulls_of_a_column_map_hold_for_numbers_and_for_both_columns_of_one(put: Put) -> None:
    columns = """  vessel_id: ID
  time: T
  sog_kn: S
  heading_deg: H
  length_m: {column: A, plus: B, nulls: [-1]}
"""
    text = "ID,T,X,Y,S,H,A,B\n"
    for n, row in enumerate(("99,-999,50,-1", "99.9,10,50,20", "-999,999,-1,20", "9,11,50,20")):
        text += f"219000001,2021-02-01 10:0{n}:00,10,55,{row}\n"
    fixes, counts = mapped(put, columns, text, "nulls: ['99', '99.9', '-999', '999']\n")
    assert counts.refused == {}
    assert fixes["sog_kn"].to_list() == [None, None, None, 9.0]
    assert fixes["heading_deg"].to_list() == [None, 10.0, None, 11.0]
    assert fixes["length_m"].to_list() == [None, 70.0, None, 70.0]
    speeds = "  vessel_id: ID\n  time: T\n  sog_kn: {column: A, hypot: B, nulls: [-99]}\n"
    assert mapped(put, speeds, text.replace(",50,-1", ",3,-99"))[0]["sog_kn"][0] is None


def test_columns_that_together_name_a_vessel_are_texts(put: Put) -> None:
    columns = "  vessel_id: {column: ID, join: [J]}\n  time: T\n"
    with pytest.raises(UsageError, match="join needs kind: text"):
        mapped(put, columns, "ID,J,T,X,Y\n219000001,1,2021-02-01 10:00:00,10,55\n")


def test_a_strange_word_among_codes_costs_no_row(put: Put) -> None:
    kinds, statuses = ["70", "0", "7x", "Sailing", ""], ["0", "15", "moored", "asleep", "5"]
    lines = noaa().splitlines()
    text = "\n".join(
        [lines[0] + ",VesselType,Status", *(f"{line},{kinds[n]},{statuses[n]}" for n, line in enumerate(lines[1:]))]
    )
    fixes, counts = read_fixes(put("a", text + "\n"), now=NOW)
    assert fixes["ship_type"].to_list() == [70, None, None, 36, None]
    assert fixes["nav_status"].to_list() == [0, None, 5, None, 5]
    assert counts.blanked == {"ship type undefined": 1, "navigational status undefined": 1}


def test_what_single_precision_cannot_hold_is_refused(tmp_path: Path) -> None:
    table = pl.read_csv(io.StringIO(noaa())).with_columns(pl.lit(1611619080 + 60).alias("epoch"))
    for column in ({"MMSI": pl.col("MMSI").cast(pl.Float32)}, {"BaseDateTime": pl.col("epoch").cast(pl.Float32)}):
        table.with_columns(**column).drop("epoch").write_parquet(tmp_path / "a")
        with pytest.raises(GeodiffError, match="single precision cannot hold so large numbers"):
            read_fixes(tmp_path / "a", now=NOW)
    table.with_columns(BaseDateTime=pl.duration(seconds=pl.col("epoch"))).drop("epoch").write_parquet(tmp_path / "a")
    with pytest.raises(GeodiffError, match="durations, which are no times"):
        read_fixes(tmp_path / "a", now=NOW)


def test_a_heading_just_west_of_north_is_stored_below_360(put: Put) -> None:
    fixes, _ = read_fixes(put("a", noaa(1, lambda n: {"Heading": "359.999999", "COG": "359.999999"})), now=NOW)
    assert fixes.select("heading_deg", "cog_deg").row(0) == (0.0, 0.0)


def test_a_named_layout_must_fit(put: Put) -> None:
    with pytest.raises(GeodiffError, match=r"layout 'dma' needs # Timestamp/Timestamp, .* among the columns: MMSI"):
        open_fixes(put("a", noaa()), layout="dma")


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        open_fixes(tmp_path / "none.csv")
    with pytest.raises(UsageError, match="no file matches"):
        open_fixes(tmp_path / "*.csv")
    with pytest.raises(UsageError, match="no files in this folder"):
        open_fixes(tmp_path)


# -- real files -------------------------------------------------------------------------------------------------------

SAMPLES = [
    ("formats/noaa_2022-12-08_17columns.parquet", "noaa", 19_408, {"course is not a number": 1}),
    ("formats/noaa_2023-01-01_1000rows.parquet", "noaa", 1_000, {}),
    ("formats/dma_vessel_day_2025-01-25.parquet", "dma", 6_710, {}),
    (
        "formats/exactearth_2021-07-01.parquet",
        "exactearth",
        2_498,
        {
            "base station": 19,
            "aid to navigation": 13,
            "no position: static data, joined to the fixes after it": 64,
            "no identity": 1,
            "position not available": 40,
        },
    ),
    (
        "formats/decoded_traffic_Gibraltar_Straight_all_ships_2016A_micro_20k_sample_ais_data.parquet",
        "marinetraffic",
        19_999,
        {"base station": 171, "aid to navigation": 94},
    ),
    (
        "formats/decoded_reports_baltic_all_ships_april_2018_micro_20k_sample_ais_data.parquet",
        "baltic",
        19_999,
        {},
    ),
    ("norway_encounters.parquet", "norway", 32_392, {}),
]


@pytest.mark.data
@pytest.mark.parametrize(("name", "layout", "rows", "refused"), SAMPLES, ids=[name[:30] for name, *_ in SAMPLES])
def test_real_samples_are_recognised_and_accounted_for(
    geodiff_data: Path, name: str, layout: str, rows: int, refused: dict[str, int]
) -> None:
    reader = open_fixes(geodiff_data / "ais" / name)
    kept = sum(batch.height for batch in reader.batches())
    assert reader.layout == layout
    assert reader.counts.read == rows
    assert reader.counts.refused == refused
    assert kept == reader.counts.kept == rows - sum(refused.values())


@pytest.mark.data
def test_the_baltic_clock_agrees_with_its_own_text(geodiff_data: Path) -> None:
    path = geodiff_data / "ais" / SAMPLES[5][0]
    fixes, _ = read_fixes(path)
    told = pl.read_parquet(path)["timestamp_pretty"].str.to_datetime("%d/%m/%Y %H:%M:%S").dt.replace_time_zone("UTC")
    assert (fixes["time"] == told).all()
    assert set(STATIC_TYPES) - set(fixes.columns) == {"destination"}
