"""The jobs over tracks for notebooks: GeoDataFrames in, GeoDataFrames out, in memory.

tracks = geodiff.clean(fixes, columns={"vessel_id": "MMSI", "time": "BaseDateTime"})
filled = geodiff.impute(tracks)
later = geodiff.forecast(tracks, hours=6, coastline=land)
made = geodiff.generate(start=(10.2, 54.5), count=20, ship_type=70)

Tables have a point for each fix and the columns of ``geodiff.tracks``; functions that need tracks clean a table that
has none. Anonymous tracks, from ``associate``, get a number as ``vessel_id``. Larger tables: ``geodiff vessels``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from geodiff.schema import UsageError
from geodiff.tasks.motion_models import load_motion_model
from geodiff.tasks.vessels_coast import Coast
from geodiff.tasks.vessels_forecast import forecast_tracks
from geodiff.tasks.vessels_frames import calibrated_model, clean_table, sent_fixes, told_model, track_table
from geodiff.tasks.vessels_gaps import Sent
from geodiff.tasks.vessels_impute import impute_tracks
from geodiff.tasks.vessels_plan import installed
from geodiff.tasks.vessels_pool import one_thread
from geodiff.tasks.vessels_settings import (
    DEFAULT_MODEL,
    AssociateSettings,
    ForecastSettings,
    GenerateSettings,
    ImputeSettings,
    ScoreSettings,
)
from geodiff.vessels.associate import associate as associate_plots
from geodiff.vessels.convert import from_geodataframe, to_geodataframe
from geodiff.vessels.usual_rules import Usual

if TYPE_CHECKING:
    import geopandas as gpd


def clean(
    fixes: gpd.GeoDataFrame,
    *,
    columns: Mapping[str, str] | None = None,
    time_zone: str = "UTC",
    gap_h: float | None = None,
) -> gpd.GeoDataFrame:
    """Clean fixes into tracks; every fix is kept.

    Of a table that a job has made, what was observed or rejected is judged anew; what a model added is left out.

    Args:
        fixes: points in any CRS, with times in the column ``time`` or in the index.
        columns: name of ours -> name in ``fixes``, such as ``{"vessel_id": "MMSI", "sog_kn": "SOG"}``.
        time_zone: of times that carry none.
        gap_h: a longer silence ends a track, hours; None: 1, or three times the usual interval of all vessels or of the
            vessel itself, where that is longer.

    Returns:
        All fixes, by vessel and time, with ``track_id``, ``state`` and ``reason``.

    Raises:
        GeodiffError: a table that cannot be read as fixes.
        UsageError: a gap that is not above zero.
    """
    return to_geodataframe(clean_table(from_geodataframe(fixes, columns, time_zone=time_zone), gap_h))


def impute(
    tracks: gpd.GeoDataFrame,
    *,
    model: str = DEFAULT_MODEL,
    ensemble: int = 16,
    step_s: int = 300,
    longest_h: float = 24.0,
    seed: int = 0,
    history: gpd.GeoDataFrame | None = None,
    calibrate: bool = True,
) -> gpd.GeoDataFrame:
    """Fill the gaps of tracks; observed fixes are never moved. See ``vessels_impute.impute_tracks`` for the rules.

    Args:
        tracks: from ``clean``, or fixes.
        model: name or path of a model of motion.
        ensemble: members behind the quantiles and regions.
        step_s: the gaps are filled at its multiples, whole seconds.
        longest_h: longer gaps stay, hours.
        seed: of the noise.
        history: past tracks of the region, in place of those of ``tracks``: of others and of own other passes.
        calibrate: a trained model calibrates its regions on ``tracks``, where most of their vessels are new to it and a
            hundred of them can be asked about.

    Returns:
        The rows of ``tracks`` and those of state "imputed", by track and time, with quantiles and ellipses where the
        model has an ensemble (``outputs.track_columns``).

    Raises:
        UsageError: a setting, or an unknown model.
        GeodiffError: a table that cannot be read as fixes.
    """
    asked = {"model": model, "ensemble": ensemble, "step_s": step_s, "longest_h": longest_h, "seed": seed}
    asked |= {"calibrate": calibrate}
    settings = ImputeSettings.parse(asked, where="impute")
    cleaned = track_table(tracks)
    chosen = told_model(installed("impute", model), cleaned, history)
    with one_thread():
        chosen = calibrated_model(chosen, settings, cleaned)
        table, _ = impute_tracks(cleaned, chosen, settings, fleet_s=Usual.of([cleaned]).interval_s)
    return to_geodataframe(table)


def forecast(
    tracks: gpd.GeoDataFrame,
    *,
    hours: float = 3.0,
    at: datetime | None = None,
    model: str = DEFAULT_MODEL,
    ensemble: int = 16,
    step_s: int = 300,
    seed: int = 0,
    history: gpd.GeoDataFrame | None = None,
    coastline: gpd.GeoDataFrame | Path | str | None = None,
    calibrate: bool = True,
) -> gpd.GeoDataFrame:
    """Forecast every vessel beyond its last fix. See ``vessels_forecast.forecast_tracks`` for the rules.

    Args:
        tracks: from ``clean``, or fixes.
        hours: how far, up to 12.
        at: only fixes up to then are known, and returned; clean them after cutting them, or give fixes. UTC where it
            has no zone.
        model, ensemble, step_s, seed, history, calibrate: as of ``impute``.
        coastline: polygons of land, or a file of them: members do not cross it.

    Returns:
        The known rows and those of state "forecast".

    Raises:
        UsageError: a setting, or an unknown model.
        GeodiffError: a table that cannot be read as fixes, or a coastline without polygons.
    """
    asked = {"model": model, "ensemble": ensemble, "step_s": step_s, "hours": hours, "at": at, "seed": seed}
    asked |= {"calibrate": calibrate}
    settings = ForecastSettings.parse(asked, where="forecast")
    cleaned = track_table(tracks, settings.at)
    chosen = told_model(installed("forecast", model), cleaned, history, settings.at)
    coast = None
    if coastline is not None:
        coast = Coast.read(Path(coastline)) if isinstance(coastline, str | Path) else Coast.of(coastline)
    with one_thread():
        chosen = calibrated_model(chosen, settings, cleaned)
        table, _ = forecast_tracks(cleaned, chosen, settings, coast=coast)
    return to_geodataframe(table)


def score(
    tracks: gpd.GeoDataFrame,
    *,
    model: str = "hermite",
    calibration: Path | str | None = None,
    ensemble: int = 16,
    alpha: float | None = None,
    seed: int = 0,
) -> gpd.GeoDataFrame:
    """Score fixes and tracks for anomalies. See ``vessels_score`` for the rules.

    Args:
        tracks: from ``clean``, or fixes.
        model: of the motion.
        calibration: made with the model; None: each half of the vessels is compared with the other half.
        ensemble: members, for a calibration on the table itself.
        alpha: nominal false-alarm rate; None: 0.01, or the least that the vessels can tell where that is more.
        seed: of the noise.

    Returns:
        All rows, with ``score``, ``p_value``, ``anomalous``, ``track_p_value``, and why in ``reason``; the rate that
        flagged them is ``attrs["alpha"]``.

    Raises:
        UsageError: a setting, a calibration that does not fit, or too few vessels without one.
        GeodiffError: a table that cannot be read as fixes.
    """
    from geodiff.tasks.vessels_score import scorer_of

    asked = {"model": model, "ensemble": ensemble, "alpha": alpha, "seed": seed}
    settings = ScoreSettings.parse(asked, where="score")
    cleaned = track_table(tracks)
    with one_thread():
        scorer = scorer_of(cleaned, settings, None if calibration is None else Path(calibration))
        found = to_geodataframe(scorer.score(cleaned)[0].fixes)
    found.attrs["alpha"] = scorer.alpha
    return found


def generate(
    partial: gpd.GeoDataFrame | None = None,
    *,
    start: tuple[float, ...] | None = None,
    start_time: datetime | None = None,
    count: int = 10,
    ship_type: int = 0,
    behaviour: str = "any",
    hours: float = 6.0,
    step_s: float = 300.0,
    guidance: float = 5.0,
    model: str = DEFAULT_MODEL,
    seed: int = 0,
    history: gpd.GeoDataFrame | None = None,
) -> gpd.GeoDataFrame:
    """Make tracks by ship type and behaviour: for augmenting data sets, not what a vessel did.

    Args:
        partial: tracks to go on from, from ``clean``, or fixes; in place of ``start``.
        start: longitude and latitude, or west, south, east, north in which tracks begin, degrees.
        start_time: of tracks from ``start``, UTC where it has no zone; 2020-01-01 when None.
        count: tracks; of each partial track so many.
        ship_type: code of ITU-R M.1371 table 53; 0 for any, of partial tracks for their own.
        behaviour: way of moving, one of ``geodiff.vessels.windows_draw.BEHAVIOURS``.
        hours, step_s: length of a track, up to 72, and seconds between its fixes.
        guidance: pull towards the ship type; 1 leaves it off.
        model, seed: as of ``impute``, a trained model.
        history: past tracks of the region, which keep to its lanes; none when None.

    Returns:
        Fixes of state "generated", by track and time; those of ``geodiff vessels generate`` with the same settings. Of
        partial tracks, ``continues`` holds the ``vessel_id`` whose track each goes on from.

    Raises:
        UsageError, GeodiffError: as of ``impute``; neither or both of ``partial`` and ``start``; a classical rule.
    """
    from geodiff.tasks.vessels_generate import MOST_SHOWN, generate_part, parts_of, wanted

    asked: dict[str, Any] = {
        "start": start,
        "start_time": start_time,
        "count": count,
        "ship_type": ship_type,
        "behaviour": behaviour,
    }
    asked |= {"hours": hours, "step_s": step_s, "guidance": guidance, "model": model, "seed": seed}
    settings = GenerateSettings.parse(asked, where="generate")
    wanted(settings)
    if (start is None) == (partial is None):
        raise UsageError("give either start or partial tracks to go on from")
    if partial is not None and start_time is not None:
        raise UsageError("start_time: partial tracks go on from their own last fix; leave it out")
    known = None if partial is None else Sent.of(track_table(partial)).last_known(MOST_SHOWN)
    if known == []:
        raise UsageError("no vessel is left in the partial tracks after cleaning")
    chosen = load_motion_model(model) if history is None else told_model(model, pl.DataFrame(), history)
    with one_thread():
        parts = range(parts_of(settings, None if known is None else len(known)))
        made = pl.concat([generate_part(chosen, settings, known, part) for part in parts])
    return to_geodataframe(made)


def associate(
    plots: gpd.GeoDataFrame, *, sensor: str = "ais", settings: Mapping[str, Any] | None = None
) -> gpd.GeoDataFrame:
    """Find which anonymous points or radar plots belong to one vessel; identities are not looked at.

    Args:
        plots: points with times; ``sog_kn`` and ``cog_deg`` are used where present.
        sensor: "ais" or "radar": whose settings to start from.
        settings: what differs, keys of ``vessels.associate.AssociateSettings``.

    Returns:
        The rows in their order, with ``track_id``, ``state`` and ``reason``, a position that was not sent being one;
        without those that a model had made.

    Raises:
        UsageError: a setting.
        GeodiffError: a row without time.
    """
    from geodiff.tasks.vessels_associate import rules_of, without_place_rejected

    asked = AssociateSettings.parse({"sensor": sensor, "rules": dict(settings or {})}, where="associate")
    fixes = without_place_rejected(sent_fixes(from_geodataframe(plots)))
    return to_geodataframe(associate_plots(fixes, rules_of(asked)))
