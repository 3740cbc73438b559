"""What the commands share: options, and reading what they name."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from geodiff.schema import UsageError

Catalog = Annotated[
    str,
    typer.Option(
        help="Name of a source (catalogs/sources.yaml), URL of a STAC API, URL or path of a catalogue or items.json."
    ),
]
Collections = Annotated[list[str] | None, typer.Option("--collection", help="May be repeated; default: the source's.")]
Bbox = Annotated[
    tuple[float, float, float, float] | None,
    typer.Option("--bbox", metavar="W S E N", help="Box in degrees, longitude first."),
]
Region = Annotated[Path | None, typer.Option(help="GeoJSON file in degrees; its extent is used in place of --bbox.")]
Interval = Annotated[str, typer.Option("--datetime", metavar="A/B", help="Dates in UTC, both days included.")]
MaxCloud = Annotated[float | None, typer.Option(help="Leave out scenes with more cloud, in percent.")]


def split_words(words: Iterable[str] | None) -> tuple[str, ...]:
    """Values of an option that may be repeated and may hold commas: ``B02,B03`` or ``--bands B02 --bands B03``."""
    return tuple(part.strip() for word in words or () for part in word.split(",") if part.strip())


def read_region(path: Path) -> tuple[dict[str, Any], str]:
    """The geometry of a GeoJSON file, features joined, and a name for it: the feature's own, else the file's.

    Raises:
        UsageError: no such file, not GeoJSON, empty, or not in degrees.
    """
    from shapely import GEOSException, union_all
    from shapely.geometry import mapping, shape

    from geodiff.grid import check_bbox

    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        features = document.get("features", [document])
        geometry = union_all([shape(each["geometry"] if each["type"] == "Feature" else each) for each in features])
    except OSError as error:
        raise UsageError(f"--region {path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, GEOSException) as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise UsageError(f"--region {path} is not GeoJSON ({why})") from None
    if geometry.is_empty:
        raise UsageError(f"--region {path} holds no geometry: draw a polygon in degrees")
    try:
        check_bbox(geometry.bounds)
    except UsageError as error:
        raise UsageError(f"--region {path}: {error}") from None
    return json.loads(json.dumps(mapping(geometry))), _name_of(features, path)


def _name_of(features: list[dict[str, Any]], path: Path) -> str:
    said = (features[0].get("properties") or {}) if len(features) == 1 else {}
    names = (said.get("name"), said.get("id"), features[0].get("id"), path.stem)
    return next((name for text in names if text and (name := file_name(str(text)))), "region")


def file_name(text: str) -> str:
    """A text as the name of a folder and of a collection: letters, digits, '.', '_' and '-'."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:80]


def default_workers() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
