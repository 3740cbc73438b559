"""The Autoferry harbour scenarios (NTNU, CC0): detections of radar or lidar, and GPS truth of the targets.

Helgesen et al., Heterogeneous multi-sensor tracking for an autonomous surface vehicle in a littoral environment, Ocean
Engineering 252 (2022). Measurements are metres north and east of the own ship, whose place is given in metres north
and east of a fixed origin in the harbour; the truth is given from that origin.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import polars as pl

from geodiff.schema import GeodiffError
from geodiff.vessels.radar import RadarSensor, plots_to_fixes

ORIGIN = RadarSensor(lon_deg=10.39908278, lat_deg=63.4389029083)
"""Origin of the frame of the data set."""

SENSORS = {"lidar": 1, "radar": 2}
MAX_BYTES = 256 << 20
"""A scenario is a few megabytes; more is no scenario."""

Row = tuple[float, float, float, int | None, int]


def read_autoferry(path: Path, *, sensor: Literal["radar", "lidar"] = "radar") -> pl.DataFrame:
    """Plots of one scenario (``*_detections.json``, plain or gz).

    Returns:
        A table of fixes without identities; ``row`` is the number of the scan in the file, from 1, so that the plots of
        one scan share it; ``source`` is the sensor.

    Raises:
        GeodiffError: not such a file.
    """
    wanted = SENSORS[sensor]
    rows: list[Row] = []
    try:
        for number, scan in enumerate(_load(path), 1):
            if scan["sensorID"] == wanted:
                north, east = (float(value) for value in scan["ownshipPosition"])
                time = float(scan["time"])
                rows += [(time, north + n, east + e, None, number) for n, e in _points(scan["measurement"])]
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise GeodiffError(f"{path}: not detections of an Autoferry scenario ({_reason(error)})") from None
    return _fixes(rows, path).with_columns(pl.lit(sensor).alias("source"))


def read_autoferry_truth(path: Path) -> pl.DataFrame:
    """GPS positions of the targets of one scenario (``*_groundTruth.json``, plain or gz), each once, by time.

    Returns:
        A table of fixes: ``vessel_id`` is the number of the target, ``source`` is "gps".

    Raises:
        GeodiffError: not such a file.
    """
    rows: list[Row] = []
    try:
        for number, scan in enumerate(_load(path), 1):
            for target in scan:
                north, east = (float(value) for value in target["position"][:2])
                rows.append((float(target["time"]), north, east, int(target["targetID"]), number))
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise GeodiffError(f"{path}: not the truth of an Autoferry scenario ({_reason(error)})") from None
    fixes = _fixes(rows, path).with_columns(pl.lit("gps").alias("source"))
    return fixes.unique(["vessel_id", "time"], keep="first", maintain_order=True).sort("vessel_id", "time")


def _points(measurement: Any) -> Iterator[tuple[float, float]]:
    """(north, east) of each plot: one plot is written flat, none as an empty list."""
    if not measurement:
        return
    north, east = measurement
    if isinstance(north, list):
        yield from ((float(n), float(e)) for n, e in zip(north, east, strict=True))
    else:
        yield float(north), float(east)


def _fixes(rows: list[Row], path: Path) -> pl.DataFrame:
    if not rows:
        raise GeodiffError(f"{path}: no positions of this sensor")
    names = {"t": pl.Float64, "north_m": pl.Float64, "east_m": pl.Float64, "vessel_id": pl.Int64, "scan": pl.Int64}
    frame = pl.DataFrame(rows, schema=names, orient="row")
    ticks = (pl.col("t") * 1e6).round().cast(pl.Int64, strict=False)
    frame = frame.with_columns(ticks.cast(pl.Datetime("us", "UTC")).alias("time"))
    fixes = plots_to_fixes(frame, ORIGIN)
    scans = frame.with_row_index("row", offset=1).select(pl.col("row").cast(pl.Int64), "scan")
    return fixes.join(scans, on="row", maintain_order="left").with_columns(pl.col("scan").alias("row")).drop("scan")


def _load(path: Path) -> list[Any]:
    try:
        with open(path, "rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            text = gzip.GzipFile(fileobj=raw).read(MAX_BYTES + 1) if packed else raw.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise GeodiffError(f"{path}: more than {MAX_BYTES >> 20} MB, no scenario")
        scans = json.loads(text)
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise GeodiffError(f"{path}: cannot be read as JSON ({_reason(error)})") from None
    if not isinstance(scans, list):
        raise GeodiffError(f"{path}: not a list of scans")
    return scans


def _reason(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:120] or type(error).__name__
