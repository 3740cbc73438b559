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
# # How good is a model?
#
# A sharp picture is easily made; a true one is not. Here models are scored on a place that none of them saw: against
# the truth, beside plain interpolation, under clouds, and for the honesty of their uncertainty.
#
# There is no 2.5 m truth for most of the world. The *Wald protocol* makes do without: the whole series is degraded from
# 10 m to 40 m as the sensor would see it from higher up, a model restores one date four times finer, and the result is
# compared with what was really observed at 10 m.
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
from IPython.display import Image

from geodiff.config import data_dir
from geodiff.grid import Grid
from geodiff.imagery.build import build_catalog
from geodiff.outputs.report import write_html
from geodiff.tasks.evaluate import EvaluateSettings, Limits, evaluate, request_for
from geodiff.tasks.evaluate_models import load_contenders
from geodiff.tasks.evaluate_pictures import draw_cases
from geodiff.tasks.evaluate_report import summarise, write_report
from geodiff.tasks.evaluate_sources import find_sites

plt.rcParams.update({"figure.dpi": 80, "font.size": 9})
scratch = TemporaryDirectory()
folder = Path(scratch.name).resolve()
os.chdir(folder)

MODEL = "s2x4"

# %% [markdown]
# ## A place that no model saw
#
# Any static STAC catalogue of a series will do, or a folder of Zarr or NetCDF cubes, or WorldStrat.

# %%
data = data_dir()
real = data is not None and (data / "sentinel2" / "boadella").is_dir()
if real:
    names = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"]
    build_catalog(data / "sentinel2" / "boadella", folder / "boadella", bands=names, nodata=-32_768)
    place = Path("boadella/catalog.json")
else:
    from geodiff.testing.scenes import write_scenes
    from geodiff.testing.series import demo_series

    grid = Grid("EPSG:32631", (10.0, 10.0), (500_000.0, 4_690_000.0), (256, 256))
    write_scenes(demo_series(256), grid, folder / "synthetic")
    place = Path("synthetic/catalog.json")
print("Boadella reservoir" if real else "synthetic place")

# %% [markdown]
# ## The evaluation
#
# On the command line this is
#
#     geodiff evaluate superres --model s2x4 --data catalog.json --out report
#
# which shows each model every clear date in nine ways and writes `report.html`. Here we take two dates and four ways:
#
# - `observed`: the date itself, and others beside it;
# - `clouded`: a synthetic cloud hides 30 to 60 % of the date, the others are there to fill it;
# - `single-clouded`: the clouded date alone, as a model of single images would have it;
# - `dates-1`: the clear date alone.

# %%
contenders = load_contenders([MODEL], passes=2)
limits = Limits(dates=2, workers=1)
settings = EvaluateSettings(ensemble=4, scenarios=("observed", "clouded", "single-clouded", "dates-1"))
sites, told = find_sites([place], request_for(contenders, limits))


def quiet(stage, done, total):
    """Show no progress."""


# %%
# %%time
found = evaluate(contenders, sites, folder / "report", settings, limits=limits, progress=quiet)
report = summarise(found, contenders, told, settings, command="notebooks/02_evaluate_models.py")
len(found.records)

# %% [markdown]
# Every result is kept as it comes: a second call, or the same command after a crash, computes nothing again.

# %%
# %%time
again = evaluate(contenders, sites, folder / "report", settings, limits=limits, progress=quiet)
assert again.records == found.records

# %% [markdown]
# ## Closer to the truth?
#
# cPSNR in decibels and cSSIM: higher is better. The spectral angle says whether colours are right. `reflectance_mae` is
# how far the image, seen through the sensor again, lies from the observation.

# %%
headline = ("cpsnr_db", "cssim", "sam_deg", "reflectance_mae")
figures = {
    model: {name: row[name]["mean"] for name in headline} | {"km2_per_s": row["km2_per_s"]}
    for model, row in report["models"].items()
}
pd.DataFrame(figures).T.round(5)

# %% [markdown]
# Places differ by far more than models do, so models are compared date by date. The interval is a bootstrap: over
# places where there are several, over dates here, where it says nothing of other places.
#
# *Series against single date* shows what the other dates are good for. Under a cloud they are everything. On a clear
# date there is little to win. The region `seen` holds the pixels that the date itself shows: a single date can be
# compared with a series there alone.

# %%
rows = [row for row in report["differences"] if row["metric"] == "cpsnr_db"]
table = pd.DataFrame(rows)[["kind", "scenario", "region", "against", "against_scenario", "mean", "low", "high"]]
table[table.kind != "more dates"].round(2)

# %% [markdown]
# ## Can the uncertainty be trusted?
#
# A model that knows what it does not know has 90 % of the truth in its 90 % interval. In the rank histogram, the truth
# falls equally often between any two members of an honest ensemble; a valley means members that are too much alike.

# %%
row = report["models"][MODEL]
figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
levels = [50, 80, 90]
axes[0].plot([40, 100], [40, 100], color="0.7")
axes[0].plot(levels, [100 * row[f"coverage_{level}"]["mean"] for level in levels], "o-")
axes[0].set(xlabel="stated (%)", ylabel="true values inside (%)", title="coverage")
counts = np.array(row["rank_histogram"])
axes[1].bar(range(len(counts)), counts / counts.sum())
axes[1].axhline(1 / len(counts), color="0.3")
axes[1].set(xlabel="members below the truth", ylabel="share of pixels", title="rank of the truth")
plt.show()

# %% [markdown]
# ## Is the texture real?
#
# The mean over all that could be is smooth by nature. A single member should have the power of real imagery at every
# frequency: 0 dB, right of the line too, where the low resolution knows nothing.

# %%
figure, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
for model, row in report["models"].items():
    power = row["spectrum"]
    for name, style in (("mean", "-"), ("member", "--")):
        if name in power:
            ax.plot(power["frequency"], np.array(power[name]) - power["truth"], style, label=f"{model}, {name}")
ax.axvline(0.25, color="0.6")
ax.set(xlabel="share of Nyquist's frequency", ylabel="power against the truth (dB)", ylim=(-30, 8))
ax.legend()
plt.show()

# %% [markdown]
# Detail that was added is true (`improvement`), missing (`omission`) or invented (`hallucination`):

# %%
kinds = ("improvement", "omission", "hallucination")
pd.DataFrame({model: {k: row[k]["mean"] for k in kinds} for model, row in report["models"].items()}).T.round(3)

# %% [markdown]
# ## Pictures, and the page
#
# The best, the median and the worst case are drawn; `report.html` holds them all and needs no network.

# %%
pictures = draw_cases(found, contenders, sites, folder / "report", settings, limits=limits, progress=quiet)
write_report(report, folder / "report")
page = write_html(report, pictures, folder / "report")
print(pictures[0].caption, "|", page.name, f"{page.stat().st_size / 1e6:.1f} MB")
Image(pictures[0].data)

# %% [markdown]
# ## What is refused
#
# A score on ground that was trained on proves nothing. The card of a model tells where it was trained: by names, by
# footprints, and by digests of the images, which find a crop of a training image under another name.

# %%
from dataclasses import replace

from geodiff.schema import UsageError

site = sites[0]
cheat = replace(contenders[-1], name="cheat", card={"training_places": [site.name]})
try:
    evaluate([contenders[0], cheat], sites, folder / "refused", settings, limits=limits, progress=quiet)
except UsageError as error:
    print(error)

# %%
scratch.cleanup()
