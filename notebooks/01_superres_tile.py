# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Super-resolving one place
#
# From a catalogue of Sentinel-2 scenes to a sharper picture of one day, and an answer to the question how far it can be
# trusted. We search, look at the dates, restore one of them lazily, compare it with plain interpolation, and open the
# result of a finished run with xarray.
#
# With the environment variable `GEODIFF_DATA` the place is the Boadella reservoir in Catalonia (contains modified
# Copernicus Sentinel data 2020-2022). Without it the notebook draws a synthetic place, and everything works alike.

# %%
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pystac
import xarray as xr

import geodiff
from geodiff.config import MaskConfig, SuperresConfig, data_dir
from geodiff.grid import Grid
from geodiff.imagery.build import build_catalog
from geodiff.imagery.catalog import describe, search
from geodiff.imagery.coregister import with_shifts
from geodiff.imagery.cube import choose_grid, load_cube
from geodiff.imagery.ranking import rank_dates
from geodiff.imagery.sources import load_source
from geodiff.outputs.colour import textured_square
from geodiff.sensor import band_mtf, degrade

plt.rcParams.update({"figure.dpi": 80, "font.size": 9})
scratch = TemporaryDirectory()
folder = Path(scratch.name).resolve()
os.chdir(folder)

MODEL = "s2x4"
BANDS = ["B02", "B03", "B04", "B08"]

# %% [markdown]
# ## A catalogue
#
# Any STAC catalogue will do: the name of a source such as `earth-search`, the URL of an API, or a file on disk. Scenes
# of your own become a catalogue with `geodiff catalog build`, here called from Python.

# %%
data = data_dir()
real = data is not None and (data / "sentinel2" / "boadella").is_dir()
if real:
    names = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"]
    # The files mark no gaps and their zeros are dark water, so a number that does not occur stands for "no data".
    build_catalog(data / "sentinel2" / "boadella", folder / "scenes", bands=names, nodata=-32_768)
    bbox, dates, target = (2.805, 42.330, 2.830, 42.347), "2020-01-01/2022-12-31", "2021-07-16"
else:
    from geodiff.testing.scenes import write_scenes
    from geodiff.testing.series import demo_series

    place = Grid("EPSG:32631", (10.0, 10.0), (500_000.0, 4_690_000.0), (192, 192))
    write_scenes(demo_series(192), place, folder / "scenes")
    bbox, dates, target = place.bounds_wgs84, "2021-01-01/2022-12-31", "2022-04-29"
catalog = "scenes/catalog.json"
print("Boadella reservoir" if real else "synthetic place")

# %%
source = load_source(catalog)
items = search(source, collections=(), bbox=bbox, datetime=dates)
pd.DataFrame([{"scene": row.id, "date": f"{row.time:%Y-%m-%d}", "CRS": row.crs} for row in describe(items, source)])

# %% [markdown]
# ## The cube
#
# A cube is an `xarray.DataArray` (time, band, y, x) of surface reflectance, NaN where a pixel was not observed or lies
# under cloud. It is lazy: nothing is read yet. `crs="native"` keeps the grid of the scenes, so that no pixel is
# resampled.

# %%
grid = choose_grid(items, bbox=bbox, crs="native", source=source)
cube = load_cube(items, source=source, bands=BANDS, grid=grid, mask=MaskConfig())
cube

# %% [markdown]
# The place is small, so we read it once. Which dates are worth using? `clear` is the share of clear pixels, `haze` how
# much brighter the darkest blue is than on the least hazy date.

# %%
cube = cube.compute()
ranking = rank_dates(cube)
ranking[["time", "clear", "haze", "score"]].round(3)


# %%
def colours(image, like=None):
    """True colour of (band, y, x), with the stretch of another image."""
    rgb = image.sel(band=["B04", "B03", "B02"]).transpose("y", "x", "band").values
    reference = (image if like is None else like).sel(band=["B04", "B03", "B02"]).transpose("y", "x", "band").values
    low, high = np.nanpercentile(reference, [1, 99], axis=(0, 1))
    shown = np.clip((rgb - low) / np.maximum(high - low, 0.02), 0, 1) ** (1 / 1.5)
    return np.where(np.isnan(shown), 0.85, shown)


shown = cube.sel(time=target, method="nearest")
figure, axes = plt.subplots(2, 6, figsize=(12, 4.2), layout="constrained")
for ax, number in zip(axes.flat, range(cube.sizes["time"]), strict=False):
    ax.imshow(colours(cube.isel(time=number), like=shown))
    ax.set_title(str(cube.time.values[number])[:10])
for ax in axes.flat:
    ax.axis("off")

# %% [markdown]
# ## Shifts
#
# Dates do not lie exactly on each other: up to two pixels in early 2020 at Boadella. `with_shifts` finds the shift of
# each date and notes it as a coordinate. Pixels are not moved; the model samples each date at its shifted place.

# %%
cube = with_shifts(cube)
figure, ax = plt.subplots(figsize=(4.5, 4), layout="constrained")
trusted = cube.shift_trusted.values
ax.scatter(cube.shift_x_m[trusted], cube.shift_y_m[trusted])
for number in np.flatnonzero(trusted):
    place = (float(cube.shift_x_m[number]), float(cube.shift_y_m[number]))
    ax.annotate(str(cube.time.values[number])[:7], place, xytext=(3, 3), textcoords="offset points", fontsize=7)
ax.axhline(0, color="0.8", zorder=0)
ax.axvline(0, color="0.8", zorder=0)
ax.set(xlabel="east (m)", ylabel="north (m)", aspect="equal", title="shift of each date")
plt.show()

# %% [markdown]
# ## Super-resolution
#
# One call. The result is lazy too: a dataset on a grid four times finer, whose pixels are restored when they are asked
# for. `reflectance` is the expectation, one pass of the denoiser; `ensemble` members are drawn around it, and
# `uncertainty` is the half-width of a 90 % interval for the truth, calibrated with such ensembles on ground that
# training never saw.
# %%
sharp = geodiff.superres(cube, target=target, model=MODEL, ensemble=4)
sharp

# %%
# %%time
sharp = sharp.compute()

# %%
day = sharp.time.values[0].astype("datetime64[D]")
low = cube.isel(time=int(np.argmin(np.abs(cube.time.values - sharp.time.values[0]))))
high, spread = sharp.reflectance[0], sharp.uncertainty[0].mean("band")

figure, axes = plt.subplots(1, 3, figsize=(12, 4), layout="constrained")
axes[0].imshow(colours(low), interpolation="nearest")
axes[0].set_title(f"{day}, as observed, 10 m")
axes[1].imshow(colours(high, like=low), interpolation="nearest")
axes[1].set_title("restored, 2.5 m")
shown = axes[2].imshow(spread, cmap="magma", vmin=0, vmax=float(spread.quantile(0.99)))
axes[2].set_title("uncertainty (reflectance, mean of bands)")
figure.colorbar(shown, ax=axes[2], shrink=0.8)
for ax in axes:
    ax.axis("off")

# %% [markdown]
# Where the members agree, the observations decide what is there; where they differ, it is a guess. On new ground the
# intervals may hold more or less than they say: the card of the model has the coverage on each place left out in turn.
#
# ## Against interpolation
#
# Baselines answer to the same call: `bicubic` upsamples the date itself, `median` the median of all clear dates.

# %%
smooth = geodiff.superres(cube, target=target, model="bicubic", ensemble=1).compute()

row, col, side = textured_square(low.values, 56)  # where to look: low-resolution pixels


def cut(image, scale):
    return image.isel(y=slice(row * scale, (row + side) * scale), x=slice(col * scale, (col + side) * scale))


figure, axes = plt.subplots(1, 3, figsize=(12, 4.3), layout="constrained")
panels = {"observed": cut(low, 1), "bicubic": cut(smooth.reflectance[0], 4), MODEL: cut(high, 4)}
for ax, (title, image) in zip(axes, panels.items(), strict=True):
    ax.imshow(colours(image, like=low), interpolation="nearest")
    ax.set_title(title)
    ax.axis("off")

# %% [markdown]
# Sharper is not the same as right. Two checks:
#
# **Is it consistent?** Degraded back to 10 m as the sensor sees it, the restored image must be the observed one.

# %%
again = degrade(high.values, 4, band_mtf(tuple(BANDS)))
inner = (slice(None), slice(4, -4), slice(4, -4))
f"largest difference in reflectance: {np.nanmax(np.abs(again - low.values)[inner]):.1e}"

# %% [markdown]
# **Is it closer to the truth?** By the Wald protocol: the whole series is degraded from 10 m to 40 m, restored, and
# compared with what was really observed at 10 m. cPSNR in decibels, higher is better; "hidden" means that the date
# itself was not shown, as under full cloud.

# %%
from geodiff.tasks.models import find_model, load_resolver
from geodiff.tasks.wald import wald

result = wald(cube, [load_resolver(find_model(name)) for name in ("bicubic", "median", MODEL)])
scores = pd.DataFrame([(s.date, s.model, "hidden" if s.hidden else "seen", s.cpsnr_db) for s in result.scores])
scores.columns = ["date", "model", "date was", "cPSNR (dB)"]
scores.pivot_table(index="model", columns="date was", values="cPSNR (dB)").round(2)

# %% [markdown]
# ## A finished run
#
# For anything larger than a notebook, use the command line. It writes Zarr with overviews and a STAC item, resumes when
# it is interrupted and needs no more memory for a larger region:
#
#     geodiff superres --catalog catalog.json --bbox 2.805 42.330 2.830 42.347 \
#         --datetime 2020-01-01/2022-12-31 --target 2021-07-16 --out results
#
# The same from Python, and its result through the catalogue that it leaves behind:

# %%
from geodiff.tasks.plan import make_plan
from geodiff.tasks.superres import run


def quiet(stage, done, total):
    """Show no progress."""


settings = SuperresConfig(catalog=catalog, bbox=bbox, datetime=dates, target=target, crs="native", model=MODEL)
plan = make_plan(settings, folder / "results", name="place", workers=2, progress=quiet)
outcome = run(plan, folder / "results", name="place", workers=2, progress=quiet)
{key: outcome.summary[key] for key in ("area_km2", "km2_per_s", "model", "ensemble", "bytes")}

# %%
results = pystac.Catalog.from_file(str(folder / "results" / "catalog.json"))
item = next(results.get_items(recursive=True))
stored = xr.open_zarr(item.assets["zarr"].get_absolute_href())
stored.drop_attrs(deep=False)  # without the provenance, which fills a page

# %% [markdown]
# It holds what we computed above, packed to 16 bits:

# %%
f"largest difference: {float(np.abs(stored.reflectance[0] - high.values).max()):.1e} of reflectance"

# %% [markdown]
# Overviews are groups of the same store, for maps and for a first look at large regions:

# %%
overview = xr.open_zarr(item.assets["zarr"].get_absolute_href(), group="1")
figure, ax = plt.subplots(figsize=(4, 4), layout="constrained")
ax.imshow(colours(overview.reflectance[0], like=low))
ax.set_title(f"overview 1: {overview.sizes['y']} x {overview.sizes['x']} pixels")
ax.axis("off")
plt.show()

# %%
scratch.cleanup()
