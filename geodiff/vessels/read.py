"""Files of fixes, whatever their form: opened by content, read in batches of one table.

reader = open_fixes("AIS_2020_01_01.zip")
for batch in reader.batches():          # polars, bounded memory
    ...
reader.counts                           # what was read, kept and refused, and why

fixes, counts = read_fixes(["harbour.csv", "day.nm4"], layout="map.yaml")
"""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date as Date
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from geodiff.schema import GeodiffError, UsageError
from geodiff.tracks import FIX_TYPES, STATIC_TYPES
from geodiff.vessels.layouts import Layout, read_layout, shipped_layouts
from geodiff.vessels.layouts_match import check_layout, choose_layout
from geodiff.vessels.radar import RadarSensor
from geodiff.vessels.read_refuse import check_any
from geodiff.vessels.read_table import ReadOptions, TableReader
from geodiff.vessels.reading import EmptyReader, FixReader, ReadCounts
from geodiff.vessels.sniff import Sniffed, sniff
from geodiff.vessels.tables_open import open_table

STDIN = "-"


def open_fixes(
    source: str | Path,
    *,
    layout: str | Path | None = None,
    date: Date | str | None = None,
    timezone: str | None = None,
    sensor: RadarSensor | None = None,
    truth: bool = False,
    now: datetime | None = None,
    one_of_many: bool = False,
    known_by: datetime | None = None,
    anonymous: bool = False,
) -> FixReader:
    """A reader of a file, a zip, a folder or a glob of files; ``-`` reads NMEA from standard input.

    Parquet, NMEA sentences and delimited text (plain, gz, zst, zip) are told by their bytes, layouts by the names of
    columns. Nothing but headers and samples is read before ``batches`` is called. Rows of text are numbered by line,
    the header being a line; rows of Parquet from 1; each file counts its own.

    Args:
        source: what to read; files of a folder and of a glob are read in order of their names.
        layout: a name (``catalogs/ais``) or a column map of your own; None: recognised.
        date: day of the first row, for files of times of day: ``2020-01-31``.
        timezone: of times without an offset, such as ``Europe/Oslo``; None: as the layout says, mostly UTC.
        sensor: where the radar stands, for plots in ranges or metres.
        truth: identify vessels by what the layout holds as the truth of an association.
        now: fixes more than a day after it are refused; None: the clock.
        one_of_many: one source of several, in which to find no fix is no error; nor is an empty file.
        known_by: what ships said of themselves later counts for no fix; fixes of later are read all the same.
        anonymous: rows of tables need no identity, nor need tables a column of it.

    Raises:
        UsageError: no such file, layout or zone, something is needed that was not given, or was given for NMEA, which
            needs none of it, or one date for several files of times of day.
        GeodiffError: a file that is none of these, or damaged.
    """
    chosen = None if layout is None else read_layout(layout)
    options = ReadOptions(_day(date), timezone, sensor, truth, now, one_of_many, known_by, anonymous)
    if str(source) == STDIN:
        return _open_nmea(STDIN, chosen, options)
    files = list_files(source)
    if len(files) > 1:
        return FilesReader(tuple(files), chosen, options)
    return _open_file(files[0], chosen, options)


def read_fixes(
    sources: str | Path | Sequence[str | Path],
    *,
    layout: str | Path | None = None,
    date: Date | str | None = None,
    timezone: str | None = None,
    sensor: RadarSensor | None = None,
    truth: bool = False,
    now: datetime | None = None,
) -> tuple[pl.DataFrame, ReadCounts]:
    """All fixes of some sources in one table, for what fits in memory; arguments as of ``open_fixes``.

    Returns:
        The fixes in the order of the sources, with the static columns that any of them has, and what was refused.
    """
    given = [sources] if isinstance(sources, str | Path) else list(sources)
    if not given:
        raise UsageError("nothing to read: name at least one file")
    told: Any = {"layout": layout, "date": date, "timezone": timezone, "sensor": sensor, "truth": truth, "now": now}
    readers = [open_fixes(source, **told, one_of_many=len(given) > 1) for source in given]
    check_day(readers, date)
    counts, batches = ReadCounts(), []
    for reader in readers:
        batches += list(reader.batches())
        counts.add(reader.counts)
    check_any(counts, f"{len(given)} sources" if len(given) > 1 else str(given[0]))
    return in_order(pl.concat(batches, how="diagonal")), counts


def in_order(frame: pl.DataFrame) -> pl.DataFrame:
    """The columns of a table of fixes in their order, static ones after them."""
    return frame.select([*FIX_TYPES, *(name for name in STATIC_TYPES if name in frame.columns)])


def check_day(readers: Sequence[object], day: Date | str | None) -> None:
    """Refuse one day for several files of times of day: all would fall on it.

    Raises:
        UsageError: there are two or more; the message names them.
    """
    files = [name for one in readers if isinstance(one, TableReader | FilesReader) for name in one.dateless]
    if len(files) > 1:
        more = f" and {len(files) - 2} more" if len(files) > 2 else ""
        raise UsageError(
            f"{files[0]}, {files[1]}{more}: their times hold no date, and the one date, {day}, would make a single day "
            "of all of them: read each in a run of its own"
        )


def list_files(source: str | Path, skip: Path | None = None) -> list[Path]:
    """The files that a path, a folder or a glob names, in order; hidden ones are left out of folders.

    Args:
        source: path, folder or glob.
        skip: a folder that is left out where it lies within what is named: what goes in is not what came out.

    Raises:
        UsageError: none, or the folder itself is the one to leave out, and holds what came out.
    """
    path = Path(os.path.expanduser(source))  # pathlib takes ./~name for somebody's home
    files = _named_files(path)
    if skip is None or files == [path]:
        return files
    root, out = _fixed(path).resolve(), skip.resolve()
    if path.is_dir() and root == out and (out / "catalog.json").exists():
        raise UsageError(
            f"{path}: the folder of the input is that of the output too, and holds what earlier runs made: give --out "
            "another folder, which may lie inside, or name the files to read"
        )
    return [file for file in files if root.is_relative_to(out) or not file.resolve().is_relative_to(out)]


def _fixed(path: Path) -> Path:
    """The folder, or the part of a glob before its first mark."""
    marked = [n for n, part in enumerate(path.parts) if any(mark in part for mark in "*?[")]
    return Path(*path.parts[: marked[0]]) if marked and not path.is_dir() else path


def _named_files(path: Path) -> list[Path]:
    if path.is_dir():
        inside = sorted(p for p in path.rglob("*") if p.is_file())
        files = [p for p in inside if not any(part.startswith(".") for part in p.relative_to(path).parts)]
        if not files:
            raise UsageError(f"{path}: no files in this folder")
        return files
    if not path.exists() and any(mark in str(path) for mark in "*?["):
        files = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file())
        if not files:
            raise UsageError(f"{path}: no file matches")
        return files
    return [path]


def _open_file(path: Path, layout: Layout | None, options: ReadOptions) -> FixReader:
    if options.one_of_many and path.is_file() and not path.stat().st_size:
        return EmptyReader()
    found = sniff(path)
    return _open_sniffed(found[0], layout, options) if len(found) == 1 else FilesReader(tuple(found), layout, options)


def _open_sniffed(file: Sniffed, layout: Layout | None, options: ReadOptions) -> FixReader:
    if file.kind == "nmea":
        if file.packing == "zip":
            raise GeodiffError(f"{file.where}: NMEA sentences inside a zip: unpack it, or pack it as gz or zst")
        return _open_nmea(str(file.path), layout, options)
    table = open_table(file, delimiter=layout.delimiter if layout is not None else None)
    if layout is None:
        known = shipped_layouts().values()
        layout = choose_layout(table.columns, known, where=file.where, anonymous=options.anonymous)
    else:
        check_layout(table.columns, layout, where=file.where, anonymous=options.anonymous)
    return TableReader(table, layout, options)


def _open_nmea(source: str, layout: Layout | None, options: ReadOptions) -> FixReader:
    """Sentences explain themselves; what was said of tables would be ignored, and is refused instead.

    Raises:
        UsageError: a layout, a day, or a zone other than UTC.
    """
    from geodiff.vessels.nmea import open_nmea

    where = "standard input" if source == STDIN else source
    said = {"a layout": layout is not None, "a date": options.date is not None}
    said["a time zone"] = options.timezone is not None and options.timezone.upper() not in ("UTC", "Z", "ETC/UTC")
    for what, given in said.items():
        if given:
            raise UsageError(
                f"{where}: {what} is for tables, and these are NMEA sentences: their times are UTC, or carry their "
                "offset; leave it out, and read tables in a run of their own"
            )
    stream = sys.stdin.buffer if source == STDIN else Path(source)
    return open_nmea(stream, now=options.now, known_by=options.known_by)


class FilesReader:
    """Several files as one source of fixes, opened one after the other; see ``reading.FixReader``.

    Rows, also those that ``counts`` names, are numbered within their file.

    Attributes:
        dateless: files whose times hold no date; known where a date was given.
        by_range: whether one holds plots in ranges or metres; known where a sensor was given.
    """

    def __init__(self, files: Sequence[Path | Sniffed], chosen: Layout | None, options: ReadOptions) -> None:
        """Open the first file, to fail early; all where something was said that not all of them may need.

        Raises:
            UsageError, GeodiffError: as of ``open_fixes``.
        """
        self._files, self._chosen, self._alone = tuple(files), chosen, not options.one_of_many
        self._options = replace(options, one_of_many=True)
        self.counts = ReadCounts()
        told = options.date is not None or options.sensor is not None
        readers = [self._open(file) for file in self._files[: None if told else 1]]
        self._layouts = [readers[0].layout]
        tables = [one for one in readers if isinstance(one, TableReader | FilesReader)]
        self.dateless: tuple[str, ...] = tuple(name for one in tables for name in one.dateless)
        self.by_range: bool = any(one.by_range for one in tables)
        check_day([self], options.date)

    @property
    def layout(self) -> str:
        return "+".join(dict.fromkeys(self._layouts))

    def batches(self, *, rows: int = 500_000) -> Iterator[pl.DataFrame]:
        """See ``reading.FixReader``.

        Raises:
            GeodiffError: a file is damaged or unknown, or no row of any is a fix.
        """
        self.counts = ReadCounts()
        for file in self._files:
            reader = self._open(file)
            self._layouts.append(reader.layout)
            before = ReadCounts()
            before.add(self.counts)
            for batch in reader.batches(rows=rows):
                self._count(before, reader)
                yield batch
            self._count(before, reader)
        if self._alone:
            check_any(self.counts, f"{len(self._files)} files")

    def _count(self, before: ReadCounts, reader: FixReader) -> None:
        counts = ReadCounts()
        counts.add(before)
        counts.add(reader.counts)
        self.counts = counts

    def _open(self, file: Path | Sniffed) -> FixReader:
        if isinstance(file, Sniffed):
            return _open_sniffed(file, self._chosen, self._options)
        return _open_file(file, self._chosen, self._options)


def _day(day: Date | str | None) -> Date | None:
    if isinstance(day, datetime):
        return day.date()
    if day is None or isinstance(day, Date):
        return day
    try:
        return Date.fromisoformat(day)
    except ValueError:
        raise UsageError(f"date {day!r}: write it as 2020-01-31") from None
