"""Partitions: every fix once, in the part of its vessel; a rerun does no work twice; a broken run leaves nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from geodiff.schema import GeodiffError, UsageError
from geodiff.vessels.partition import MANIFEST, open_partition, partition_fixes
from geodiff.vessels.partition_files import part_of
from geodiff.vessels.read import open_fixes, read_fixes
from geodiff.vessels.reading import FIX_SCHEMA, ReadCounts

HEAD = "MMSI,BaseDateTime,LAT,LON,SOG,VesselName\n"


def day(path: Path, number: int, rows: int = 400) -> Path:
    """A day of eleven vessels, the latest fix first, with a bad row at the end."""
    times = [f"2021-01-{number:02d}T{n // 60:02d}:{n % 60:02d}:00" for n in range(rows)]
    lines = [f"{219000001 + n % 11},{times[n]},{55 + n * 1e-4:.5f},10.5,5,V{n % 11}\n" for n in reversed(range(rows))]
    path.write_text(HEAD + "".join(lines) + f"219000001,2021-01-{number:02d}T00:00:00,95.0,10.5,5.0,V\n")
    return path


@pytest.fixture
def days(tmp_path: Path) -> list[Path]:
    (tmp_path / "in").mkdir()
    return [day(tmp_path / "in" / f"{number}.csv", number) for number in (1, 2, 3)]


KEYS = ["vessel_id", "time", "row"]


def test_every_fix_is_in_one_part_with_all_of_its_vessel(days: list[Path], tmp_path: Path) -> None:
    made = partition_fixes(days, tmp_path / "out", parts=4)
    parts = [made.read(part) for part in range(4)]
    whole, counts = read_fixes(days)
    assert pl.concat(parts).sort(KEYS).equals(whole.sort(KEYS))
    assert made.counts == counts
    assert counts.refused == {"latitude out of range": 3}
    homes = [set(part["vessel_id"]) for part in parts]
    assert sum(len(home) for home in homes) == 11
    for part in parts:
        assert part.select("vessel_id", "time").equals(part.select("vessel_id", "time").sort("vessel_id", "time"))
    assert set(made.columns) == {*FIX_SCHEMA, "name"}


def test_parts_do_not_depend_on_the_machine() -> None:
    ids = pl.Series([219000001, 366999999, 2**62 + 5, None, 0], dtype=pl.Int64)
    exact = [((number or 0) * 0x9E3779B97F4A7C15 % 2**64 >> 32) % 64 for number in ids]
    assert part_of(ids, 64).to_list() == exact
    spread = part_of(pl.Series(range(219_000_000, 219_064_000)), 64).value_counts()["count"]
    assert spread.min() > 500  # a thousand each, if it were perfect


def test_a_rerun_reads_only_what_is_new(days: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from geodiff.vessels import partition

    first = partition_fixes(days[:2], tmp_path / "out", parts=4)
    opened: list[str] = []

    def counting(source: Path, **options: object) -> object:
        opened.append(Path(source).name)
        return open_fixes(source)

    monkeypatch.setattr(partition, "open_fixes", counting)
    assert partition_fixes(days[:2], tmp_path / "out", parts=4) == first
    assert opened == []
    day(days[1], 2, rows=500)  # it has changed
    more = partition_fixes(days, tmp_path / "out", parts=4)
    assert opened == ["2.csv", "3.csv"]
    assert more.counts.kept == 400 + 500 + 400
    assert open_partition(tmp_path / "out") == more
    assert {path.parent.name for path in (tmp_path / "out").glob("*/source.json")} == set(more.sources)


def test_a_file_that_was_written_anew_is_read_anew_though_it_is_as_long(days: list[Path], tmp_path: Path) -> None:
    partition_fixes(days[:1], tmp_path / "out", parts=1)
    before = days[0].stat()
    days[0].write_text(days[0].read_text().replace(",10.5,5,", ",10.5,6,"))
    os.utime(days[0], ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000_000))
    assert days[0].stat().st_size == before.st_size
    assert partition_fixes(days[:1], tmp_path / "out", parts=1).read(0)["sog_kn"].unique().to_list() == [6.0]


def test_notes_nested_without_end_are_none(days: list[Path], tmp_path: Path) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    first = partition_fixes(days, tmp_path / "out", parts=4)
    for path in (tmp_path / "out").glob("*/source.json"):
        path.write_text(deep)
    assert partition_fixes(days, tmp_path / "out", parts=4) == first
    (tmp_path / "out" / MANIFEST).write_text(deep)
    with pytest.raises(GeodiffError, match="no finished partition"):
        open_partition(tmp_path / "out")


def test_a_damaged_source_leaves_no_partition(days: list[Path], tmp_path: Path) -> None:
    bad = tmp_path / "in" / "9.csv.gz"
    bad.write_bytes(b"\x1f\x8b" + b"x" * 100)
    with pytest.raises(GeodiffError, match="damaged gzip"):
        partition_fixes([*days, bad], tmp_path / "out", parts=4)
    assert not list((tmp_path / "out").glob(".*.partial"))
    with pytest.raises(GeodiffError, match="no finished partition"):
        open_partition(tmp_path / "out")
    bad.unlink()
    assert partition_fixes(days, tmp_path / "out", parts=4).counts.kept == 1200


class Broken:
    """A reader that fails in the midst."""

    layout = "broken"
    counts = ReadCounts()

    def batches(self, *, rows: int = 500_000) -> Iterator[pl.DataFrame]:
        yield pl.DataFrame({"vessel_id": [1]}, schema_overrides={"vessel_id": pl.Int64}).select(
            pl.lit(None, kind).alias(name) if name != "vessel_id" else pl.col(name) for name, kind in FIX_SCHEMA.items()
        )
        raise GeodiffError("the line went dead")


def test_readers_of_your_own_are_taken(days: list[Path], tmp_path: Path) -> None:
    made = partition_fixes([open_fixes(days[0])], tmp_path / "out", parts=2)
    assert made.counts.kept == 400
    with pytest.raises(GeodiffError, match="the line went dead"):
        partition_fixes([Broken()], tmp_path / "other", parts=2)
    assert not list((tmp_path / "other").glob("*/part-*.parquet"))


def test_dask_maps_the_sources(days: list[Path], tmp_path: Path) -> None:
    plain = partition_fixes(days, tmp_path / "a", parts=3)
    mapped = partition_fixes(days, tmp_path / "b", parts=3, scheduler="threads")
    assert mapped.counts == plain.counts
    assert all(mapped.read(part).equals(plain.read(part)) for part in range(3))


def test_anonymous_fixes_stay_together(tmp_path: Path) -> None:
    path = tmp_path / "plots.csv"
    path.write_text(
        "time,lon_deg,lat_deg,vessel_id\n" + "".join(f"2021-01-01T00:00:{n:02d}Z,10,{n},\n" for n in range(9))
    )
    map_ = tmp_path / "map.yaml"
    map_.write_text("columns: {time: time, lon_deg: lon_deg, lat_deg: lat_deg}")
    told = []
    made = partition_fixes(
        [path], tmp_path / "o", parts=8, options={"layout": map_}, progress=lambda c: told.append(c.kept)
    )
    assert made.read(0).height == 9
    assert all(made.read(part).height == 0 for part in range(1, 8))
    assert made.read(1).columns == made.read(0).columns
    assert told == [9, 9]


def test_wrong_requests_are_refused(days: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="parts 0"):
        partition_fixes(days, tmp_path, parts=0)
    with pytest.raises(UsageError, match="nothing to read"):
        partition_fixes([], tmp_path)
    with pytest.raises(UsageError, match="no such file"):
        partition_fixes([tmp_path / "none"], tmp_path)
