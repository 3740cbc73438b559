"""Score association: identities taken off and found again, or tracks of a radar against targets of known place."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from geodiff.metrics.association import NONE, association_score
from geodiff.metrics.gospa import Gospa, gospa_pairs
from geodiff.outputs.atomic import explained, write_json
from geodiff.outputs.report_association import Lines, write_association_html
from geodiff.schema import UsageError
from geodiff.sphere import to_local_km
from geodiff.tracks import COG, HEADING, LAT, LON, SOG, TIME, TRACK_ID, VESSEL_ID, FloatArray
from geodiff.version import __version__
from geodiff.vessels.associate import AssociateSettings, associate
from geodiff.vessels.associate_baselines import gnn, greedy

FORMAT = "geodiff association report 1"
REPORT = "association.json"
SEEN = (TIME, LON, LAT, SOG, COG, HEADING)
"""All that a method is shown."""
REST_KN = 1.0
"""Slower plots count as at rest in the breakdown."""

Method = Callable[[pl.DataFrame, AssociateSettings], pl.DataFrame]
METHODS: Mapping[str, Method] = {"linking": associate, "gnn": gnn, "nearest": greedy}
"""Ours, global nearest neighbour with constant velocity, and nearest neighbour."""


@dataclass(frozen=True, slots=True)
class TargetRules:
    """How tracks are compared with targets.

    Attributes:
        cutoff_m: c of GOSPA.
        order: p of GOSPA.
        least_travel_m: tracks that never get so far from their start are structures, and not compared: a target that
            lies still counts as missed.
    """

    cutoff_m: float = 30.0
    order: float = 2.0
    least_travel_m: float = 25.0


def score_identities(
    fixes: pl.DataFrame, settings: AssociateSettings, methods: Sequence[str] = tuple(METHODS)
) -> tuple[dict[str, Any], dict[str, pl.DataFrame]]:
    """Take the identities off, associate, and compare.

    Args:
        fixes: with ``vessel_id``; plots without one are clutter.
        settings: of association, the same for all methods as far as they use them.
        methods: keys of ``METHODS``.

    Returns:
        Method to its figures: those of ``AssociationScore``, also for plots at rest and under way alone, and the speed;
        and method to the associated table.

    Raises:
        UsageError: no fix has an identity.
    """
    if VESSEL_ID not in fixes.columns or fixes[VESSEL_ID].null_count() == len(fixes):
        raise UsageError("no fix has an identity to score against: give --truth, or a file with identities")
    fixes = fixes.sort(TIME, maintain_order=True)
    vessel = _codes(fixes[VESSEL_ID])
    parts = {"all": np.ones(len(fixes), bool)}
    if SOG in fixes.columns:
        rests = (fixes[SOG] < REST_KN).fill_null(False).to_numpy()
        parts |= {"at rest": rests, "under way": ~rests & fixes[SOG].is_not_null().to_numpy()}
    figures: dict[str, Any] = {}
    tables: dict[str, pl.DataFrame] = {}
    for name in methods:
        tables[name], rate = _run(name, fixes, settings)
        track = _codes(tables[name][TRACK_ID])
        scored = {
            part: asdict(association_score(vessel[where], track[where]))
            for part, where in parts.items()
            if (vessel[where] != NONE).any()
        }
        figures[name] = {**scored, "plots_per_s": rate}
    return figures, tables


def score_targets(
    plots: pl.DataFrame,
    truth: pl.DataFrame,
    settings: AssociateSettings,
    rules: TargetRules,
    methods: Sequence[str] = tuple(METHODS),
) -> tuple[dict[str, Any], dict[str, pl.DataFrame]]:
    """Compare the tracks of a radar with targets whose place is known, at the time of every scan that has a plot.

    Between its first and last plot a track is where its plots interpolate to, also in scans that missed it; the same
    holds for the targets, which must be sampled much more often.

    Args:
        plots: without identities.
        truth: fixes of the targets, with ``vessel_id``.
        settings: of association.
        rules: of the comparison.
        methods: keys of ``METHODS``.

    Returns:
        Method to figures: ``gospa_m`` (p-mean over scans), its three parts per scan in m**p, ``localisation_error_m``,
        missed targets and false tracks per scan, ``switches`` (a target's next track is another than its last),
        ``tracks`` and the speed; and method to the associated table.

    Raises:
        UsageError: the truth has no identity, or no scan falls into its time.
    """
    if VESSEL_ID not in truth.columns or truth[VESSEL_ID].null_count():
        raise UsageError("the truth needs an identity for every fix: one target, one vessel_id")
    centre = float(truth[LON][0]), float(truth[LAT][0])
    targets = _paths(truth, VESSEL_ID, centre)
    span = [f(seconds) for f, seconds in ((min, _seconds(truth)), (max, _seconds(truth)))]
    scans = np.unique(_seconds(plots))
    scans = scans[(scans >= span[0]) & (scans <= span[1])]
    if not len(scans):
        raise UsageError("no scan falls into the time of the truth: are both in UTC?")
    figures: dict[str, Any] = {}
    tables: dict[str, pl.DataFrame] = {}
    for name in methods:
        tables[name], rate = _run(name, plots, settings)
        tracks = _paths(tables[name].drop_nulls(TRACK_ID), TRACK_ID, centre)
        tracks = [path for path in tracks if path.travel_m() >= rules.least_travel_m]
        figures[name] = {**_compared(targets, tracks, scans, rules), "tracks": len(tracks), "plots_per_s": rate}
    return figures, tables


@dataclass(frozen=True, slots=True, eq=False)
class _Path:
    time_s: FloatArray
    place_m: FloatArray

    def travel_m(self) -> float:
        return float(np.linalg.norm(self.place_m - self.place_m[0], axis=1).max())

    def at(self, seconds: float) -> FloatArray | None:
        """Place (2,) at a time, None outside of the path's."""
        if not self.time_s[0] <= seconds <= self.time_s[-1]:
            return None
        return np.array([np.interp(seconds, self.time_s, self.place_m[:, axis]) for axis in (0, 1)])


def _paths(fixes: pl.DataFrame, key: str, centre: tuple[float, float]) -> list[_Path]:
    east, north = to_local_km(fixes[LON].to_numpy(), fixes[LAT].to_numpy(), *centre)
    places = fixes.select(key, TIME, east=1000 * pl.Series(east), north=1000 * pl.Series(north))
    # Plots of an extended target share a time: their mean is the place, in metres, for longitudes have none at 180.
    means = places.group_by(key, TIME).mean().sort(key, TIME)
    return [
        _Path(_seconds(rows), rows.select("east", "north").to_numpy())
        for _, rows in means.group_by(key, maintain_order=True)
    ]


def _seconds(fixes: pl.DataFrame) -> FloatArray:
    seconds: FloatArray = fixes[TIME].dt.timestamp("us").to_numpy() / 1e6
    return seconds


def _compared(
    targets: Sequence[_Path], tracks: Sequence[_Path], scans: FloatArray, rules: TargetRules
) -> dict[str, float | int | None]:
    total = Gospa(0.0, 0.0, 0.0, 0, 0, 0, 0, rules.order)
    last: dict[int, int] = {}
    switches = 0
    for (who, there), (which, found) in zip(_sets(targets, scans), _sets(tracks, scans), strict=True):
        figure, pairs = gospa_pairs(there, found, cutoff=rules.cutoff_m, p=rules.order)
        total = total + figure
        for target, track in pairs:
            switches += last.get(who[target], which[track]) != which[track]
            last[who[target]] = which[track]
    times = len(scans)
    return {
        "scans": times,
        "gospa_m": total.distance,
        "localisation": total.localisation / times,
        "missed": total.missed / times,
        "false": total.false / times,
        "localisation_error_m": total.localisation_error if total.pairs else None,
        "missed_per_scan": total.misses / times,
        "false_per_scan": total.falses / times,
        "switches": switches,
    }


def _sets(paths: Sequence[_Path], scans: FloatArray) -> Iterator[tuple[list[int], FloatArray]]:
    """For each scan which paths are there, and (n, 2) where."""
    for seconds in scans:
        found = [(number, place) for number, path in enumerate(paths) if (place := path.at(seconds)) is not None]
        yield [number for number, _ in found], np.array([place for _, place in found]).reshape(-1, 2)


def _run(name: str, fixes: pl.DataFrame, settings: AssociateSettings) -> tuple[pl.DataFrame, float]:
    """The associated table, the columns that the method did not see put back, and plots per second of one core."""
    began = time.process_time()
    found = METHODS[name](fixes.select([each for each in SEEN if each in fixes.columns]), settings)
    rate = len(fixes) / max(time.process_time() - began, 1e-9)
    hidden = [each for each in fixes.columns if each not in found.columns]
    return found.with_columns(fixes.select(hidden)), rate


def _codes(names: pl.Series) -> np.ndarray:
    """Whole numbers for names, ``NONE`` for null."""
    return names.rank("dense").cast(pl.Int64).fill_null(NONE).to_numpy()


def write_association_report(
    figures: Mapping[str, Any],
    tables: Mapping[str, pl.DataFrame],
    out: Path,
    *,
    about: Mapping[str, Any],
    truth: pl.DataFrame | None = None,
) -> tuple[Path, Path]:
    """Write ``association.json`` and ``association.html`` with a map of each method's tracks.

    Args:
        figures, tables: from ``score_identities`` or ``score_targets``.
        out: folder; made if absent.
        about: command, data, settings and whatever else makes the report again; plain values.
        truth: fixes of targets, drawn beneath the tracks; None: the identities of the tables.

    Returns:
        Paths of the JSON and of the page.

    Raises:
        GeodiffError: the folder cannot be written.
    """
    report = {
        "format": FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "geodiff": __version__,
        **about,
        "methods": dict(figures),
    }
    with explained(out):
        out.mkdir(parents=True, exist_ok=True)
    path = out / REPORT
    with explained(path):
        write_json(path, report)
    maps = {name: Lines.of(table, TRACK_ID) for name, table in tables.items()}
    if truth is not None:
        maps = {"truth": Lines.of(truth, VESSEL_ID), **maps}
    elif tables:
        table = next(iter(tables.values()))
        if VESSEL_ID in table.columns:
            maps = {"truth": Lines.of(table, VESSEL_ID), **maps}
    return path, write_association_html(report, maps, out)
