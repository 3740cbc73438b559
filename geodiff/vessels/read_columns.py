"""Raw columns of a table -> ours: numbers in our units, codes, texts, identities; what cannot be read is marked.

A value that means "not available" becomes null. A value that is there and cannot be read leaves a true ``unreadable``
mark, and one that a transponder may send but the standard does not define is blanked with a mark, so that the reader
can count both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from geodiff.tracks import FIX_TYPES, STATIC_TYPES
from geodiff.vessels.codes import (
    HASHED_FROM,
    SHIP_TYPE_WORDS,
    STATUS_WORDS,
    UNKNOWN,
    codes_of,
    identity_of,
)
from geodiff.vessels.layouts import Code, Identity, Layout, Number, Text
from geodiff.vessels.reading import POLARS_TYPES

STATIC_SCHEMA = {name: POLARS_TYPES[kind] for name, kind in STATIC_TYPES.items()}
OUT_SCHEMA = {**{name: POLARS_TYPES[kind] for name, kind in FIX_TYPES.items()}, **STATIC_SCHEMA}

_SIZES = {"length_m": 1022.0, "width_m": 126.0, "draught_m": 25.5}
"""The largest that type 5 can say; 0 means not available."""
_CODE_RANGES = {"nav_status": (0, 14), "ship_type": (1, 255)}
_NO_CODE = {"nav_status": 15, "ship_type": 0}
_WORDS = {"nav_status": STATUS_WORDS, "ship_type": SHIP_TYPE_WORDS}
_DECIMAL_COMMA = r"^[+-]?\d+,\d+$"
_ROT_NONE = 719.5
"""Degrees per minute that stand for codes 127 and -128: no turn indicator, or not available."""


def unreadable(key: str) -> str:
    """Mark: a value is there but is none."""
    return f"__unreadable_{key}"


def blanked(key: str) -> str:
    """Mark: a value was there and was blanked."""
    return f"__blanked_{key}"


def beside(name: str) -> str:
    """Key in ``Source.names`` of a further column of a mapping."""
    return f"+{name}"


@dataclass(frozen=True, slots=True)
class Source:
    """Columns of one table by our names.

    Attributes:
        layout: of the table.
        names: our name -> the table's column; further columns of a mapping under ``beside(their name)``.
        decimal_comma: numbers are written with one.
        identity: what names a vessel; None for anonymous plots.
    """

    layout: Layout
    names: Mapping[str, str]
    decimal_comma: bool
    identity: Identity | None

    def text(self, column: str) -> pl.Expr:
        """A column as text without blanks around it, null where it is one of the layout's nulls."""
        text = pl.col(column).cast(pl.String).str.strip_chars()
        return pl.when(~text.is_in(list(self.layout.nulls))).then(text)

    @property
    def null_numbers(self) -> list[float]:
        """Those of the layout's nulls that are numbers."""
        found = [_as_number(none) for none in self.layout.nulls if none.lower() not in ("nan", "inf")]
        return [none for none in found if none is not None]

    def spelling(self) -> pl.Expr:
        """The texts that together name a vessel."""
        assert self.identity is not None
        names = [self.names["vessel_id"], *(self.names[beside(name)] for name in self.identity.join)]
        return pl.concat_str([self.text(name) for name in names], separator="/")


def number_columns(frame: pl.DataFrame, source: Source) -> list[pl.Series]:
    """The mapped numbers and, where some texts are none, their ``unreadable`` marks."""
    out = []
    for key, told in source.layout.columns.given().items():
        if isinstance(told, Number) and key in source.names:
            value = number_values(frame, source.names[key], source)
            bad = _unreadable(frame, source.names[key], value, source)
            out.append(_converted(frame, value, told, source).alias(key))
            if bad is not None:
                out.append(bad.alias(unreadable(key)))
    return out


def number_values(frame: pl.DataFrame, column: str, source: Source) -> pl.Series:
    """Float64; null where there is nothing or no number."""
    value = pl.col(column)
    if frame.schema[column] == pl.String:
        value = value.str.strip_chars()
        value = value.str.replace(",", ".", literal=True) if source.decimal_comma else value
    number = value.cast(pl.Float64, strict=False)
    if nulls := source.null_numbers:
        number = pl.when(~number.is_in(nulls)).then(number)
    return frame.select(number.alias(column)).to_series()


def _unreadable(frame: pl.DataFrame, column: str, value: pl.Series, source: Source) -> pl.Series | None:
    """Where a text is there and is no number; None, at no cost, where that is nowhere so."""
    if frame.schema[column] != pl.String or value.null_count() == frame[column].null_count():
        return None
    bad = frame.select(source.text(column)).to_series().is_not_null() & value.is_null()
    return bad if bad.any() else None


def _converted(frame: pl.DataFrame, value: pl.Series, told: Number, source: Source) -> pl.Series:
    """In our unit, null where it stands for "not available"."""
    number = pl.col("v").fill_nan(None)
    if told.nulls:
        number = pl.when(~number.is_in(list(told.nulls))).then(number)
    if told.wrap is not None:
        number = pl.when(number < 0).then(number + told.wrap).otherwise(number)
    if told.ais_rot:
        number = number.sign() * (number / 4.733) ** 2  # ITU-R M.1371-5, table 48
    for other in (told.plus, told.hypot):
        if other is not None:
            second = pl.lit(number_values(frame, source.names[beside(other)], source)).fill_nan(None)
            second = pl.when(~second.is_in(list(told.nulls))).then(second) if told.nulls else second
            number = number + second if other == told.plus else (number**2 + second**2).sqrt()
    if told.scale != 1.0:
        number = number * told.scale
    return value.to_frame("v").select(number.alias("v")).to_series()


def not_available(frame: pl.DataFrame) -> list[pl.Expr]:
    """Codes of ITU-R M.1371-5 to null; what the standard leaves undefined is blanked and marked.

    Two speeds are those of fast craft and codes of others. 63.0 knots are "not available" in message 27, but tables do
    not name messages: they go where the row has no course either, for a ship that does 63 knots has one. 51.2 knots are
    the top bit of the counter alone: they go, as in NMEA, and beside a course they are marked. Displacements cannot
    decide about either, for none of the 5.7 million rows of the NOAA day says so.
    """
    out: list[pl.Expr] = []
    if "sog_kn" in frame.columns:
        sog, still = pl.col("sog_kn"), _without_course(frame)
        noise = (sog - 51.2).abs() < 1e-3
        none = ((sog - 102.3).abs() < 0.01) | noise | ((sog == 63.0) & still)
        out.append(pl.when(~none).then(sog).alias("sog_kn"))
        out.append((noise & ~still).fill_null(False).alias(blanked("sog_kn")))
    for key, low, high, code in (("cog_deg", 360.0, 409.6, 360.0), ("heading_deg", 360.0, 511.0, 511.0)):
        if key in frame.columns:
            value = pl.col(key)
            none, undefined = (value - code).abs() < 1e-3, (value >= low) & (value <= high)
            out.append(pl.when(~undefined).then(value).alias(key))
            out.append((undefined & ~none).fill_null(False).alias(blanked(key)))
    if "rot_deg_min" in frame.columns:
        rot = pl.col("rot_deg_min")
        out.append(pl.when((rot != -128.0) & ~rot.abs().is_between(_ROT_NONE, 732.0)).then(rot).alias("rot_deg_min"))
    for key, most in _SIZES.items():
        if key in frame.columns:
            size = pl.col(key)
            out.append(pl.when((size > 0) & (size <= most)).then(size).alias(key))
            odd = ((size < 0) | (size > most)).fill_null(False)
            odd = odd | pl.col(unreadable(key)) if unreadable(key) in frame.columns else odd
            out.append(odd.alias(blanked(key)))
    return out


def _without_course(frame: pl.DataFrame) -> pl.Expr:
    """Rows whose course is not available; all where courses are not said."""
    course = pl.col("cog_deg")
    return course.is_null() | (course >= 360.0) if "cog_deg" in frame.columns else pl.lit(True)


def code_columns(frame: pl.DataFrame, source: Source) -> list[pl.Series]:
    """Ship types and navigational status as codes, with their ``blanked`` marks."""
    out = []
    for key, told in source.layout.columns.given().items():
        if not isinstance(told, Code) or key not in source.names:
            continue
        values = frame[source.names[key]]
        if values.dtype == pl.String:
            values = frame.select(source.text(values.name)).to_series()
        codes = values.replace_strict(_code_table(values, key, told), default=None, return_dtype=pl.Float64)
        low, high = _CODE_RANGES[key]
        odd = codes.is_not_null() & ~(codes.is_between(low, high) & (codes % 1 == 0))
        clean = pl.DataFrame({"c": codes, "odd": odd}).select(pl.when(~pl.col("odd")).then("c")).to_series()
        out += [clean.cast(POLARS_TYPES[FIX_TYPES[key]]).alias(key), odd.alias(blanked(key))]
    return out


def _code_table(values: pl.Series, key: str, told: Code) -> dict[object, float | None]:
    """Code of each value that occurs."""
    spelt = {str(value): value for value in values.unique().drop_nulls()}
    own = {_canonical(text): code for text, code in told.values.items()}
    own |= {_canonical(str(none)): _NO_CODE[key] for none in told.nulls}
    table: dict[str, float | None] = {}
    worded = []
    for text in spelt:
        number = _as_number(text)
        if number is None:
            worded.append(text)
        else:
            table[text] = float(own.get(_canonical(text), number))
    table.update(
        {text: None if code is None else float(code) for text, code in codes_of(worded, _WORDS[key], own).items()}
    )
    return {spelt[text]: None if code == _NO_CODE[key] else code for text, code in table.items()}


def _canonical(text: str) -> str:
    number = _as_number(text)
    return text if number is None else f"{number:g}"


def _as_number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) < 1e18 else float(UNKNOWN)


def text_columns(source: Source) -> list[pl.Expr]:
    """Names, call signs and destinations without the padding of AIS; IMO numbers as numbers."""
    out = []
    for key, told in source.layout.columns.given().items():
        if not isinstance(told, Text) or key not in source.names:
            continue
        text = source.text(source.names[key])
        if key == "imo":
            digits = text.str.extract(r"^(?i:IMO)?\s*(\d{1,18})(?:\.0*)?$").cast(pl.Int64, strict=False)
            valid = digits.is_between(1_000_000, 9_999_999)
            out.append(pl.when(valid).then(digits).alias("imo"))
            odd = text.is_not_null() & ~valid.fill_null(False) & (digits != 0).fill_null(True)
            out.append(odd.alias(blanked("imo")))
        else:
            bare = text.str.strip_chars_end("@ ")
            out.append(pl.when(bare != "").then(bare).alias(key))
    return out


def identity_columns(frame: pl.DataFrame, source: Source) -> list[pl.Series]:
    """``vessel_id`` with its ``unreadable`` mark; for texts their spelling as ``__spelt``."""
    told = source.identity
    if told is None:
        return [pl.Series("vessel_id", [None] * frame.height, pl.Int64)]
    if told.kind == "text":
        spelt = frame.select(source.spelling()).to_series()
        table = {text: identity_of(text) for text in spelt.unique().drop_nulls()}
        ids = spelt.replace_strict(table, default=None, return_dtype=pl.Int64).alias("vessel_id")
        return [ids, spelt.alias("__spelt")]
    column = source.names["vessel_id"]
    kind = frame.schema[column]
    text = source.text(column)
    if kind.is_integer():
        text, number = pl.col(column), pl.col(column).cast(pl.Int64, strict=False)
    elif kind.is_float():
        number = pl.col(column).fill_nan(None)
        number = pl.when((number % 1 == 0) & (number.abs() < 2.0**53)).then(number).cast(pl.Int64, strict=False)
    else:
        number = text.str.extract(r"^([+-]?\d{1,18})(?:\.0*)?$").cast(pl.Int64, strict=False)
    bad = text.is_not_null() & number.is_null()
    return list(frame.select(number.alias("vessel_id"), bad.alias(unreadable("vessel_id"))))


def spelt_names(frame: pl.DataFrame) -> pl.Expr:
    """The name, else the text that the identity was made of."""
    text = pl.when(pl.col("vessel_id") >= HASHED_FROM).then(pl.col("__spelt"))
    return pl.coalesce("name", text).alias("name") if "name" in frame.columns else text.alias("name")


def has_decimal_comma(sample: pl.DataFrame, names: Mapping[str, str], layout: Layout) -> bool:
    """Whether latitudes, or what stands for them, are written with one."""
    name = names[layout.place[1]]
    if sample.schema[name] != pl.String:
        return False
    values = sample[name].drop_nulls().str.strip_chars()
    return 2 * int(values.str.contains(_DECIMAL_COMMA).sum()) > len(values)
