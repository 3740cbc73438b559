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
# # Vessel tracks
#
# From raw AIS to clean tracks, gaps filled and voyages foretold with regions that say how sure that is, tracks made for
# augmenting data sets, anomalies, and points without an identity put back together.
#
# With the environment variable `GEODIFF_DATA` the place is Galveston Bay and its approach (AIS: MarineCadastre.gov,
# 2020-01-01). Without it the notebook simulates a fleet, and everything works alike.

# %%
import os
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import polars as pl

import geodiff
from geodiff.config import data_dir
from geodiff.metrics.association import association_score
from geodiff.metrics.tracks import relative_gain, score_track
from geodiff.sphere import distance_km, from_local_km
from geodiff.vessels.cases import Tracks, forecast_cases, impute_cases
from geodiff.vessels.convert import from_geodataframe, to_geodataframe, to_trajectories
from geodiff.vessels.history import TrackHistory
from geodiff.vessels.read import open_fixes
from geodiff.vessels.spans import Span
from geodiff.vessels.stops import find_stops, without_stops

warnings.filterwarnings("ignore", message="IProgress not found")  # no progress bars are shown here
plt.rcParams.update({"figure.dpi": 80, "font.size": 9})
scratch = TemporaryDirectory()
folder = Path(scratch.name).resolve()
os.chdir(folder)

# %% [markdown]
# ## Reading
#
# A reader knows a file by its content: NMEA sentences, the tables of MarineCadastre, of the Danish Maritime Authority
# and others, or a column map of your own. It yields batches of one table, so a day of millions of rows needs little
# memory, and keeps account of what it refused. Here half a day of one place is kept.

# %%
# %%time
data = data_dir()
real = data is not None and (data / "ais" / "noaa_2020-01-01.parquet").is_file()
if real:
    source = data / "ais" / "noaa_2020-01-01.parquet"
    west, south, east, north = -95.2, 28.9, -94.3, 29.8
    begin, end = datetime(2020, 1, 1, 8, tzinfo=UTC), datetime(2020, 1, 1, 22, tzinfo=UTC)
else:
    from geodiff.testing.tracks import make_fleet

    west, south, east, north = -29.0, 38.0, -28.0, 39.0
    begin, end = datetime(2022, 3, 1, tzinfo=UTC), datetime(2022, 3, 1, 12, tzinfo=UTC)
    source = folder / "synthetic.parquet"
    make_fleet(3, vessels=90, hours=12, region=(west, south, east, north), start=begin).fixes.write_parquet(source)

reader = open_fixes(source)
here = pl.col("time").is_between(begin, end)
if real:
    here &= pl.col("lon_deg").is_between(west, east) & pl.col("lat_deg").is_between(south, north)
fixes = pl.concat([batch.filter(here) for batch in reader.batches()])
counts = reader.counts
print("Galveston Bay" if real else "synthetic fleet", "| layout:", reader.layout)

# %%
print(f"{counts.read:,} rows read, {counts.kept:,} fixes, {len(fixes):,} of them here")
print("refused:", counts.refused or "nothing")
print("values set to null:", counts.blanked or "none")
pd.DataFrame([{"vessels": fixes["vessel_id"].n_unique(), "from": fixes["time"].min(), "to": fixes["time"].max()}])

# %% [markdown]
# ## Cleaning
#
# `geodiff.clean` takes a GeoDataFrame and returns every row of it, with the track that it belongs to or the reason why
# it was rejected. Nothing is dropped silently, and nothing is moved.

# %%
# %%time
tracks = geodiff.clean(to_geodataframe(fixes))

# %%
observed = tracks[tracks.state == "observed"]
print(f"{len(observed):,} fixes kept in {observed.track_id.nunique():,} tracks")
tracks.reason.value_counts().rename("fixes rejected").to_frame()

# %% [markdown]
# On the left all that was kept, and what was rejected in red. On the right, of the vessels with rejected fixes the one
# that went farthest: drawn as it reported, the line leaves its way; without the rejected fixes it does not.

# %%
BLUE, RED, ORANGE, GREY = "#20639b", "#d1495b", "#e08e0b", "0.75"


def chart(ax, title=""):
    """Degrees as on a map: as wide as they are at this latitude."""
    low, high = ax.get_ylim()
    ax.set(xlabel="longitude (°)", ylabel="latitude (°)", title=title)
    ax.set_aspect(1 / np.cos(np.radians((low + high) / 2)))
    ax.ticklabel_format(useOffset=False)
    ax.locator_params(nbins=5)


def around(ax, lon, lat, margin=0.12):
    """Frame some positions, and keep the map from becoming a stripe."""
    width = 1 / np.cos(np.radians(np.mean(lat)))
    middle = (np.min(lon) + np.max(lon)) / 2, (np.min(lat) + np.max(lat)) / 2
    side = (1 + 2 * margin) * max(np.ptp(lon) / width, np.ptp(lat), 0.01) / 2
    ax.set(xlim=(middle[0] - side * width, middle[0] + side * width), ylim=(middle[1] - side, middle[1] + side))


bad = tracks[(tracks.state == "rejected") & tracks.geometry.notna() & tracks.vessel_id.isin(observed.vessel_id)]
figure, axes = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
axes[0].plot(observed.geometry.x, observed.geometry.y, ",", color=BLUE, alpha=0.3)
axes[0].plot(bad.geometry.x, bad.geometry.y, "x", color=RED, ms=6, label=f"{len(bad)} rejected")
around(axes[0], [west, east], [south, north], margin=0)
chart(axes[0], "kept and rejected")
axes[0].legend(loc="lower left")
ways = observed[observed.vessel_id.isin(bad.vessel_id)].groupby("vessel_id").geometry
widths = ways.apply(lambda places: np.ptp(places.x) + np.ptp(places.y))
near = tracks[(tracks.vessel_id == widths.idxmax()) & tracks.geometry.notna()].sort_values("time")
kept, wrong = near[near.state == "observed"], near[near.state == "rejected"]
axes[1].plot(near.geometry.x, near.geometry.y, "-", color=RED, lw=0.8, alpha=0.7, label="as reported")
for number, (_, one) in enumerate(kept.groupby("track_id")):
    axes[1].plot(one.geometry.x, one.geometry.y, ".-", color=BLUE, ms=3, lw=1.2, label=None if number else "cleaned")
axes[1].plot(wrong.geometry.x, wrong.geometry.y, "x", color=RED, label="rejected")
around(axes[1], near.geometry.x, near.geometry.y)
chart(axes[1], f"one vessel, {len(wrong)} fixes rejected")
axes[1].legend()
plt.show()

# %% [markdown]
# Most of what AIS reports is vessels that lie still. Stops are runs of fixes within a radius of their centre.

# %%
table = from_geodataframe(tracks)
stops = find_stops(table)
still = 1 - len(without_stops(table)) / len(table)
hours = (stops["last"] - stops["first"]).dt.total_seconds().to_numpy() / 3600
print(f"{len(stops):,} stops of {stops['vessel_id'].n_unique():,} vessels; {still:.0%} of the rows lie within them")
pd.Series(hours, name="hours").describe()[["min", "25%", "50%", "75%", "max"]].round(1).to_frame().T

# %% [markdown]
# ## Gaps
#
# The model `ais` is a denoiser like that of the images. Its card knows which vessels it was trained on, so it can be
# asked about the others: an hour of each is hidden, and what was there is kept as the truth. All other vessels of the
# place are given to the model as history, which says where vessels go here; a vessel that is asked about answers itself
# alone, from its other passes of the place.

# %%
from geodiff.tasks.motion_models import load_motion_model

model = load_motion_model("ais")
vessels = table["vessel_id"].drop_nulls().unique()
unseen = vessels.filter(pl.Series(~model.trained_on(vessels.to_numpy())))
if not real:
    unseen = unseen.sort().gather_every(4)  # the model saw none of them; the others are the history
known = table["vessel_id"].is_in(unseen.implode())
past = TrackHistory.from_table(without_stops(table), private=unseen)
told = model.with_history(past)
held = Tracks.of(table.filter(known))
cases = [case for case in impute_cases(held, Span(seconds=3600), most=120, draw="vessels") if case.moving]
owners = [str(case.query.vessel_id) for case in cases]
print(f"{len(unseen)} vessels that the model never saw; {len(cases)} gaps of an hour of {len(set(owners))} that move")

# %%
# %%time
rivals = {"ais": told, "hermite": load_motion_model("hermite"), "linear": load_motion_model("linear")}
questions = [case.query for case in cases]
answers = {name: one.predict(questions, members=16, seed=0) for name, one in rivals.items()}


# %%
def scored(answers, cases):
    """The score of each answer."""
    return [score_track(a, c.truth_lon_deg, c.truth_lat_deg) for a, c in zip(answers, cases, strict=True)]


scores = {name: scored(given, cases) for name, given in answers.items()}
error = {name: np.array([score.greedy_km.mean() for score in each]) for name, each in scores.items()}
summary = pd.DataFrame({n: {"mean (km)": e.mean(), "median (km)": np.median(e)} for n, e in error.items()}).T
inside = np.array([score.inside.mean(1) for score in scores["ais"]]).mean(0)
gain = relative_gain(error["ais"], error["hermite"], owners)
print(f"mean error against Hermite's: {-gain.mean:+.0%} (90 % interval {-gain.high:+.0%} to {-gain.low:+.0%})")
for level, share in zip(model.levels, inside, strict=True):
    print(f"inside the {level:.0%} region: {share:.0%}")
summary.round(2)


# %% [markdown]
# Three of those that took the vessel far, not chosen by hand: the gap on which `ais` errs by its median, the one on
# which it does worst against Hermite, and of the others the one where the straight line errs most.


# %%
def ring(lon, lat, ellipse):
    """The border of an ellipse (semi-major and semi-minor axis in km, course of the major axis)."""
    turn = np.linspace(0, 2 * np.pi, 61)
    along, across, course = ellipse[0] * np.cos(turn), ellipse[1] * np.sin(turn), np.radians(ellipse[2])
    easting = along * np.sin(course) + across * np.cos(course)
    return from_local_km(easting, along * np.cos(course) - across * np.sin(course), lon, lat)


def show(ax, case, answer, title, lines):
    """One question: what was known, what was true, and what is thought."""
    query, truth = case.query, (case.truth_lon_deg, case.truth_lat_deg)
    ends = np.flatnonzero(query.time_s < query.ask_s[0]), np.flatnonzero(query.time_s > query.ask_s[-1])
    first, last = ends[0][-1:], ends[1][:1]

    def whole(lon, lat):
        """With the fixes on both sides of the gap."""
        return (
            np.r_[query.lon_deg[first], lon, query.lon_deg[last]],
            np.r_[query.lat_deg[first], lat, query.lat_deg[last]],
        )

    ax.plot(observed.geometry.x, observed.geometry.y, ",", color=GREY, alpha=0.5, zorder=0)
    for number, (lon, lat) in enumerate(zip(answer.member_lon_deg, answer.member_lat_deg, strict=True)):
        ax.plot(*whole(lon, lat), color=BLUE, lw=0.5, alpha=0.4, label=None if number else "members")
    for level, style in ((0, ":"), (1, "-")):
        for number in range(2, len(query.ask_s), 3):
            place = answer.lon_deg[number], answer.lat_deg[number]
            name = f"{model.levels[level]:.0%} region" if number == 2 else None
            ax.plot(*ring(*place, answer.ellipse_km[level, number]), style, color=BLUE, lw=0.9, label=name)
    for (name, line), style in zip(lines.items(), ("--", ":"), strict=False):
        ax.plot(*whole(line.lon_deg, line.lat_deg), style, color=ORANGE, lw=1.5, label=name)
    ax.plot(*whole(answer.lon_deg, answer.lat_deg), color=BLUE, lw=2, label="ais, median")
    ax.plot(*whole(*truth), "o", color=RED, ms=3.5, label="truth, hidden", zorder=5)
    for part in ends:
        ax.plot(query.lon_deg[part], query.lat_deg[part], ".-", color="0.15", ms=3, lw=1, zorder=4)
    reach = whole(*truth), whole(answer.lon_deg, answer.lat_deg)
    around(ax, np.r_[reach[0][0], reach[1][0]], np.r_[reach[0][1], reach[1][1]], margin=0.25)
    chart(ax, title)


figure, axes = plt.subplots(1, 3, figsize=(14, 5), layout="constrained")
wide = np.array(
    [distance_km(c.truth_lon_deg[0], c.truth_lat_deg[0], c.truth_lon_deg, c.truth_lat_deg).max() for c in cases]
)
far = np.flatnonzero(wide > np.median(wide))
middle = far[np.argsort(error["ais"][far])[len(far) // 2]]
worst = far[np.argmax((error["ais"] - error["hermite"])[far])]
rest = far[~np.isin(far, (middle, worst))]
crooked = rest[np.argmax(error["linear"][rest])]
chosen = {"median error": middle, "straight line errs most": crooked, "worst against Hermite": worst}
for ax, (why, number) in zip(axes, chosen.items(), strict=True):
    title = f"{why}:\nais {error['ais'][number]:.2f} km, Hermite {error['hermite'][number]:.2f} km"
    show(ax, cases[number], answers["ais"][number], title, {n: answers[n][number] for n in ("hermite", "linear")})
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=7)
plt.show()

# %% [markdown]
# The members spread where the way is open and draw together where other vessels show it. Fills of a model are guesses:
# the region, not the line, is the answer.
#
# ## Forecasts
#
# `geodiff.forecast` asks the same model what comes after each vessel's last fix. Nothing later than `at` is shown to
# it, neither of the vessel nor of the others, and what lies still is left out.

# %%
# %%time
at = begin + timedelta(hours=6)
ahead = geodiff.forecast(to_geodataframe(fixes), at=at, hours=2, step_s=600)
made = ahead[ahead.state == "forecast"]
print(f"{made.vessel_id.nunique()} moving vessels, {len(made)} positions from {made.time.min()} to {made.time.max()}")

# %% [markdown]
# How far off is it? Again of vessels that were not in its training, beside dead reckoning, which goes on at the last
# speed and course. Their history is what the other vessels, and they themselves, did up to then.

# %%
horizons = [Span(seconds=60.0 * minutes) for minutes in (30, 60, 120)]
drawn = forecast_cases(held, horizons, most=400, draw="vessels")
voyages = [case for case in drawn if case.moving and case.query.time_s[-1] >= at.timestamp()]
print(f"{len(voyages)} forecasts of {len({case.query.vessel_id for case in voyages})} vessels")
asked = [case.query for case in voyages]
reckoned = load_motion_model("dead_reckoning").predict(asked, members=0, seed=0)
foretold = told.predict(asked, members=16, seed=0)

rows = []
for name, given in (("ais", foretold), ("dead reckoning", reckoned)):
    for case, score in zip(voyages, scored(given, voyages), strict=True):
        for column, label in enumerate(case.label):
            region = dict(zip(model.levels, score.inside[:, column], strict=False))
            rows.append({"model": name, "horizon": label, "km": score.greedy_km[column], **region})
found = pd.DataFrame(rows).set_index(["horizon", "model"]).astype(float).groupby(level=[0, 1], sort=False)
found.agg({"km": ["count", "mean", "median"], **dict.fromkeys(model.levels, "mean")}).round(2)

# %% [markdown]
# The last two columns are the shares of the truth within the 50 and the 90 % region. The regions were calibrated on the
# whole country; where a share falls short here, they are too narrow for what moves in these waters.
# `geodiff evaluate vessels` tells the same of any file. One map of the whole fleet at
# work, and one voyage with its members: of those that go far the one on which `ais` errs by its median.


# %%
def following(case, minutes):
    """The same question at every five minutes, with the truth between the fixes that came."""
    own = held.track == case.track
    ask_s = case.query.time_s[-1] + 300.0 * np.arange(1, minutes // 5 + 1)
    ask_s = ask_s[ask_s <= held.time_s[own][-1]]
    line = [np.interp(ask_s, held.time_s[own], values[own]) for values in (held.lon_deg, held.lat_deg)]
    query = type(case.query)(
        *(getattr(case.query, name) for name in ("time_s", "lon_deg", "lat_deg", "sog_kn", "cog_deg")),
        ask_s,
        ship_type=case.query.ship_type,
        vessel_id=case.query.vessel_id,
    )
    return type(case)(query, *line, ("",) * len(ask_s), True, case.track)


def reach_km(case):
    """How far the vessel got from where the forecast starts."""
    start = case.query.lon_deg[-1], case.query.lat_deg[-1]
    return float(distance_km(*start, case.truth_lon_deg, case.truth_lat_deg).max())


figure, axes = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
axes[0].plot(observed.geometry.x, observed.geometry.y, ",", color=GREY, alpha=0.5)
for vessel, one in made.groupby("vessel_id"):
    then = observed[(observed.vessel_id == vessel) & observed.time.between(at, at + timedelta(hours=2))]
    axes[0].plot(then.geometry.x, then.geometry.y, "-", color=RED, lw=1)
    axes[0].plot(one.geometry.x, one.geometry.y, "-", color=BLUE, lw=1.5)
    final = one.iloc[-1]
    size = [final[f"ellipse90_{name}"] for name in ("major_km", "minor_km", "course_deg")]
    axes[0].plot(*ring(final.geometry.x, final.geometry.y, size), "-", color=BLUE, lw=0.5, alpha=0.6)
around(axes[0], [west, east], [south, north], margin=0)
chart(axes[0], f"two hours from {at:%H:%M} UTC: forecasts (blue), what came (red)")
far = sorted(voyages, key=reach_km)[-len(voyages) // 3 :]
longer = [case for case in (following(case, 120) for case in far) if len(case.query.ask_s) >= 12]
replies = told.predict([case.query for case in longer], members=16, seed=0)
off = [score.greedy_km.mean() for score in scored(replies, longer)]
middle = int(np.argsort(off)[len(off) // 2])
straight = load_motion_model("dead_reckoning").predict([longer[middle].query], members=0, seed=0)[0]
show(axes[1], longer[middle], replies[middle], f"one voyage: mean error {off[middle]:.1f} km", {"reckoned": straight})
axes[1].legend(fontsize=7)
plt.show()

# %% [markdown]
# ## Made tracks
#
# The same weights make tracks by ship type and way of moving, for augmenting data sets that are to recognise them. What
# is made is not what a vessel did; nor does the model know this coast.

# %%
from geodiff.tasks.track_generate import Wanted, generate_tracks

start = ((west + east) / 2, (south + north) / 2)
wanted = {"cargo, transit": (70, "transit"), "fishing, manoeuvring": (30, "manoeuvring"), "tug, slow": (52, "slow")}
figure, axes = plt.subplots(1, 3, figsize=(13, 4.4), layout="constrained")
for ax, (name, (code, behaviour)) in zip(axes, wanted.items(), strict=True):
    settings = Wanted(count=8, ship_type=code, behaviour=behaviour, hours=3, seed=1)
    new = generate_tracks(model, settings, start=start, start_time=begin)
    for _, one in new.group_by("track_id"):
        ax.plot(one["lon_deg"], one["lat_deg"], lw=1)
    ax.plot(*start, "o", color="0.15", ms=4)
    around(ax, new["lon_deg"].to_numpy(), new["lat_deg"].to_numpy())
    chart(ax, f"{name}: median {new['sog_kn'].median():.1f} kn, fastest {new['sog_kn'].max():.1f} kn")
plt.show()

# %% [markdown]
# ## Anomalies
#
# `geodiff.score` gives every fix and every track a p-value, and a reason to what stands out. `alpha` is the share of
# sound ones that may be flagged. Without a calibration of its own, each half of the vessels is compared with the other.

# %%
# %%time
alpha = 0.01 if real else 0.1  # a small fleet can tell no finer rate
judged = geodiff.score(tracks, alpha=alpha)
judged = judged[judged.state == "observed"]

# %%
per_track = judged.groupby("track_id").track_p_value.first().dropna()
print(f"{judged.anomalous.fillna(False).mean():.2%} of the fixes flagged at a nominal {alpha:.0%}")
print(f"{(per_track <= alpha).mean():.2%} of {len(per_track):,} tracks with a p-value of at most {alpha}")
why = judged[judged.anomalous.fillna(False)].reason
print("for example:", why.value_counts().index[0])
why.str.split(":").str[0].value_counts().rename("fixes flagged").to_frame()

# %% [markdown]
# Nobody has labelled these waters: a share above `alpha` is either a false alarm or something unusual. What injected
# anomalies say is in `geodiff evaluate vessels --task score`.
#
# ## Points without identity
#
# A radar does not know who is who. We take the identities away from two hours of vessels under way, put the points back
# together, and only then look at the truth.

# %%
# %%time
window = observed.time.between(at, at + timedelta(hours=2)) & (observed.sog_kn > 1)
named = observed[window].sort_values("time").reset_index(drop=True)
points = named[["time", "sog_kn", "cog_deg", "geometry"]]
linked = geodiff.associate(points)

# %%
numbers = linked.track_id.astype("category").cat.codes.to_numpy().astype(np.int64)
result = association_score(named.vessel_id.to_numpy(dtype=np.int64), numbers)
print(f"{result.plots:,} points of {result.vessels} vessels in {result.tracks} tracks")
print(f"purity {result.purity:.3f}, completeness {result.completeness:.3f}, {result.missed} points left out")

# %% [markdown]
# ## A run, and its files
#
# For anything larger than a notebook there is the command line. It streams, resumes when it is interrupted, and
# publishes its run in a catalogue:
#
#     geodiff vessels impute fixes.parquet --out results
#
# The same from Python:

# %%
# %%time
from geodiff.tasks.vessels_plan import make_plan
from geodiff.tasks.vessels_pool import Pool
from geodiff.tasks.vessels_run import run_tracks
from geodiff.tasks.vessels_settings import ImputeSettings


def quiet(stage, done, total):
    """Show no progress."""


fixes.filter(pl.col("time") >= at).write_parquet("fixes.parquet")
plan = make_plan("impute", ["fixes.parquet"], ImputeSettings(ensemble=8), folder / "results")
outcome = run_tracks(plan, pool=Pool(1), progress=quiet)

# %%
gaps = {name: count for name, count in outcome.summary["counts"].items() if "gap" in name or name == "imputed fixes"}
print(gaps)
pd.DataFrame(
    [
        {"asset": name, "file": Path(path).name, "MB": round(Path(path).stat().st_size / 1e6, 2)}
        for name, path in outcome.summary["files"].items()
        if Path(path).is_file()
    ]
)

# %% [markdown]
# The HTML map is one file that needs no network. The fixes are GeoParquet, which anything reads:

# %%
import geopandas as gpd

stored = gpd.read_parquet(outcome.summary["files"]["fixes"])
stored.groupby("state").agg(fixes=("time", "size"), tracks=("track_id", "nunique"))

# %% [markdown]
# ## MovingPandas
#
# Tracks become a `TrajectoryCollection` and come back without loss.

# %%
way = table.filter((pl.col("state") == "observed") & (pl.col("sog_kn") > 1))
way = way.filter(pl.len().over("track_id") > 100)
collection = to_trajectories(way)
longest = max(collection.trajectories, key=lambda one: one.get_length())
print(f"{len(collection.trajectories)} trajectories; the longest is of {longest.get_length() / 1000:.0f} km")
longest.df[["vessel_id", "ship_type", "sog_kn", "cog_deg", "geometry"]].head(3)

# %%
scratch.cleanup()
