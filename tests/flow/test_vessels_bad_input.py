"""Bad input to the jobs over tracks: one line with the file, rows and counts, the exit code, and nothing catalogued."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from typer.testing import CliRunner, Result

from geodiff.cli import app
from geodiff.testing.nmea import position, tagged

Cli = Callable[..., Result]

HEADER = (
    "MMSI,BaseDateTime,LAT,LON,SOG,COG,Heading,VesselName,IMO,CallSign,VesselType,Status,Length,Width,Draft,Cargo\n"
)


def fixes(count: int = 30, **changes: str) -> str:
    """A table of a vessel that goes north, one fix a minute; ``changes`` may use ``{n}`` and ``{n:02d}``."""
    when, lat = "2020-01-01T00:{n:02d}:00", "29.{n:02d}"
    sound = {"mmsi": "368084090", "time": when, "lat": lat, "lon": "-89.9", "sog": "9", "heading": "0.0"}
    row = "{mmsi},{time},{lat},{lon},{sog},0.0,{heading},A,,B,70,0,10,5,2,\n".format(**(sound | changes))
    return HEADER + "".join(row.format(n=n) for n in range(count))


SOUND = [tagged(position(lon=5.7 + n / 1000), c=1_700_000_000 + 60 * n) for n in range(9)]
DAMAGED = [line[:-1] + ("0" if line[-1] != "0" else "1") for line in SOUND]
LONG = gzip.compress((fixes() + "".join(f"{n},x\n" for n in range(20_000))).encode(), mtime=0)
SHORT = gzip.compress((fixes() + fixes(200, name="A{n}").removeprefix(HEADER)).encode(), mtime=0)
PACKED = gzip.compress("\n".join(SOUND * 400).encode(), mtime=0)

# What -> content, and what the error says beside the name of the file.
BAD: dict[str, tuple[str | bytes, list[str]]] = {
    "truncated gz": (LONG[: len(LONG) // 2], ["truncated or damaged gzip", "after line "]),
    "truncated short gz": (
        SHORT[: len(SHORT) * 3 // 4],
        ["fetch it again", "gzip -dc", "fixes until there, after line "],
    ),
    "truncated gz of sentences": (PACKED[: len(PACKED) // 2], ["data end early after line ", "fixes until there"]),
    "truncated zst of sentences": (
        zstandard.compress("\n".join(SOUND * 400).encode()) + zstandard.compress("\n".join(SOUND).encode())[:-40],
        ["data end early after line ", "fetch it again", "zstd -dc"],
    ),
    "damaged gz of sentences": (PACKED[:-8] + bytes(8), ["truncated or damaged gzip"]),
    "truncated within the first bytes": (LONG[:8], ["truncated or damaged gzip"]),
    "binary junk": (bytes(range(256)) * 40, ["binary data", "control characters"]),
    "empty": ("", ["empty file (0 bytes)"]),
    "blank": ("\n \n", ["empty file"]),
    "header alone": (HEADER, ["no rows below the header"]),
    "another schema": ("id,amount,currency\n1,2,EUR\n", ["columns id, amount, currency", "column map"]),
    "all of other fields": (HEADER + "1,2,3\n" * 4, ["4 rows", "other number of fields", "rows 2, 3, 4, 5"]),
    "damaged parquet": (b"PAR1" + b"\0" * 400 + b"PAR1", ["truncated or damaged Parquet"]),
    "bad checksums": ("\n".join(DAMAGED), ["bad checksum (9, line 1, 2, 3, 4, 5)"]),
    "no clock": (position() + "\n", ["no time", "1 (row 1)"]),
    "mixed formats": (fixes(20) + "\n".join(SOUND), ["line 1 is the header of a table", "line 22", "split the file"]),
    "10^9 in every position": (fixes(lon="1000000000"), ["longitude out of range 30 (rows 2, 3, 4, 5, 6, ...)"]),
    "10^9 in every speed": (fixes(sog="1e9"), ["speed out of range 30"]),
    "10^9 in every identity": (fixes(mmsi="1000000000"), ["identity out of range 30"]),
    "swapped, by range": (fixes(lat="-120.{n:02d}", lon="30"), ["are swapped", "30 of 30", "lon_deg: LAT"]),
    "zone by letters": (fixes(time="2020-01-01 00:{n:02d}:00 CEST"), ["'CEST', which is not unique"]),
    "all without position": (fixes(lat="91", lon="181"), ["position not available 30"]),
    "all rejected by cleaning": (fixes(mmsi="003660001"), ["none of 30 fixes is left", "30 base station"]),
}


def refused(result: Result, code: int, *fragments: str, out: Path) -> None:
    """One line that teaches, and nothing in the catalogue nor half-written beside it."""
    said = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert result.exit_code == code, result.output
    assert len(said) == 1, result.output
    assert "unexpected" not in said[0]
    for fragment in fragments:
        assert fragment in said[0]
    assert not [path for path in out.rglob("*") if path.is_file() and not path.name.startswith(".")]


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_told_and_nothing_is_left(geodiff: Cli, tmp_path: Path, kind: str) -> None:
    content, fragments = BAD[kind]
    path, out = tmp_path / "bad.csv", tmp_path / "out"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(geodiff("vessels", "clean", path, "--out", out), 1, "bad.csv", *fragments, out=out)


def test_local_times_that_the_clocks_skip_or_repeat(geodiff: Cli, tmp_path: Path) -> None:
    path, out = tmp_path / "local.csv", tmp_path / "out"
    path.write_text(fixes(time="2020-03-29T02:{n:02d}:00"))
    words = ("vessels", "clean", path, "--out", out, "--timezone")
    refused(geodiff(*words, "Europe/Oslo"), 1, "skipped or repeated by the clocks of Europe/Oslo 30", out=out)
    refused(geodiff(*words, "Oslo"), 2, "'Oslo'", "Europe/Oslo", out=out)


# What -> content, and what the summary of a run that goes through says.
PARTLY: dict[str, tuple[str, list[str]]] = {
    "some bad checksums": ("\n".join([*SOUND, *DAMAGED]), ["9 bad checksum (such as row 10, 11, 12, 13, 14)"]),
    "a line of another table": (fixes(5) + "id,amount\n", ["1 other number of fields", "(such as row 7)"]),
    "10^9 in one field": (fixes(5) + fixes(1, lat="1000000000")[len(HEADER) :], ["1 latitude out of range", "row 7"]),
    "one fix": (fixes(1), ["1 rows read, 1 fixes"]),
    "a heading that is none": (fixes(2, heading="444"), ["set to null 2 heading undefined (such as row 2, 3)"]),
}


@pytest.mark.parametrize("kind", PARTLY)
def test_what_is_partly_bad_is_read_and_counted(geodiff: Cli, tmp_path: Path, kind: str) -> None:
    content, fragments = PARTLY[kind]
    (tmp_path / "a").write_text(content)
    done = geodiff("vessels", "clean", tmp_path / "a", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    said = " ".join(done.stdout.split())
    for fragment in fragments:
        assert fragment in said


def test_standard_input_is_named(tmp_path: Path) -> None:
    for given in (b"", b"no sentences\n"):
        words = ["vessels", "clean", "-", "--out", str(tmp_path / "out")]
        result = CliRunner().invoke(app, words, input=given, prog_name="geodiff")
        refused(result, 1, "standard input: ", out=tmp_path / "out")
        assert not list((tmp_path / "out").glob(".stdin*"))


def test_a_finished_run_keeps_no_copy_of_standard_input(tmp_path: Path) -> None:
    words = ["vessels", "clean", "-", "--out", str(tmp_path / "out")]
    for _ in range(2):
        result = CliRunner().invoke(app, words, input="\n".join(SOUND).encode(), prog_name="geodiff")
        assert result.exit_code == 0, result.output
        assert not list((tmp_path / "out").glob(".stdin*"))


SENTENCES = "2020-01-01 00:00:0{} !AIVDM,1,1,,A,13aDp<PP000IwSlN?Wm@0?wN2<1T,0*00\n"


@pytest.mark.parametrize(
    ("option", "value"), [("--timezone", "Europe/Oslo"), ("--date", "2021-05-05"), ("--layout", "noaa")]
)
def test_what_nmea_would_ignore_is_refused(geodiff: Cli, tmp_path: Path, option: str, value: str) -> None:
    """An hour that is wrong in silence is worse than a message."""
    (tmp_path / "log.nmea").write_text("".join(SENTENCES.format(n) for n in range(10)))
    words = ("vessels", "clean", tmp_path / "log.nmea", "--out", tmp_path / "out")
    refused(geodiff(*words, option, value), 2, "NMEA", out=tmp_path / "out")


def test_an_output_folder_that_cannot_be_written(geodiff: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").write_text(fixes())
    (tmp_path / "file").write_text("in the way")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        refused(geodiff("vessels", "clean", tmp_path / "a.csv", "--out", out), 2, "not a folder", out=out)
    # Tests may run as root, for whom every folder can be written: only the question can be answered otherwise.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    out = tmp_path / "out"
    refused(geodiff("vessels", "clean", tmp_path / "a.csv", "--out", out), 2, "--out", "not writable", out=out)


def test_an_output_folder_that_holds_something_else(geodiff: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(fixes())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "catalog.json").write_text("mine, and no STAC")
    result = geodiff("vessels", "clean", tmp_path / "a.csv", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "catalog.json" in result.stderr
    assert (tmp_path / "out" / "catalog.json").read_text() == "mine, and no STAC"


def test_folders_and_files_that_are_not_there(geodiff: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    for given, said in (
        ("empty", "no files in this folder"),
        ("no.csv", "no such file"),
        ("no*.csv", "no file matches"),
    ):
        refused(geodiff("vessels", "clean", tmp_path / given, "--out", out), 2, given, said, out=out)


def test_a_coastline_without_shapes(geodiff: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(fixes())
    words = ("vessels", "forecast", tmp_path / "a.csv", "--model", "kalman", "--coastline", tmp_path / "a.csv")
    result = geodiff(*words, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "a.csv: a table without shapes" in result.stderr
    assert not (tmp_path / "out" / "catalog.json").exists()
    # Before the fixes are read and cleaned.
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("day") / "day.csv"
    path.write_text(fixes())
    return path


def test_one_bad_file_among_good_ones_stops_the_run(geodiff: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.csv").write_text(fixes())
    (folder / "b.csv").write_bytes(bytes(range(256)) * 40)
    result = geodiff("vessels", "clean", folder, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "b.csv" in result.stderr
    assert not (tmp_path / "out" / "catalog.json").exists()
    (folder / "b.csv").write_bytes(b"!AIVDM,1,1,,A,13HOI:0P0000VOHLCnHQKwvL05Ip,0*23\n")
    mixed = geodiff("vessels", "clean", folder, "--out", tmp_path / "out2")
    # Formats may be mixed by file, whatever their names.
    assert mixed.exit_code in (0, 1)


def test_a_region_without_fixes(geodiff: Cli, day: Path, tmp_path: Path) -> None:
    words = ("vessels", "clean", day, "--out", tmp_path / "out", "--bbox", 100, 0, 110, 10)
    refused(geodiff(*words), 1, "outside the region", out=tmp_path / "out")


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (["clean", "nowhere.csv"], ["nowhere.csv"]),
        (["impute", "{day}", "--model", "hermit"], ["hermit", "hermite"]),
        (["impute", "{day}", "--step", "0"], ["step_s"]),
        (["forecast", "{day}", "--hours", "13"], ["hours"]),
        (["forecast", "{day}", "--coastline", "none.shp"], ["none.shp"]),
        (["forecast", "{day}", "--at", "noon"], ["at"]),
        (["score", "{day}", "--calibration", "none.json"], ["none.json"]),
        (["score", "{day}", "--alpha", "2"], ["alpha"]),
        (["associate", "{day}", "--sensor", "sonar"], ["sensor"]),
        (["associate", "{day}", "--position", "here"], ["position"]),
        (["clean", "{day}", "--layout", "nothing"], ["nothing"]),
        (["clean", "{day}", "--bbox", "10", "50", "20", "40"], ["south"]),
        (["clean", "{day}", "--name", "../x"], ["--name"]),
    ],
)
def test_wrong_usage(geodiff: Cli, day: Path, tmp_path: Path, words: list[str], fragments: list[str]) -> None:
    given = [word.format(day=day) for word in words]
    result = geodiff("vessels", *given, "--out", tmp_path / "out")
    refused(result, 2, *fragments, out=tmp_path / "out")
