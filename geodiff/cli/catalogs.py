"""``geodiff search`` and ``geodiff catalog build``."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from geodiff.cli.inputs import Bbox, Catalog, Collections, Interval, MaxCloud, Region, read_region, split_words
from geodiff.cli.show import print_rows, stage_bars
from geodiff.schema import public


def search(
    *,
    catalog: Catalog,
    interval: Interval,
    collection: Collections = None,
    bbox: Bbox = None,
    region: Region = None,
    max_cloud: MaxCloud = None,
    limit: Annotated[int | None, typer.Option(help="At most so many scenes, the earliest.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the scenes to this file (STAC ItemCollection).")] = None,
    sources: Annotated[Path | None, typer.Option(help="Your own sources, in the form of sources.yaml.")] = None,
) -> None:
    """List the scenes of a catalogue: an API and a folder of files answer the same words."""
    from geodiff.imagery.catalog import describe, save_items
    from geodiff.imagery.catalog import search as find
    from geodiff.imagery.sources import load_source

    source = load_source(catalog, extra=sources)
    items = find(
        source,
        collections=split_words(collection),
        bbox=bbox,
        geometry=read_region(region)[0] if region else None,
        datetime=interval,
        max_cloud=max_cloud,
        limit=limit,
    )
    rows = [
        (
            row.id,
            f"{row.time:%Y-%m-%d %H:%M}",
            "" if row.cloud_percent is None else f"{row.cloud_percent:.0f} %",
            row.tile or "",
            row.crs or "",
            row.baseline or "",
            " ".join(row.bands),
        )
        for row in describe(items, source)
    ]
    print_rows(("scene", "date (UTC)", "cloud", "tile", "CRS", "baseline", "bands"), rows)
    typer.echo(f"{len(items)} scene{'' if len(items) == 1 else 's'} in {public(source.location)}")
    if out is not None:
        save_items(items, out, source=source)
        typer.echo(f"written to {out}")


def build(
    folder: Annotated[Path, typer.Argument(help="Holds the GeoTIFF, JPEG 2000 or NetCDF scenes.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder of the catalogue.")],
    bands: Annotated[
        list[str] | None, typer.Option(help="Names of the bands of multi-band files: B02,B03 or repeated.")
    ] = None,
    collection: Annotated[str | None, typer.Option(help="Id of the collection; default: the folder's name.")] = None,
    crs: Annotated[str | None, typer.Option(help="Of files without one, for instance EPSG:32631.")] = None,
    scale: Annotated[float | None, typer.Option(help="Reflectance per digital number.")] = None,
    offset: Annotated[float | None, typer.Option(help="In reflectance, added after the scale.")] = None,
    nodata: Annotated[float | None, typer.Option(help="The digital number that stands for no data.")] = None,
    date: Annotated[datetime | None, typer.Option(help="Of scenes that do not tell theirs (UTC).")] = None,
    offset_applied: Annotated[
        bool | None,
        typer.Option(help="Whether the +1000 of baseline 04.00 (from 2022-01-25 on) was subtracted already."),
    ] = None,
) -> None:
    """Make a static STAC catalogue of your own scenes, for --catalog of the other commands."""
    from geodiff.imagery.build import build_catalog

    with stage_bars() as bars:
        root = build_catalog(
            folder,
            out,
            bands=split_words(bands) or None,
            collection_id=collection,
            scale=scale,
            offset=offset,
            nodata=nodata,
            crs=crs,
            date=date.replace(tzinfo=date.tzinfo or UTC) if date else None,
            boa_offset_applied=offset_applied,
            progress=lambda done, total, name: bars("scenes", done, total),
        )
    typer.echo(str(root))
