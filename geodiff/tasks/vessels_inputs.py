"""The inputs of a job over tracks: files found, named by their content, read in batches."""

from __future__ import annotations

import shutil
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from geodiff.outputs.atomic import explained
from geodiff.outputs.track_item import file_sha256
from geodiff.schema import GeodiffError, UsageError
from geodiff.tasks.vessels_own import OwnReader, is_own
from geodiff.vessels.read import STDIN, FilesReader, check_day, list_files, open_fixes
from geodiff.vessels.read_table import TableReader
from geodiff.vessels.reading import FixReader

_BYTES_A_ROW: Final = {b"\x1f\x8b": 12, b"\x28\xb5\x2f\xfd": 10, b"PK\x03\x04": 12, b"PAR1": 8}
"""Of packed files, roughly, by how they begin (gz, zst, zip, Parquet); plain text takes ``_PLAIN``."""

_PLAIN: Final = 80
LEFT_S: Final = 7 * 86_400.0
"""A copy of standard input that nobody touched for so long was left by a run that was killed."""

ROWS_A_PART: Final = 250_000
MOST_PARTS: Final = 256


@dataclass(frozen=True, slots=True)
class Input:
    """One file.

    Attributes:
        href: as it was given.
        path: where it lies.
        sha256: of its content.
        own: a table of fixes with states, as jobs over tracks write it: what was observed is taken.
        facts: its size and when it was changed last, before its content was looked at.
        counts: of rows read, kept and refused, where the plan read it already: partial tracks.
    """

    href: str
    path: Path
    sha256: str
    own: bool
    facts: tuple[int, int]
    counts: Mapping[str, Any] = field(default_factory=dict)

    def require_unchanged(self) -> None:
        """Raises GeodiffError where the file is no longer what its checksum tells."""
        if _facts(self.path) != self.facts:
            raise GeodiffError(f"{self.href}: was changed while it was read: run again once it is complete")

    def source(self, *, one_of_many: bool = False) -> Path | FixReader:
        """What ``partition_fixes`` reads; of several a table of ours may hold no fix."""
        return OwnReader(self.path, one_of_many=one_of_many) if self.own else self.path


def find_inputs(sources: Sequence[str | Path], out: Path, *, layout: str | None = None) -> list[Input]:
    """The files that some paths, folders, globs or ``-`` name, each once, in order.

    Args:
        sources: as given.
        out: output folder, to which standard input is copied, and which is left out of a folder or glob around it.
        layout: what was said of the tables: one with our columns that no run wrote is read by it.

    Raises:
        UsageError: no such file, or nothing named.
        GeodiffError: a file that cannot be read.
    """
    named = [None if str(source) == STDIN else list_files(source, out) for source in sources]
    for path in (path for paths in named if paths is not None for path in paths):
        _require_file(path)
    # Standard input is copied only once the files are there: what is said through a pipe is said once.
    found: dict[Path, str] = {}
    for paths in named:
        if paths is None:
            found.setdefault(_spooled(out), STDIN)
        for path in paths or ():
            found.setdefault(path.resolve(), str(path))
    if not found:
        raise UsageError("nothing to read: name at least one file")
    return [_input(path, href, layout) for path, href in found.items()]


def _require_file(path: Path) -> None:
    if path.is_fifo():
        raise UsageError(f"{path}: is a pipe, which can be read once alone: name - and pipe into the command")
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UsageError(f"{str(path)!r}: the name is not UTF-8, which catalogues are written in: rename it") from None


def _input(path: Path, href: str, layout: str | None) -> Input:
    try:
        facts = _facts(path)
        return Input(href, path, file_sha256(path), is_own(path, layout), facts)
    except OSError as error:
        raise GeodiffError(f"{href}: cannot be read ({error.strerror or error})") from None


def _facts(path: Path) -> tuple[int, int]:
    told = path.stat()
    return told.st_size, told.st_mtime_ns


def _spooled(folder: Path) -> Path:
    """Standard input as a file of this process alone; its content names the run."""
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".stdin-*"):
            with suppress(FileNotFoundError):  # gone meanwhile, with the run that it was for
                if time.time() - left.stat().st_mtime > LEFT_S:
                    left.unlink()
        copy = folder / f".stdin-{uuid.uuid4().hex}"
        try:
            with open(copy, "wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
        except BaseException:
            copy.unlink(missing_ok=True)
            raise
        return copy


def whose(inputs: Sequence[Input]) -> str:
    """How an error names the inputs."""
    if len(inputs) != 1:
        return f"{len(inputs)} files" if inputs else "nothing is read"
    return "standard input" if inputs[0].href == STDIN else inputs[0].href


def forget_stdin(inputs: Sequence[Input]) -> None:
    """Remove the copy of what came from standard input, which comes anew with the same command."""
    for one in inputs:
        if one.href == STDIN:
            one.path.unlink(missing_ok=True)


def as_told(past: Input, options: Mapping[str, Any], *, one_of_many: bool = False) -> Path | FixReader:
    """Past tracks: what is said of the input holds for them too, as far as the file takes it."""
    if not past.own and any(options.values()):
        for left_out in (set[str](), {"layout"}, {"layout", "date", "timezone"}):
            told: Any = {name: None if name in left_out else value for name, value in options.items()}
            try:
                return open_fixes(past.path, **told, one_of_many=one_of_many)
            except GeodiffError:
                continue
    return past.source(one_of_many=one_of_many)


def check_told(inputs: Sequence[Input], history: Sequence[Input], options: Mapping[str, Any]) -> None:
    """Refuse a date or a position that no file needs, and one date for several files that do.

    A file that cannot be opened is left to the reading, which says why.

    Raises:
        UsageError: what was said would be ignored, or make one day of several.
    """
    if options["date"] is None and options["sensor"] is None:
        return
    several = len(inputs) > 1
    try:
        files = [one for one in inputs if not one.own and one.href != STDIN]
        readers: list[Any] = [open_fixes(one.path, **options, one_of_many=several) for one in files]
    except GeodiffError:
        return
    readers += [as_told(one, options, one_of_many=True) for one in history]
    check_day(readers, options["date"])
    tables = [one for one in readers if isinstance(one, TableReader | FilesReader)]
    where = whose(inputs or history)
    if options["date"] is not None and not any(one.dateless for one in tables):
        raise UsageError(f"{where}: --date is for times of day alone, and would be ignored: the times hold theirs")
    if options["sensor"] is not None and not any(one.by_range for one in tables):
        raise UsageError(f"{where}: --position is for plots in ranges or metres, and would be ignored: leave it out")


def count_parts(inputs: Sequence[Input]) -> int:
    """Parts of about ``ROWS_A_PART`` rows, by the content of the files alone, so that every run cuts alike."""
    rows = 0
    for one in inputs:
        try:
            rows += pq.read_metadata(one.path).num_rows
        except (OSError, pa.ArrowException):  # another format, or damaged: the reader will say so
            rows += _rows(one.path)
    return max(1, min(MOST_PARTS, round(rows / ROWS_A_PART)))


def _rows(path: Path) -> int:
    with open(path, "rb") as file:
        begin = file.read(4)
    return path.stat().st_size // next((size for mark, size in _BYTES_A_ROW.items() if begin.startswith(mark)), _PLAIN)
