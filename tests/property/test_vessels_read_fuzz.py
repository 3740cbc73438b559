"""Readers against hostile bytes: an answer that adds up or one line of error, whatever stands in the file."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from geodiff.schema import GeodiffError
from geodiff.testing.tracks_hostile import HEAD, ROWS, TABLE, TARGETS, packed_tables, read_or_refuse, seeds
from geodiff.vessels.read import open_fixes
from geodiff.vessels.reading import ReadCounts
from geodiff.vessels.sniff import Sniffed
from geodiff.vessels.tables_text import TextTable, open_text

FILES = [TABLE, *packed_tables()]
SEEDS = [
    b'"',
    b",",
    b"\n",
    b"\r",
    b"\x00",
    b"1e9",
    b"-1000000000",
    b"nan",
    b"inf",
    b"None",
    b"9" * 25,
    b"\xff\xfe",
    b"\xc3",
]

QUIET = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(FILES)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.sampled_from(["set", "insert", "delete", "cut", "seed", "repeat"])):
            case "set" if data:
                data[at] = draw(st.integers(0, 255))
            case "insert":
                data[at:at] = draw(st.binary(max_size=8))
            case "delete":
                del data[at : at + draw(st.integers(1, 60))]
            case "cut":
                del data[at:]
            case "seed":
                data[at:at] = draw(st.sampled_from(SEEDS))
            case "repeat":
                data[at:at] = data[at : at + 200]
    return bytes(data)


@settings(QUIET, max_examples=60)
@given(data=mutated(), rows=st.sampled_from([7, 500_000]))
def test_mutated_files_are_read_or_refused(tmp_path: Path, data: bytes, rows: int) -> None:
    path = tmp_path / "a"
    path.write_bytes(data)
    read_or_refuse(path, rows)


@settings(QUIET, max_examples=40)
@example(data="a\x85b\rc,\u2028d\n1,2\n".encode())  # line ends of other alphabets in a header
@given(
    data=st.one_of(
        st.binary(max_size=300), st.text(max_size=300).map(str.encode), st.binary(max_size=99).map(gzip.compress)
    )
)
def test_any_bytes_are_read_or_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(data)
    read_or_refuse(path, 500_000)


@settings(QUIET, max_examples=40)
@given(
    text=st.lists(st.sampled_from([*ROWS[:4], "\n", "a,b\n", '"\n', "x" * 50, ",", '"a,b",' * 6, "\r\n"]), max_size=20)
)
def test_blocks_do_not_change_what_is_read(tmp_path: Path, text: list[str]) -> None:
    path = tmp_path / "a"
    path.write_text(HEAD + ROWS[0] + "".join(text))
    whole = open_text(Sniffed(path, "text"))
    told = []
    for size in (64, 301, 1 << 20):
        table, counts = (
            TextTable(whole.file, whole.columns, whole.delimiter, whole.first_line, block_bytes=size),
            ReadCounts(),
        )
        frames = list(table.frames(["MMSI", "VesselName"], counts, rows=500_000))
        told.append((pl.concat(frames), counts))
    for frame, counts in told[1:]:
        assert_frame_equal(frame, told[0][0])
        assert (counts.read, counts.refused) == (told[0][1].read, told[0][1].refused)


def test_what_expands_is_read_in_blocks(tmp_path: Path) -> None:
    """A gigabyte in a megabyte of gzip: refused after a megabyte of one line, not unpacked."""
    path = tmp_path / "bomb.gz"
    packer = gzip.GzipFile(path, "wb", compresslevel=9)
    packer.write(HEAD.encode())
    for _ in range(64):
        packer.write(b"1" * (1 << 20))
    packer.close()
    with pytest.raises(GeodiffError, match="a line of more than 1048576 bytes"):
        open_fixes(path)


@pytest.mark.parametrize("name", TARGETS)
def test_what_fuzzers_feed_is_read_or_refused(tmp_path: Path, name: str) -> None:
    """The targets of ``tests/fuzz`` hold for their seeds, and for some that are cut and spoilt."""
    dice = random.Random(7)
    for seed in seeds()[name]:
        spoilt = bytearray(seed)
        for _ in range(4):
            spoilt[dice.randrange(len(spoilt))] = dice.randrange(256)
        for data in (seed, bytes(spoilt), seed[: dice.randrange(len(seed))]):
            TARGETS[name](data, tmp_path)
