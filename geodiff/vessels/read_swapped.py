"""Longitude and latitude under each other's name: told by their ranges, or by how ships move."""

from __future__ import annotations

import numpy as np
import polars as pl

from geodiff.schema import GeodiffError
from geodiff.sphere import KM_PER_NMI, course_deg, distance_km, turn_deg

MOST = 0.5
"""Share of positions out of range as they stand, and in range when swapped, from which a table is refused."""

FEW = 10
"""Positions below which damage would look the same, so that the error leaves the choice."""

_MIN_STEPS = 20
_MIN_SPEED_KN = 3.0
_MAX_STEP_S = 7_200.0
"""Long enough for hourly fleets."""
_COURSE_DEG = 20.0
_AGREEING = 0.5
"""So few, for hourly ships turn on the way; of the steps of right tables 4 % agree when swapped (the NOAA day)."""


def check_swapped(frame: pl.DataFrame, *, where: str, columns: tuple[str, str]) -> None:
    """Refuse a table whose longitude and latitude stand under each other's name.

    Two signs: most latitudes are beyond 90 degrees while the longitudes are not; or the steps between fixes agree with
    the reported courses and speeds only when swapped.

    Args:
        frame: ``lon_deg``, ``lat_deg`` and, where there are any, ``vessel_id``, ``time``, ``sog_kn``, ``cog_deg``.
        where: how the error names the file.
        columns: the table's names for longitude and latitude.

    Raises:
        GeodiffError: they are swapped; the message says how that was told and what to write.
    """
    told = _by_range(frame) or _by_motion(frame)
    if told:
        lon, lat = columns
        right = f"name them right in a column map, as `lon_deg: {lat}, lat_deg: {lon}`"
        if _known(frame).height < FEW:
            raise GeodiffError(
                f"{where}: longitude and latitude seem to be swapped: {told}; if they are, {right}; if not, these rows "
                "are damaged: take them out"
            )
        raise GeodiffError(f"{where}: longitude and latitude are swapped: {told}; {right}")


def _known(frame: pl.DataFrame) -> pl.DataFrame:
    """Positions that are there, and not the code for none."""
    return frame.select("lon_deg", "lat_deg").filter(
        pl.col("lon_deg").is_not_null()
        & pl.col("lat_deg").is_not_null()
        & ~((pl.col("lat_deg") - 91).abs() < 1e-6)
        & ~((pl.col("lon_deg") - 91).abs() < 1e-6)
    )


def _by_range(frame: pl.DataFrame) -> str | None:
    known = _known(frame)
    only_swapped = known.filter((pl.col("lat_deg").abs().is_between(90, 180)) & (pl.col("lon_deg").abs() <= 90))
    if only_swapped.height <= MOST * known.height or not known.height:
        return None
    largest = float(np.abs(only_swapped["lat_deg"].to_numpy()).max())
    return f"{only_swapped.height:,} of {known.height:,} latitudes are beyond 90 degrees (to {largest:g})"


def _by_motion(frame: pl.DataFrame) -> str | None:
    if not {"vessel_id", "time", "sog_kn", "cog_deg"} <= set(frame.columns):
        return None
    steps = _steps(frame)
    if steps.height < _MIN_STEPS:
        return None
    straight, swapped = _agree(steps, "lon_deg", "lat_deg"), _agree(steps, "lat_deg", "lon_deg")
    if swapped < _AGREEING or straight > swapped / 2:
        return None
    return (
        f"of {steps.height:,} steps between fixes {swapped:.0%} agree with the reported course and speed when swapped, "
        f"{straight:.0%} as they stand"
    )


def _steps(frame: pl.DataFrame) -> pl.DataFrame:
    """Pairs of successive fixes of one vessel under way."""
    moving = frame.filter(
        (pl.col("sog_kn") >= _MIN_SPEED_KN)
        & pl.col("cog_deg").is_not_null()
        & pl.col("vessel_id").is_not_null()
        & (pl.col("lon_deg").abs() <= 90)
        & (pl.col("lat_deg").abs() <= 90)
    ).select("vessel_id", "time", "lon_deg", "lat_deg", "sog_kn", "cog_deg")
    moving = moving.sort("vessel_id", "time", maintain_order=True)
    nexts = {
        name: pl.col(name).shift(-1).over("vessel_id").alias(f"{name}_1") for name in ("time", "lon_deg", "lat_deg")
    }
    steps = moving.with_columns(nexts.values())
    seconds = (pl.col("time_1") - pl.col("time")).dt.total_microseconds() / 1e6
    steps = steps.with_columns(seconds.alias("seconds")).filter(pl.col("seconds").is_between(5, _MAX_STEP_S))
    return steps.filter(pl.col("seconds") * pl.col("sog_kn") / 3600 > 0.05)  # else rounding decides the course


def _agree(steps: pl.DataFrame, lon: str, lat: str) -> float:
    """Share of steps whose course and length are those of the report."""
    ends = [steps[name].to_numpy() for name in (lon, lat, f"{lon}_1", f"{lat}_1")]
    course = abs(turn_deg(course_deg(*ends), steps["cog_deg"].to_numpy())) < _COURSE_DEG
    reach = steps["sog_kn"].to_numpy() * steps["seconds"].to_numpy() / 3600 * KM_PER_NMI
    length = distance_km(*ends)
    return float((course & (length > 0.5 * reach) & (length < 2 * reach)).mean())
