"""Which layout a table has, told by the names of its columns."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from geodiff.schema import GeodiffError
from geodiff.vessels.layouts import Column, Identity, Layout, Number, Time
from geodiff.vessels.read_columns import beside
from geodiff.vessels.sniff import excerpt

SHOWN = 30
"""Columns named in an error."""

_USUAL = {
    "vessel_id": ("mmsi", "vessel_id", "ship_id", "userid", "id"),
    "time": ("timestamp", "datetime", "time", "basedatetime", "date_time_utc", "date", "utc", "ts"),
    "lon_deg": ("lon", "long", "longitude", "lng", "x"),
    "lat_deg": ("lat", "latitude", "y"),
    "sog_kn": ("sog", "speed", "speedoverground"),
    "cog_deg": ("cog", "course", "courseoverground"),
}
"""What columns are often called; only to write an example of a column map."""


class Header:
    """The columns of a table; names are found as they stand, else without case, blanks and quotes around them."""

    def __init__(self, columns: Iterable[str]) -> None:
        self.columns = tuple(columns)
        self._plain: dict[str, str] = {}
        for name in self.columns:
            self._plain.setdefault(_plain(name), name)

    def find(self, names: str | Iterable[str]) -> str | None:
        """The table's own name for the first of ``names`` that it has."""
        for name in (names,) if isinstance(names, str) else names:
            if name in self.columns:
                return name
            if _plain(name) in self._plain:
                return self._plain[_plain(name)]
        return None


def _plain(name: str) -> str:
    return name.strip("\ufeff\"' \t").casefold()


def required(layout: Layout, *, anonymous: bool = False) -> dict[str, Column]:
    """What a table must have to be read: time, place and, where the layout knows one, the identity if it is needed."""
    given = layout.columns.given()
    needed = ("time", *layout.place) if anonymous else ("vessel_id", "time", *layout.place)
    return {key: given[key] for key in needed if key in given}


def lacking(layout: Layout, header: Header, *, anonymous: bool = False) -> list[str]:
    """Names of columns that the table lacks for this layout."""
    needed = [name for column in required(layout, anonymous=anonymous).values() for name in _all_names(column)]
    out = ["/".join(names) for names in needed if header.find(names) is None]
    return out + [name for name in layout.recognise if header.find(name) is None]


def _all_names(column: Column) -> list[tuple[str, ...]]:
    """Every set of alternatives of which one must be there."""
    return [column.column, *((name,) for name in _further(column))]


def _further(column: Column) -> list[str]:
    """The columns that a mapping needs beside its own."""
    more: list[str | None] = []
    if isinstance(column, Number):
        more = [column.plus, column.hypot]
    elif isinstance(column, Time):
        more = [column.plus_s, column.plus_ms]
    elif isinstance(column, Identity):
        more = list(column.join)
    return [name for name in more if name]


def choose_layout(columns: Sequence[str], layouts: Iterable[Layout], *, where: str, anonymous: bool = False) -> Layout:
    """The layout that fits and explains the most columns; where none does, of an ``anonymous`` table, without identity.

    Raises:
        GeodiffError: none fits; the message lists the columns, the nearest layout, and how to write a column map.
    """
    header, layouts = Header(columns), tuple(layouts)
    fitting = [layout for layout in layouts if not lacking(layout, header)]
    if anonymous and not fitting:
        fitting = [layout for layout in layouts if not lacking(layout, header, anonymous=True)]
    if not fitting:
        raise GeodiffError(f"{where}: {explain_unknown(columns, layouts)}")
    return max(fitting, key=lambda layout: _explained(layout, header))


def check_layout(columns: Sequence[str], layout: Layout, *, where: str, anonymous: bool = False) -> None:
    """Refuse a table that lacks what the named layout needs.

    Raises:
        GeodiffError: columns are missing; the message names them and those that are there.
    """
    if missing := lacking(layout, Header(columns), anonymous=anonymous):
        raise GeodiffError(
            f"{where}: layout {layout.name!r} needs {_listed(missing)}, not among the columns: {_listed(columns)}"
        )


def explain_unknown(columns: Sequence[str], layouts: Iterable[Layout]) -> str:
    """What to tell of a table that no layout fits."""
    header = Header(columns)
    if not columns or sum(_is_value(name) for name in columns) > len(columns) / 2:
        return f"the first line holds no names of columns but {_listed(columns)}: the table needs a header"
    nearest = min(layouts, key=lambda layout: (len(lacking(layout, header)), -_explained(layout, header)))
    lacks = f"nearest is {nearest.name!r}, which needs {_listed(lacking(nearest, header))}; "
    return (
        f"no known layout has the columns {_listed(columns)}; {lacks if _explained(nearest, header) else ''}"
        "write a column map and name it as layout, for instance "
        f"`columns: {{{_example(columns)}}}` (catalogs/ais/README.md)"
    )


def _explained(layout: Layout, header: Header) -> int:
    given = layout.columns.given().values()
    return len(layout.recognise) + sum(header.find(column.column) is not None for column in given)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return (", ".join(excerpt(name) for name in names[:SHOWN]) or "none") + more


def _is_value(name: str) -> bool:
    return not name.strip() or name.strip()[0].isdigit() or name.strip()[0] in "-+!$"


def _example(columns: Sequence[str]) -> str:
    plain = {_plain(name).replace(" ", "").replace("_", ""): name for name in columns}
    pairs = []
    for ours, usual in _USUAL.items():
        near = next((plain[name] for name in usual if name in plain), None)
        near = near or next((plain[n] for n in difflib.get_close_matches(usual[0], plain, n=1, cutoff=0.6)), None)
        if near or ours not in ("sog_kn", "cog_deg"):
            pairs.append(f"{ours}: {excerpt(near) if near else '<column>'}")
    return ", ".join(pairs)


def columns_of(layout: Layout, header: Header, identity: Identity | None) -> dict[str, str]:
    """Our name -> the table's column, for all that is there; the further columns of a mapping by their own name."""
    given = {key: value for key, value in layout.columns.given().items() if key != "vessel_id"}
    mapped = {**given, **({"vessel_id": identity} if identity is not None else {})}
    names: dict[str, str] = {}
    for key, told in mapped.items():
        found = header.find(told.column)
        if found is None:
            continue
        others = {beside(name): header.find(name) for name in _further(told)}
        if all(other is not None for other in others.values()):
            names |= {key: found, **{name: other for name, other in others.items() if other is not None}}
    for apart in layout.apart:
        if (found := header.find(apart.column)) is not None:
            names[f"apart {apart.column}"] = found
    return names
