"""What the CF conventions call the columns of tracks, and how their values are stored."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from geodiff.outputs.track_columns import MEMBERS
from geodiff.schema import GeodiffError
from geodiff.tracks import LAT, LON, REASON, STATE, STATES, TIME, VESSEL_ID

ROW_SIZE: Final = "rowSize"
"""How the number of fixes of a track is called (CF 1.11, 9.3.3)."""

MEMBER_STEP_DEG: Final = 1e-7
"""Members are stored as 32-bit multiples of this: 1 cm."""

_SPEED: Final = {"standard_name": "platform_speed_wrt_ground", "long_name": "speed over ground", "units": "knot"}
_STATUS: Final = (
    "under_way_using_engine at_anchor not_under_command restricted_manoeuvrability constrained_by_draught moored "
    "aground engaged_in_fishing under_way_sailing reserved_9 reserved_10 towing_astern pushing_ahead reserved_13 "
    "ais_sart"
)
_DESCRIPTIONS: Final[dict[str, dict[str, Any]]] = {
    TIME: {
        "standard_name": "time",
        "long_name": "time of the fix (UTC)",
        "units": "microseconds since 1970-01-01T00:00:00",
        "calendar": "proleptic_gregorian",
        "axis": "T",
    },
    LON: {"standard_name": "longitude", "long_name": "longitude (WGS 84)", "units": "degrees_east", "axis": "X"},
    LAT: {"standard_name": "latitude", "long_name": "latitude (WGS 84)", "units": "degrees_north", "axis": "Y"},
    "sog_kn": _SPEED,
    "cog_deg": {
        "standard_name": "platform_course",
        "long_name": "course over ground, clockwise from true north",
        "units": "degree",
    },
    "heading_deg": {
        "standard_name": "platform_orientation",
        "long_name": "true heading, clockwise from true north",
        "units": "degree",
    },
    "rot_deg_min": {"long_name": "rate of turn, positive to starboard", "units": "degree minute-1"},
    "nav_status": {
        "long_name": "navigational status (ITU-R M.1371, table 45)",
        "flag_values": list(range(15)),
        "flag_meanings": _STATUS,
    },
    "ship_type": {"long_name": "type of ship and cargo (ITU-R M.1371, table 53)"},
    "vessel_id": {"standard_name": "platform_id", "long_name": "MMSI, or the number that the source gives"},
    "imo": {"long_name": "number of the International Maritime Organization"},
    "name": {"standard_name": "platform_name", "long_name": "name of the vessel"},
    "callsign": {"long_name": "call sign"},
    "length_m": {"long_name": "length of the vessel", "units": "m"},
    "width_m": {"long_name": "breadth of the vessel", "units": "m"},
    "draught_m": {"long_name": "draught", "units": "m"},
    "destination": {"long_name": "destination as sent"},
    "source": {"long_name": "format or sensor that the fix came from"},
    "row": {"long_name": "line or row of the input, from 1"},
    STATE: {
        "long_name": "provenance of the fix",
        "flag_values": list(range(len(STATES))),
        "flag_meanings": " ".join(STATES),
    },
    REASON: {"long_name": "why the fix was rejected"},
    **{
        name: {"standard_name": standard, "long_name": f"{standard} of the members of the ensemble", "units": units}
        for name, standard, units in zip(
            MEMBERS, ("longitude", "latitude"), ("degrees_east", "degrees_north"), strict=True
        )
    },
}
_WIDER: Final = {
    "int8": "int16",
    "int16": "int32",
    "int32": "int64",
    "uint8": "int16",
    "uint16": "int32",
    "uint32": "int64",
}
_QUANTILE: Final = re.compile(r"(lon|lat)_q(\d\d)_deg")
_ELLIPSE: Final = re.compile(r"ellipse(\d+)_(major_km|minor_km|course_deg)")
_AXES: Final = {
    "major_km": ("semi-major axis", "km"),
    "minor_km": ("semi-minor axis", "km"),
    "course_deg": ("course of the major axis, clockwise from true north,", "degree"),
}


def attributes_of(name: str) -> dict[str, Any]:
    """CF attributes of a column; a column that geodiff does not know gets its own name as ``long_name``."""
    if found := _QUANTILE.fullmatch(name):
        axis, units = ("longitude", "degrees_east") if found[1] == "lon" else ("latitude", "degrees_north")
        return {"long_name": f"{int(found[2])} % quantile of {axis} over the members", "units": units}
    if found := _ELLIPSE.fullmatch(name):
        axis, units = _AXES[found[2]]
        return {"long_name": f"{axis} of the ellipse that holds the truth with {found[1]} %", "units": units}
    return dict(_DESCRIPTIONS.get(name, {"long_name": name}))


@dataclass(frozen=True)
class Storage:
    """How a column is stored.

    Attributes:
        dtype: of the array.
        fill: what stands for null.
        attributes: what a reader needs to know of it.
    """

    dtype: str
    fill: Any
    attributes: dict[str, Any] = field(default_factory=dict)


def storage_of(name: str, kind: pl.DataType) -> Storage:
    """How a column of a type (see ``track_columns.is_plain``) is stored."""
    if name in MEMBERS:
        lowest = int(np.iinfo(np.int32).min)
        return Storage("int32", lowest, {"_FillValue": lowest, "scale_factor": 1e-7, "add_offset": 0.0})
    if name == STATE:
        return Storage("int8", 0)
    if kind == pl.String:
        return Storage("string", "")
    if kind == pl.Boolean:
        flags = {"flag_values": [0, 1], "flag_meanings": "false true", "_FillValue": -1}
        return Storage("int8", -1, flags)
    if kind.is_float():
        return Storage("float32" if kind == pl.Float32 else "float64", float("nan"))
    if name == TIME:
        return Storage("int64", int(np.iinfo(np.int64).min))
    dtype = "int64" if kind == pl.Datetime else str(kind).lower()
    if name not in _DESCRIPTIONS:
        # Somebody else's column may hold any value of its type: what says "unknown" needs a wider one.
        dtype = _WIDER.get(dtype, dtype)
    limits = np.iinfo(dtype)
    fill = int(limits.min if limits.min < 0 else limits.max)
    if name == VESSEL_ID:
        # xarray masks a _FillValue in float64, which tells numbers above 2^53 apart no more: those of anonymous tracks.
        return Storage(dtype, fill, {"comment": f"{fill} where unknown"})
    units = {"units": "microseconds since 1970-01-01T00:00:00", "calendar": "proleptic_gregorian"}
    return Storage(dtype, fill, {"_FillValue": fill, **(units if kind == pl.Datetime else {})})


def require_array_names(columns: Iterable[str]) -> None:
    """Refuse columns that cannot be stored under their names: by the rules of Zarr for nodes, or as one is ours.

    Raises:
        GeodiffError: there is one.
    """
    for name in columns:
        if "/" in name or name.startswith("__") or not name.strip(".") or name in (ROW_SIZE, "zarr.json"):
            raise GeodiffError(f"column {name!r}: no array of a Zarr store can have this name, rename the column")


def encoded(series: pl.Series) -> npt.NDArray[Any]:
    """Values of a column as they are stored; null becomes the fill value."""
    kind = series.dtype
    if isinstance(kind, pl.Array):
        return _packed_members(series, kind.size)
    storage = storage_of(series.name, kind)
    if series.name == STATE:
        codes = pl.Series(STATES).to_frame().with_row_index("code")
        return series.replace_strict(codes[""], codes["code"], return_dtype=pl.Int8).to_numpy()
    if kind == pl.Datetime:
        series = series.dt.epoch("us")
    elif kind == pl.Boolean:
        series = series.cast(pl.Int8)
    if kind.is_integer() and storage.dtype != str(kind).lower():
        return series.cast(pl.Int64).fill_null(storage.fill).to_numpy().astype(storage.dtype)
    return series.fill_null(storage.fill).to_numpy()


def _packed_members(series: pl.Series, width: int) -> npt.NDArray[np.int32]:
    column = series.to_arrow(compat_level=pl.CompatLevel.oldest())
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    known = np.asarray(column.is_valid())
    values = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    out = np.full((len(series), width), np.iinfo(np.int32).min, np.int32)
    finite = np.isfinite(values)
    out[known] = np.where(finite, np.rint(np.where(finite, values, 0.0) / MEMBER_STEP_DEG), np.iinfo(np.int32).min)
    return out
