"""What a picture of tracks shows: thinned to what can be drawn, with an account of what was left out.

Tables are taken one after the other (``TrackPicture.add``), each of whole tracks, so that a day of many million fixes
never lies in memory; the picture and the interactive page draw from the same ``Drawing``. Coordinates are those of a
Mercator chart in degrees, unwrapped along each track, so that 180° is a place like any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from geodiff.outputs.track_columns import MEMBERS, ellipse_columns
from geodiff.outputs.track_geometry import unwrap
from geodiff.outputs.track_simplify import mercator_y, significance_km
from geodiff.outputs.track_thinning import (
    DOT,
    ELLIPSE,
    LEVELS,
    MEMBER,
    POINT,
    Limits,
    Table,
    choose,
    ellipse_rows,
    every,
    fewer_members,
    joined,
    member_lines,
    one_in,
    run_numbers,
    sheets,
)
from geodiff.outputs.track_zarr import iter_track_zarr
from geodiff.schema import GeodiffError
from geodiff.sphere import KM_PER_DEG
from geodiff.tracks import (
    ANOMALOUS,
    LAT,
    LON,
    OBSERVED,
    REASON,
    REJECTED,
    SHIP_TYPE,
    SOG,
    STATE,
    STATES,
    TIME,
    TRACK_ID,
    VESSEL_ID,
)

Source = pl.DataFrame | Iterable[pl.DataFrame] | Path

NO_TRACK: Final = "no track"
CLASSES: Final = (*STATES, NO_TRACK, ANOMALOUS)
"""What a point may be; its place here is its code."""

FLOOR_KM: Final = 0.01
"""Points that matter less than this are never drawn."""

_CODE: Final = {name: code for code, name in enumerate(CLASSES)}
_COLUMNS: Final = (TRACK_ID, VESSEL_ID, TIME, LON, LAT, SOG, STATE, SHIP_TYPE, "name", REASON)


@dataclass(frozen=True, eq=False)
class Drawing:
    """What is drawn. Tables are columns of equal length; ``x``, ``y`` are degrees of a Mercator chart.

    Attributes:
        points: ``track`` (number in ``tracks``), ``x``, ``y``, ``time_s``, ``sog_kn`` (NaN unknown), ``state`` (code
            of ``CLASSES``), in order along each track.
        dots: the same columns; ``track`` is -1 for fixes of no track. Rejected fixes, those of no track, and, as well
            as in ``points``, those that a scoring flagged. ``reason`` (number in ``reasons``, -1 for none) says why.
        ellipses: ``track``, ``x``, ``y``, ``time_s``, ``lat_deg``, ``level``, ``major_km``,
            ``minor_km``, ``course_deg``.
        members: ``run``, ``member``, ``width``, ``track``, ``x``, ``y``, ``time_s``, ``state``; the points of a line
            (one run and member) follow each other.
        tracks: ``track_id``, ``vessel_id``, ``ship_type``, ``name`` of each track.
        reasons: texts.
        counts: fixes, tracks and dots seen and shown, tolerance: see ``account``.
        of_class: fixes of each of ``CLASSES``, drawn or not.
    """

    points: Table
    dots: Table
    ellipses: Table
    members: Table
    tracks: pl.DataFrame
    reasons: tuple[str, ...]
    counts: dict[str, float]
    of_class: tuple[int, ...]

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """(left, bottom, right, top) of what was not rejected, regions included; else of the dots."""
        shown = self.points if self.points["x"].size else self.dots
        e = self.ellipses
        reach = e["major_km"] / (KM_PER_DEG * np.maximum(np.cos(np.radians(e["lat_deg"])), 0.01))
        x, y = (
            np.concatenate([shown[axis], self.members[axis], e[axis] - reach, e[axis] + reach]) for axis in ("x", "y")
        )
        return float(x.min()), float(y.min()), float(x.max()), float(y.max())

    @property
    def account(self) -> str:
        """One sentence: what is shown and what was left out."""
        c = {name: f"{value:,.0f}" for name, value in self.counts.items()}
        several = "" if self.counts["tracks"] == 1 else "s"
        text = f"{c['shown']} of {c['fixes']} fixes of {c['tracks']} track{several} drawn"
        if self.counts["shown"] < self.counts["fixes"]:
            metres = 1000 * self.counts["tolerance_km"]
            within = f"{metres:.0f} m" if metres < 1000 else f"{metres / 1000:.1f} km"
            text += f"; those left out lie within {within} of the line at their time"
        for key, what in (("tracks_out", "short tracks"), ("dots_out", "single points")):
            if self.counts[key]:
                text += f"; {c[key]} {what} left out"
        if self.counts["member_share"] < 1:
            text += f"; {self.counts['member_share']:.0%} of the members of ensembles shown"
        return text + "."


class TrackPicture:
    """Collects what is to be drawn; see ``drawing_of``.

    Args:
        limits: how much may be shown.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._points: list[Table] = []
        self._dots: list[Table] = []
        self._ellipses: list[Table] = []
        self._members: list[Table] = []
        self._tracks: list[pl.DataFrame] = []
        self._reasons: dict[str, int] = {}
        self._fixes = self._runs = self._known = 0
        self._of_class = np.zeros(len(CLASSES), np.int64)
        self._stride = 1

    def add(self, fixes: pl.DataFrame) -> None:
        """Take a table of whole tracks, in any order of rows.

        Raises:
            GeodiffError: a column that a picture needs is absent.
        """
        frame = _prepared(fixes)
        drawn = pl.col(TRACK_ID).is_not_null() & (pl.col(STATE) != REJECTED)
        good = frame.filter(drawn)
        facts = [pl.col(name).drop_nulls().last() for name in (VESSEL_ID, SHIP_TYPE, "name")]
        tracks = good.group_by(TRACK_ID, maintain_order=True).agg(*facts)
        numbers = tracks.select(TRACK_ID, pl.int_range(pl.len()).alias("track") + self._known)
        self._known += len(tracks)
        self._tracks.append(tracks)
        numbered = frame.join(numbers, on=TRACK_ID, how="left", maintain_order="left")
        self._take_dots(numbered.filter(~drawn | pl.col(ANOMALOUS)))
        if len(good):
            self._take_lines(numbered.filter(drawn))

    def _take_dots(self, frame: pl.DataFrame) -> None:
        rejected, flagged = (frame[STATE] == REJECTED).to_numpy(), frame[ANOMALOUS].to_numpy()
        code = np.select([rejected, flagged], [_CODE[REJECTED], _CODE[ANOMALOUS]], _CODE[NO_TRACK]).astype(np.int8)
        texts = frame[REASON].drop_nulls().unique(maintain_order=True)
        numbers = [self._reasons.setdefault(text, len(self._reasons)) for text in texts]
        reason = frame[REASON].replace_strict(texts, numbers, default=-1, return_dtype=pl.Int32).to_numpy()
        self._of_class += np.bincount(code, minlength=len(CLASSES))
        self._dots.append({**_plain(frame), "state": code, "reason": reason})

    def _take_lines(self, frame: pl.DataFrame) -> None:
        table = _plain(frame)
        state = frame[STATE].replace_strict(list(_CODE), list(_CODE.values()), return_dtype=pl.Int8).to_numpy()
        table |= {"x": unwrap(table["x"], table["track"]), "state": state}
        table["run"] = run = self._runs + run_numbers(table["track"], state)
        self._runs = int(run[-1]) + 1
        weight = significance_km(table["x"], table["y"], table["time_s"], run, floor_km=FLOOR_KM)
        self._fixes += state.size
        self._of_class += np.bincount(state, minlength=len(CLASSES))
        model = state != _CODE[OBSERVED]
        self._ellipses += ellipse_rows(frame, table, model)
        self._take_members(member_lines(frame, table, model & one_in(run, self._stride)))
        kept = weight > 0
        self._points.append({name: values[kept] for name, values in (table | {"weight": weight}).items()})

    def _take_members(self, table: Table) -> None:
        """Keep every ensemble, then every second one, ...: a bounded number, spread over all tables."""
        self._members.append(table)
        while sum(part["x"].size for part in self._members) > 4 * self.limits.member_points and self._stride < 2**20:
            self._stride *= 2
            self._members = [
                {name: values[one_in(part["run"], self._stride)] for name, values in part.items()}
                for part in self._members
            ]

    def finish(self) -> Drawing:
        """Choose what is shown.

        Raises:
            GeodiffError: nothing that was added has a position.
        """
        points, dots = joined(self._points, {**POINT, "weight": "f8"}), joined(self._dots, DOT)
        ellipses, members = joined(self._ellipses, ELLIPSE), joined(self._members, MEMBER)
        if not points["x"].size + dots["x"].size:
            raise GeodiffError("nothing to draw: no fix has a position")
        tracks = pl.concat(self._tracks)
        track_shift, dot_shift = sheets(points, dots, len(tracks))
        for table in (points, ellipses, members):
            table["x"] = table["x"] + track_shift[table["track"]]
        dots["x"] = dots["x"] + dot_shift
        kept, tolerance, lost = choose(points, self.limits.points, len(tracks))
        chosen = {name: values[kept] for name, values in points.items() if name != "weight"}
        shown_dots, shown_ellipses = every(dots, self.limits.dots), every(ellipses, self.limits.ellipses)
        shown_members, member_share = fewer_members(members, self.limits.member_points)
        counts = {
            "fixes": self._fixes,
            "shown": int(kept.sum()),
            "tracks": len(tracks),
            "tracks_out": lost,
            "tolerance_km": max(tolerance, FLOOR_KM),
            "dots": dots["x"].size,
            "dots_out": dots["x"].size - shown_dots["x"].size,
            "member_share": member_share / self._stride,
        }
        shown = chosen, shown_dots, shown_ellipses, shown_members
        return Drawing(*shown, tracks, tuple(self._reasons), counts, tuple(self._of_class.tolist()))


def drawing_of(source: Source, limits: Limits | None = None) -> Drawing:
    """Collect a drawing from a table, from tables of whole tracks, or from a file of ``TrackStore``.

    Args:
        source: a table of fixes; an iterable of them; the path of the fixes (``.parquet``) or of the Zarr store, which
            has the members too.
        limits: how much to show.

    Raises:
        GeodiffError: nothing has a position, or a path that holds no tracks.
    """
    picture = TrackPicture(limits)
    for frame in [source] if isinstance(source, pl.DataFrame) else _frames(source):
        picture.add(frame)
    return picture.finish()


def _frames(source: Iterable[pl.DataFrame] | Path) -> Iterator[pl.DataFrame]:
    if not isinstance(source, Path):
        yield from source
    elif source.is_dir():
        yield from iter_track_zarr(source)
    else:
        try:
            file = pq.ParquetFile(source)
            names = [name for name in file.schema_arrow.names if name != "geometry"]
            # A row group is a part, and so holds whole tracks.
            for group in range(file.num_row_groups):
                yield pl.DataFrame(file.read_row_group(group, columns=names))
        except (OSError, ValueError) as error:
            raise GeodiffError(f"{source} cannot be read as fixes: {error}") from error


def _prepared(fixes: pl.DataFrame) -> pl.DataFrame:
    absent = [name for name in (TRACK_ID, TIME, LON, LAT, STATE) if name not in fixes.columns]
    if absent:
        raise GeodiffError(f"the table of fixes has no column {', '.join(absent)}: clean it first")
    further = [name for level in LEVELS for name in ellipse_columns(level)] + list(MEMBERS)
    empty = {VESSEL_ID: pl.Int64, SOG: pl.Float32, SHIP_TYPE: pl.Int16, "name": pl.String, REASON: pl.String}
    flagged = pl.col(ANOMALOUS).fill_null(False) if fixes.schema.get(ANOMALOUS) == pl.Boolean else pl.lit(False)
    columns = [
        pl.col(name) if name in fixes.columns else pl.lit(None, empty[name]).alias(name) for name in _COLUMNS
    ] + [pl.col(name) for name in further if name in fixes.columns]
    placed = pl.col(LON).is_finite() & pl.col(LAT).is_finite() & pl.col(TIME).is_not_null()
    chosen = fixes.select(*columns, flagged.alias(ANOMALOUS)).filter(placed)
    return chosen.sort(TRACK_ID, TIME, nulls_last=True, maintain_order=True)


def _plain(frame: pl.DataFrame) -> Table:
    return {
        "track": frame["track"].fill_null(-1).to_numpy(),
        "x": frame[LON].to_numpy().astype(np.float64),
        "y": mercator_y(frame[LAT].to_numpy()),
        "time_s": frame[TIME].dt.epoch("us").to_numpy() / 1e6,
        "sog_kn": frame[SOG].cast(pl.Float32).fill_null(np.nan).to_numpy(),
    }
