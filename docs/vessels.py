"""Draws docs/vessels.png: cleaning, a filled gap and a forecast in Galveston Bay.

Run from the root of the repository, with GEODIFF_DATA naming the data: ``python docs/vessels.py``. The gap and the
forecast are of vessels that the model was not trained on: of those that go far (and, in the gap, turn) the ones on
which it errs by its median. AIS: MarineCadastre.gov, 2020-01-01.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from geodiff.config import data_dir
from geodiff.metrics.tracks import score_track
from geodiff.sphere import distance_km, from_local_km
from geodiff.tasks.motion_models import load_motion_model
from geodiff.tasks.track_denoiser import DenoiserMotion
from geodiff.tracks import TrackAnswer
from geodiff.vessels.cases import Case, Tracks, forecast_cases, impute_cases
from geodiff.vessels.clean import clean_fixes
from geodiff.vessels.history import TrackHistory
from geodiff.vessels.read import open_fixes
from geodiff.vessels.spans import Span
from geodiff.vessels.stops import without_stops
from geodiff.vessels.usual_rules import usual_rules

BOX = (-95.2, 28.9, -94.3, 29.8)
FAR_KM = 15.0
"""A vessel that gets so far shows more than one that manoeuvres in port."""

BLUE, RED, ORANGE, GREY, BLACK = "#20639b", "#d1495b", "#e08e0b", "0.72", "0.15"
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Question:
    """A case with what the model and the rules answer."""

    case: Case
    answer: TrackAnswer
    rules: Mapping[str, TrackAnswer]

    def title(self, what: str) -> str:
        """What it is, and how far off all answers are."""
        errors = [f"{name.replace('_', ' ')} {error_km(each, self.case):.1f}" for name, each in self.rules.items()]
        return f"{what}: mean error {error_km(self.answer, self.case):.1f} km\n({', '.join(errors)} km)"


def fixes_of_place() -> pl.DataFrame:
    """Cleaned fixes of the day."""
    data = data_dir()
    if data is None:
        raise SystemExit("set GEODIFF_DATA to the folder of the data")
    west, south, east, north = BOX
    here = pl.col("lon_deg").is_between(west, east) & pl.col("lat_deg").is_between(south, north)
    found = [batch.filter(here) for batch in open_fixes(data / "ais" / "noaa_2020-01-01.parquet").batches()]
    fixes = pl.concat(found)
    return clean_fixes(fixes, usual_rules(fixes))


def questions(table: pl.DataFrame) -> tuple[Question, Question]:
    """A gap and a forecast of vessels that were not trained on: the ones of median error."""
    model = load_motion_model("ais")
    unseen = pl.Series(~model.trained_on(table["vessel_id"].fill_null(-1).to_numpy()))
    asked = table.filter(unseen)["vessel_id"].drop_nulls().unique()
    told = model.with_history(TrackHistory.from_table(without_stops(table), private=asked))
    held = Tracks.of(table.filter(unseen))
    gaps = [
        case
        for case in impute_cases(held, Span(seconds=5400), most=300, draw="vessels")
        if goes_far(case) and turns(case)
    ]
    spans = [Span(seconds=600.0 * number) for number in range(1, 10)]
    voyages = forecast_cases(held, spans, most=300, draw="vessels")
    ends = [case for case in voyages if goes_far(case) and len(case.label) == len(spans)]
    return median(told, gaps, ("hermite", "linear")), median(told, ends, ("dead_reckoning",))


def goes_far(case: Case) -> bool:
    """Whether the vessel gets far from where it was last known."""
    last = np.flatnonzero(case.query.time_s < case.query.ask_s[0])[-1]
    start = case.query.lon_deg[last], case.query.lat_deg[last]
    return case.moving and float(distance_km(*start, case.truth_lon_deg, case.truth_lat_deg).max()) > FAR_KM


def turns(case: Case) -> bool:
    """Whether the way through a gap leaves the straight line by a kilometre."""
    line = load_motion_model("linear").predict([case.query], members=0, seed=0)[0]
    return error_km(line, case) > 1.0


def error_km(answer: TrackAnswer, case: Case) -> float:
    """Mean over the asked times."""
    return float(score_track(answer, case.truth_lon_deg, case.truth_lat_deg).greedy_km.mean())


def median(model: DenoiserMotion, cases: list[Case], rules: tuple[str, ...]) -> Question:
    """The case on which the model errs by its median."""
    queries = [case.query for case in cases]
    answers = {name: load_motion_model(name).predict(queries, members=0, seed=0) for name in rules}
    found = [
        Question(case, answer, {name: each[row] for name, each in answers.items()})
        for row, (case, answer) in enumerate(zip(cases, model.predict(queries, members=16, seed=0), strict=True))
    ]
    return sorted(found, key=lambda one: error_km(one.answer, one.case))[len(found) // 2]


def draw_cleaning(ax: Axes, table: pl.DataFrame) -> None:
    """The vessel under way with most rejected fixes: as it reported, and cleaned."""
    bad = table.filter((pl.col("state") == "rejected") & pl.col("lon_deg").is_not_null())
    moving = table.filter((pl.col("state") == "observed") & (pl.col("sog_kn") > 5))
    worst = bad.filter(pl.col("vessel_id").is_in(moving["vessel_id"].implode()))["vessel_id"].mode()[0]
    raw = table.filter(pl.col("vessel_id") == worst).sort("time")
    kept, wrong = (raw.filter(pl.col("state") == state) for state in ("observed", "rejected"))
    ax.plot(raw["lon_deg"], raw["lat_deg"], color=RED, lw=0.8, alpha=0.8, label="as reported")
    ax.plot(kept["lon_deg"], kept["lat_deg"], color=BLUE, lw=2, label=f"cleaned, {len(kept)} fixes")
    ax.plot(wrong["lon_deg"], wrong["lat_deg"], "x", color=RED, ms=8, mew=2, label=f"rejected, {len(wrong)} fixes")
    frame(
        ax,
        raw["lon_deg"].to_numpy(),
        raw["lat_deg"].to_numpy(),
        "A tanker's impossible positions\nrejected by cleaning",
    )


def draw_question(ax: Axes, one: Question, title: str, levels: tuple[float, ...]) -> None:
    """What was known, what is thought, and what came."""
    query, case, answer = one.case.query, one.case, one.answer
    before, after = query.time_s < query.ask_s[0], query.time_s > query.ask_s[-1]

    def whole(lon: Floats, lat: Floats) -> tuple[Floats, Floats]:
        known = query.lon_deg, query.lat_deg
        line = [np.r_[a[before][-1:], b, a[after][:1]] for a, b in zip(known, (lon, lat), strict=True)]
        return line[0], line[1]

    for number, place in enumerate(zip(answer.member_lon_deg, answer.member_lat_deg, strict=True)):
        ax.plot(*whole(*place), color=BLUE, lw=0.6, alpha=0.45, label=None if number else "16 members")
    for level, style in ((0, ":"), (1, "-")):
        for number in range(2, len(query.ask_s), 3):
            border = ring(answer.lon_deg[number], answer.lat_deg[number], answer.ellipse_km[level, number])
            name = f"{levels[level]:.0%} region" if number == 2 else None
            ax.plot(*border, style, color=BLUE, lw=1.1, label=name)
    for (name, line), style in zip(one.rules.items(), ("--", ":"), strict=False):
        ax.plot(*whole(line.lon_deg, line.lat_deg), style, color=ORANGE, lw=1.8, label=name.replace("_", " "))
    ax.plot(*whole(answer.lon_deg, answer.lat_deg), color=BLUE, lw=2.2, label="median")
    ax.plot(*whole(case.truth_lon_deg, case.truth_lat_deg), "o", color=RED, ms=4, label="truth, hidden", zorder=5)
    for number, part in enumerate((before, after)):
        name = None if number else "known"
        ax.plot(query.lon_deg[part], query.lat_deg[part], color=BLACK, lw=1.6, label=name, zorder=4)
    border = ring(answer.lon_deg[-1], answer.lat_deg[-1], answer.ellipse_km[1, -1])
    shown = np.r_[case.truth_lon_deg, answer.lon_deg, border[0]], np.r_[case.truth_lat_deg, answer.lat_deg, border[1]]
    frame(ax, *whole(*shown), title)


def ring(lon: float, lat: float, ellipse: Floats) -> tuple[Floats, Floats]:
    """The border of an ellipse: semi-axes in km, course of the major one in degrees."""
    turn, course = np.linspace(0, 2 * np.pi, 73), np.radians(ellipse[2])
    along, across = ellipse[0] * np.cos(turn), ellipse[1] * np.sin(turn)
    east = along * np.sin(course) + across * np.cos(course)
    return from_local_km(east, along * np.cos(course) - across * np.sin(course), lon, lat)


def frame(ax: Axes, lon: Floats, lat: Floats, title: str) -> None:
    """A square about some positions, with a bar of 5 km."""
    slant = 1 / np.cos(np.radians(lat.mean()))
    side = 1.2 * max(np.ptp(lon) / slant, np.ptp(lat)) / 2
    x, y = (lon.min() + lon.max()) / 2, (lat.min() + lat.max()) / 2
    ax.set(xlim=(x - side * slant, x + side * slant), ylim=(y - side, y + side), aspect=slant, title=title)
    ax.set(xlabel="longitude (°)", ylabel="latitude (°)")
    ax.locator_params(nbins=4)
    length = 5 / 111.2 * slant
    left, low = x + 0.93 * side * slant - length, y - 0.93 * side
    ax.plot([left, left + length], [low, low], color=BLACK, lw=3, solid_capstyle="butt")
    ax.annotate("5 km", (left, low), (0, 4), textcoords="offset points", va="bottom", fontsize=9)
    ax.legend(fontsize=8, loc="best", framealpha=0.9)


def main() -> None:
    """Write the picture beside this script."""
    mpl.use("Agg")
    table = fixes_of_place()
    gap, ahead = questions(table)
    levels = load_motion_model("ais").levels
    figure, axes = plt.subplots(1, 3, figsize=(15.5, 5.6), layout="constrained")
    for ax in axes:
        ax.plot(table["lon_deg"], table["lat_deg"], ",", color=GREY, alpha=0.6, zorder=0, rasterized=True)
    draw_cleaning(axes[0], table)
    draw_question(axes[1], gap, gap.title("A gap of 1.5 h filled"), levels)
    draw_question(axes[2], ahead, ahead.title("A forecast of 1.5 h"), levels)
    figure.supxlabel(
        "Galveston Bay. AIS: MarineCadastre.gov, 2020-01-01. Grey: all vessels of the day. "
        "The two vessels on the right were not in the training; cases of median error.",
        fontsize=9,
    )
    figure.savefig(Path(__file__).with_name("vessels.png"), dpi=90, pil_kwargs={"optimize": True})


if __name__ == "__main__":
    main()
