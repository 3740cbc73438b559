"""Layouts of tables of AIS and radar: which column is what, in which unit; a user's column map has the same form.

A layout is a YAML file; those of ``catalogs/ais`` ship, and ``read_layout("mine.yaml")`` reads your own:

    name: harbour
    columns:
      vessel_id: MMSI_NO                 # a name, a list of names (the first that is there), or a mapping
      time: {column: STAMP, formats: ["%d.%m.%Y %H:%M:%S"], timezone: Europe/Oslo}
      lon_deg: X
      lat_deg: Y
      sog_kn: {column: SPEED, scale: 1.943844}   # metres per second -> knots
      ship_type: {column: TYPE, values: {coaster: 70}}

The keys of ``columns`` are those of ``geodiff.tracks`` (fixes and static data), and for ``kind: radar`` ``range_m``
with ``bearing_deg``, or ``north_m`` with ``east_m``, in place of longitude and latitude. Unknown keys are errors.
``catalogs/ais/README.md`` explains every key.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, field_validator, model_validator

from geodiff.config import Settings, catalogs_dir, read_yaml
from geodiff.schema import UsageError

LOCAL = "local"
TIME_OF_DAY = "time_of_day"
EPOCHS = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1}
"""Formats of numbers: microseconds in their unit."""


def _as_mapping(value: object) -> object:
    """``LON`` and ``[LON, Longitude]`` are short for ``{column: ...}``."""
    return {"column": value} if isinstance(value, str | list | tuple) else value


def _as_names(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _as_text_keys(value: object) -> object:
    return {str(key): item for key, item in value.items()} if isinstance(value, dict) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_as_names)]


class Column(Settings):
    """Where a value comes from; ``column`` lists the names it may go by, the first that is there counts."""

    column: Names = Field(min_length=1)


class Number(Column):
    """A number: ``value * scale``.

    Attributes:
        scale: factor from the unit of the source to ours.
        wrap: added to negative values, for a counter that was stored with a sign.
        nulls: numbers, as stored, that mean "not available", beside those of ITU-R M.1371.
        plus: a column whose value is added (bow + stern = length).
        hypot: a column that is the other component of a vector whose length is wanted.
        ais_rot: the number is ROT_AIS, 4.733 times the root of the rate in degrees per minute, with its sign.
    """

    scale: float = Field(1.0, gt=0, allow_inf_nan=False)
    wrap: float | None = Field(None, gt=0)
    nulls: tuple[float, ...] = ()
    plus: str | None = None
    hypot: str | None = None
    ais_rot: bool = False


class Code(Column):
    """A code of ITU-R M.1371, as number or text.

    Attributes:
        values: text or number of the source -> code; texts are compared without case and punctuation.
        nulls: numbers or texts that mean "not available".
    """

    values: Annotated[dict[str, int], BeforeValidator(_as_text_keys)] = Field(default_factory=dict)
    nulls: tuple[float | str, ...] = ()


class Text(Column):
    """A text; blanks and the padding ``@`` of AIS are cut."""


class Identity(Column):
    """Who it was.

    Attributes:
        kind: ``mmsi``, nine digits at most; ``number``, the source's own; ``text``: whole numbers stay themselves,
            other texts become a stable number from 2**62 up, and the name where the source has none.
        join: further columns; together with ``column`` they name a vessel (text).
    """

    kind: Literal["mmsi", "number", "text"] = "mmsi"
    join: Names = ()

    @model_validator(mode="after")
    def _joined_are_texts(self) -> Self:
        if self.join and self.kind != "text":
            raise ValueError("join needs kind: text, for several columns together are no number")
        return self


class Time(Column):
    """When it was.

    Attributes:
        formats: strptime formats (chrono's, ``%.f`` for fractions), ``epoch_s``, ``epoch_ms``, ``epoch_us`` or
            ``time_of_day``; the first that fits a sample counts. None: sniffed, ambiguous dates are refused.
        timezone: of times without an offset: a name of the IANA database, or ``local`` where the reader must be told.
        plus_s, plus_ms: a column of seconds or of milliseconds that are added.
    """

    formats: Names = ()
    timezone: str = "UTC"
    plus_s: str | None = None
    plus_ms: str | None = None

    @field_validator("timezone")
    @classmethod
    def _zone_is_known(cls, zone: str) -> str:
        if zone != LOCAL:
            check_zone(zone)
        return zone


def check_zone(zone: str) -> None:
    """Refuse what the IANA database does not know.

    Raises:
        UsageError: no such zone.
    """
    try:
        ZoneInfo(zone)
    except (OSError, ValueError, KeyError):
        raise UsageError(f"no time zone {zone!r}: give a name such as Europe/Oslo or UTC") from None


class Apart(Settings):
    """Rows that are no vessels or no positions: refused and counted as ``reason`` where ``column`` is in ``values``."""

    column: str
    values: tuple[str | int, ...] = Field(min_length=1)
    reason: str = Field(min_length=3)


NumberOf = Annotated[Number, BeforeValidator(_as_mapping)]
CodeOf = Annotated[Code, BeforeValidator(_as_mapping)]
TextOf = Annotated[Text, BeforeValidator(_as_mapping)]
IdentityOf = Annotated[Identity, BeforeValidator(_as_mapping)]
TimeOf = Annotated[Time, BeforeValidator(_as_mapping)]


class Columns(Settings):
    """Our name -> the source's column; time and place are a must."""

    time: TimeOf
    vessel_id: IdentityOf | None = None
    lon_deg: NumberOf | None = None
    lat_deg: NumberOf | None = None
    range_m: NumberOf | None = None
    bearing_deg: NumberOf | None = None
    north_m: NumberOf | None = None
    east_m: NumberOf | None = None
    sog_kn: NumberOf | None = None
    cog_deg: NumberOf | None = None
    heading_deg: NumberOf | None = None
    rot_deg_min: NumberOf | None = None
    nav_status: CodeOf | None = None
    ship_type: CodeOf | None = None
    source: TextOf | None = None
    row: NumberOf | None = None
    imo: TextOf | None = None
    name: TextOf | None = None
    callsign: TextOf | None = None
    length_m: NumberOf | None = None
    width_m: NumberOf | None = None
    draught_m: NumberOf | None = None
    destination: TextOf | None = None

    def given(self) -> dict[str, Column]:
        """The mapped ones, by our name."""
        return {key: value for key in type(self).model_fields if (value := getattr(self, key)) is not None}


PLACES = {
    "ais": (("lon_deg", "lat_deg"),),
    "radar": (("range_m", "bearing_deg"), ("north_m", "east_m"), ("lon_deg", "lat_deg")),
}
"""Pairs of columns that say where, by kind of layout."""


class Layout(Settings):
    """One form of table.

    Attributes:
        name: what the column ``source`` says, unless the table has such a column.
        title: one line for people.
        kind: ``ais``, or ``radar``: plots and tracks about a sensor.
        columns: our names -> the source's.
        recognise: further columns that a table must have to be taken for this layout.
        truth: an identity that the source holds as the truth of an association; read only when asked.
        nulls: texts that mean "not available" in every column; compared as they stand, without blanks around them.
        apart: rows that are no positions of vessels.
        static_rows: the rows without a position carry static data, which join the later fixes of their vessel.
        delimiter: of a text table, a tab, a blank or a mark of ASCII other than a double quote; None: sniffed.
        decimal_comma: numbers with a decimal comma; None: sniffed.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")
    title: str = ""
    kind: Literal["ais", "radar"] = "ais"
    columns: Columns
    recognise: tuple[str, ...] = ()
    truth: IdentityOf | None = None
    nulls: tuple[str, ...] = ("", "None", "NULL", "null", "nan", "NaN", "N/A", "NA")
    apart: tuple[Apart, ...] = ()
    static_rows: bool = False
    delimiter: str | None = Field(None, pattern=r"^[\t !#-/:-@\[-`{-~]$")
    decimal_comma: bool | None = None

    @property
    def place(self) -> tuple[str, str]:
        """The pair of our columns that says where."""
        given = self.columns.given()
        return next(pair for pair in PLACES[self.kind] if all(name in given for name in pair))

    @model_validator(mode="after")
    def _says_where(self) -> Self:
        given = self.columns.given()
        pairs = PLACES[self.kind]
        if not any(all(name in given for name in pair) for pair in pairs):
            raise ValueError("columns must map " + " or ".join(" and ".join(pair) for pair in pairs))
        return self


def read_layout(source: str | Path) -> Layout:
    """The layout that ships under a name, or a user's own file.

    Raises:
        UsageError: neither a known name nor a readable file, or the file breaks the form; it names the key.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return Layout.parse({"name": "map", **read_yaml(path)}, where=str(path))
    known = shipped_layouts()
    if str(source) in known:
        return known[str(source)]
    raise UsageError(f"layout {str(source)!r} is neither a file nor one of {', '.join(known)}")


@cache
def shipped_layouts() -> dict[str, Layout]:
    """The layouts of ``catalogs/ais`` by name.

    Raises:
        UsageError: a file breaks the form.
    """
    paths = sorted((catalogs_dir() / "ais").glob("*.yaml"))
    return {path.stem: Layout.parse(read_yaml(path), where=str(path)) for path in paths}
