"""An interactive chart of tracks in one HTML file that needs nothing else: no server, no library, no request.

The data lie in the page as base64 of little-endian arrays; names, which come from strangers over radio, only ever
become text nodes. The content security policy of the page allows its own script and style and no connection.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from geodiff.outputs.atomic import explained, write_bytes
from geodiff.outputs.track_chart import COLOURS, Array, coastline_lines, framed
from geodiff.outputs.track_drawing import CLASSES, Drawing, Source, drawing_of
from geodiff.outputs.track_thinning import Limits, Table
from geodiff.tracks import SHIP_TYPE, TRACK_ID, VESSEL_ID

LIMITS: Final = Limits()
_NAME: Final = 40
_REASON: Final = 200
_STEP_DEG: Final = 2e-7
"""Of a stored position: 1e-7 of a degree from the origin would overflow on a whole globe, 2e-7 does not: 2 cm."""

_REACH_DEG: Final = 429.0
"""What 32 bits of such steps reach on both sides of the origin."""


def write_page(
    source: Source | Drawing, path: Path, *, title: str = "Vessel tracks", coastline: Path | None = None
) -> Path:
    """Write the interactive chart: pan, zoom, what is under the pointer, time, states, ensembles, regions.

    Its size is bounded by ``Limits`` (about 20 bytes for each vertex, 6 MB in all at most); the page says what was left
    out and how far that lies from what is shown.

    Args:
        source: as for ``track_drawing.drawing_of``, or a drawing.
        path: the HTML file.
        title: heading.
        coastline: a vector file of coastlines or land.

    Returns:
        ``path``.

    Raises:
        GeodiffError: nothing to draw, an unreadable coastline, or a file that cannot be written.
    """
    drawing = _unwound(source if isinstance(source, Drawing) else drawing_of(source, LIMITS))
    frame = framed(drawing.extent)
    width, height = frame[2] - frame[0], frame[3] - frame[1]
    around = frame[0] - width, frame[1] - height, frame[2] + width, frame[3] + height
    lines = coastline_lines(coastline, around) if coastline else []
    with explained(path):
        write_bytes(path, _page(_data(drawing, lines), title, drawing.account).encode())
    return path


def _page(data: dict[str, Any], title: str, account: str) -> str:
    viewer = files("geodiff.outputs")
    script = viewer.joinpath("track_viewer.js").read_text(encoding="utf-8")
    style = viewer.joinpath("track_viewer.css").read_text(encoding="utf-8")
    policy = f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head>\n"
        f"<body><header><h1>{escape(title)}</h1><p>{escape(account)}</p></header>\n"
        '<main><canvas id="chart" tabindex="0" aria-label="chart of vessel tracks"></canvas>'
        '<div id="card" hidden></div><div id="panel"></div></main>\n'
        '<footer id="clock"></footer>\n'
        f'<script id="data" type="application/json">{embedded(data)}</script>\n'
        f"<script>{script}</script></body></html>\n"
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def embedded(value: Any) -> str:
    """JSON that may stand inside a script element: no character of it can end the element or a line."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _data(drawing: Drawing, coast: Sequence[Array]) -> dict[str, Any]:
    left, bottom, right, top = drawing.extent
    origin = (left + right) / 2, (bottom + top) / 2
    tables = (drawing.points, drawing.dots, drawing.members, drawing.ellipses)
    times = np.concatenate([table["time_s"] for table in tables])
    start = float(np.floor(times.min()))
    members = drawing.members
    breaks = (np.diff(members["run"]) != 0) | (np.diff(members["member"]) != 0)
    line = np.concatenate([np.zeros(1, np.int64), np.cumsum(breaks)])[: members["x"].size]
    ellipses = drawing.ellipses
    tracks = drawing.tracks
    told, reason = np.unique(drawing.dots["reason"], return_inverse=True)
    return {
        "origin": origin,
        "extent": framed(drawing.extent),
        "start": start,
        "end": float(np.ceil(times.max())),
        "made": datetime.now(UTC).strftime("%Y-%m-%d"),
        "classes": list(CLASSES),
        "counts": drawing.of_class,
        "colours": [COLOURS[state] for state in CLASSES],
        "tracks": {
            "id": tracks[TRACK_ID].to_list(),
            "vessel": [None if one is None else str(one) for one in tracks[VESSEL_ID].to_list()],
            "type": tracks[SHIP_TYPE].to_list(),
            "name": [None if one is None else str(one)[:_NAME] for one in tracks["name"].to_list()],
        },
        "points": {**_placed(drawing.points, origin, start), **_moving(drawing.points)},
        "dots": {
            **_placed(drawing.dots, origin, start),
            **_moving(drawing.dots),
            "reason": _packed(reason, "<i4"),
        },
        "reasons": [drawing.reasons[one][:_REASON] if one >= 0 else "" for one in told.tolist()],
        "members": {
            **_placed(members, origin, start),
            "line": _packed(line, "<i4"),
            "state": _packed(members["state"], "<i1"),
        },
        "ellipses": {
            **_placed(ellipses, origin, start),
            "level": _packed(np.rint(100 * ellipses["level"]), "<u1"),
            **{name: _packed(ellipses[name], "<f4") for name in ("major_km", "minor_km", "course_deg", "lat_deg")},
        },
        "coast": {
            "line": _packed(np.repeat(np.arange(len(coast)), [len(one) for one in coast]), "<i4"),
            **{
                axis: _packed(np.concatenate([np.empty(0), *(one[:, i] for one in coast)]) - origin[i], "<f4")
                for i, axis in enumerate("xy")
            },
        },
    }


def _unwound(drawing: Drawing) -> Drawing:
    """The drawing on one turn of the Earth, where a track winds about a pole further than a position can say.

    Lines are cut where they leave the turn: each further piece of a track becomes a track of the same facts.
    """
    left, _, right, _ = drawing.extent
    middle = (left + right) / 2
    tables = (drawing.points, drawing.dots, drawing.members, drawing.ellipses)
    if max(np.abs(table["x"] - middle).max(initial=0.0) for table in tables) <= _REACH_DEG:
        return drawing
    turns = [np.rint((table["x"] - middle) / 360.0) for table in tables]
    home = [{**table, "x": table["x"] - 360.0 * turn} for table, turn in zip(tables, turns, strict=True)]
    points, dots, members, ellipses = home
    track = points["track"]
    cut = np.flatnonzero((np.diff(track) == 0) & (np.diff(turns[0]) != 0)) + 1
    piece = np.searchsorted(cut, np.arange(track.size), side="right")
    head = np.maximum.accumulate(np.where(np.diff(track, prepend=-1) != 0, np.arange(track.size), 0))
    points["track"] = np.where(piece > piece[head], len(drawing.tracks) - 1 + piece, track)
    members["run"] = np.cumsum((np.diff(members["run"], prepend=0) != 0) | (np.diff(turns[2], prepend=0) != 0))
    tracks = pl.concat([drawing.tracks, drawing.tracks[track[cut].tolist()]])
    return replace(drawing, points=points, dots=dots, members=members, ellipses=ellipses, tracks=tracks)


def _placed(table: Table, origin: tuple[float, float], start: float) -> dict[str, str]:
    x, y = (_packed(np.rint((table[axis] - o) / _STEP_DEG), "<i4") for axis, o in zip("xy", origin, strict=True))
    return {
        "track": _packed(table["track"], "<i4"),
        "x": x,
        "y": y,
        "time": _packed(np.rint(table["time_s"] - start), "<u4"),
    }


def _moving(table: Table) -> dict[str, str]:
    speed = np.where(np.isfinite(table["sog_kn"]), np.clip(np.rint(10.0 * table["sog_kn"]), 0, 65534), 65535)
    return {"speed": _packed(speed, "<u2"), "state": _packed(table["state"], "<i1")}


def _packed(values: npt.NDArray[Any], kind: str) -> str:
    return base64.b64encode(np.asarray(values).astype(kind).tobytes()).decode()
