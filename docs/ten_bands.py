"""Draws docs/ten_bands.png: a hillside by the Boadella reservoir in true colour and in the short-wave infrared.

Run from the root of the repository, with GEODIFF_DATA naming the data: ``python docs/ten_bands.py``. No weights were
trained on the reservoir. Contains modified Copernicus Sentinel data 2020-2022.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import matplotlib as mpl
import xarray as xr
from matplotlib import pyplot as plt

import geodiff
from geodiff.config import data_dir
from geodiff.imagery.coregister import with_shifts
from geodiff.outputs.colour import Stretch
from geodiff.schema import BANDS_10M, BANDS_20M
from geodiff.tasks.demo import BOADELLA_BANDS, build_catalog
from geodiff.tasks.model_item import open_series

DATE = "2020-09-14"
ROWS, COLS = slice(130, 206), slice(20, 120)
"""What is shown, in pixels of 10 m."""

RED_GREEN_BLUE = {"B04 B03 B02": ("B04", "B03", "B02"), "B12 B8A B04": ("B12", "B8A", "B04")}


def restored(cube: xr.DataArray) -> xr.Dataset:
    """The date of the picture at 2.5 m, computed."""
    around = cube.isel(y=slice(ROWS.start - 24, ROWS.stop + 24), x=slice(max(COLS.start - 24, 0), COLS.stop + 24))
    found: xr.Dataset = geodiff.superres(with_shifts(around), target=DATE, model="s2x4-ten", ensemble=4)
    return found.compute()


def main() -> None:
    """Restore, and draw."""
    mpl.use("Agg")
    root = data_dir()
    assert root is not None, "GEODIFF_DATA names no folder"
    with tempfile.TemporaryDirectory() as folder:
        scenes = root / "sentinel2" / "boadella"
        catalog = build_catalog(scenes, Path(folder) / "scenes", bands=BOADELLA_BANDS, nodata=-32_768)
        cube = open_series(catalog, (*BANDS_10M, *BANDS_20M))
    fine = restored(cube).sel(
        y=slice(cube.y.values[ROWS.start], cube.y.values[ROWS.stop - 1]),
        x=slice(cube.x.values[COLS.start], cube.x.values[COLS.stop - 1]),
    )
    seen = cube.sel(time=slice(DATE, DATE)).isel(time=0, y=ROWS, x=COLS)
    figure, axes = plt.subplots(2, 3, figsize=(15, 8), layout="constrained")
    for row, (name, bands) in zip(axes, RED_GREEN_BLUE.items(), strict=True):
        before, after = seen.sel(band=list(bands)).values, fine["reflectance"].squeeze().sel(band=list(bands)).values
        stretch = Stretch.of(before, (0, 1, 2))
        native = "10 m" if name.startswith("B04") else "20 m (B04: 10 m)"
        for ax, image, title in ((row[0], before, f"{name}, {native}"), (row[1], after, f"{name}, 2.5 m")):
            ax.imshow(stretch.apply(image))
            ax.set_title(title)
        width = fine["uncertainty"].squeeze().sel(band=bands[0])
        shown = row[2].imshow(width.values, cmap="magma", vmin=0)
        row[2].set_title(f"{bands[0]}: half-width of the 90 % interval")
        figure.colorbar(shown, ax=row[2], shrink=0.8)
    for ax in axes.ravel():
        ax.set_axis_off()
    figure.savefig("docs/ten_bands.png", dpi=60)


if __name__ == "__main__":
    main()
