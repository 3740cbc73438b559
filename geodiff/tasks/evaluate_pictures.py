"""Pictures of an evaluation: the best, the median and the worst case, restored again and drawn side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geodiff.config import config_hash
from geodiff.outputs.atomic import explained, write_bytes
from geodiff.outputs.report_page import Picture
from geodiff.outputs.report_plots import case_picture
from geodiff.outputs.report_tables import SCENARIOS
from geodiff.schema import VALID, FloatArray
from geodiff.sensor import native_step
from geodiff.tasks.evaluate import EvaluateSettings, Evaluation, Limits, case_key, request_for, restore_scored
from geodiff.tasks.evaluate_cases import EvaluationCase, Scenario, Scene, cases_of
from geodiff.tasks.evaluate_ledger import Record
from geodiff.tasks.evaluate_models import Contender, with_members_for_mean
from geodiff.tasks.evaluate_sources import Site
from geodiff.tasks.evaluate_summary import select
from geodiff.tasks.job import Progress
from geodiff.tasks.pictures import true_colour

FOLDER = "pictures"
MAX_MODELS = 5
"""Models side by side; more would be too small to see."""

FALSE_COLOUR = (("B12", "B8A", "B04"), ("B11", "B8A", "B04"))
"""Composites of short-wave infrared, near infrared and red, the best first."""


@dataclass(frozen=True)
class Chosen:
    """A case that is drawn.

    Attributes:
        rank: such as "best".
        site: of the case.
        date: of the case.
        scenario: of the case.
    """

    rank: str
    site: str
    date: str
    scenario: Scenario


def choose_cases(evaluation: Evaluation, judge: str) -> list[Chosen]:
    """Best, median and worst case of dates that were seen, and the median of clouded and of hidden ones.

    Args:
        evaluation: with records of the model.
        judge: name of the model by whose cPSNR cases are ranked.
    """
    chosen: list[Chosen] = []
    ranks = {
        Scenario.OBSERVED: ("best", "median", "worst"),
        Scenario.CLOUDED: ("median",),
        Scenario.HIDDEN: ("median",),
    }
    for scenario, wanted in ranks.items():
        found = select(evaluation.records, model=judge, scenario=str(scenario), region="all")
        found = [record for record in found if record["values"].get("cpsnr_db") is not None]
        found.sort(key=lambda record: (-record["values"]["cpsnr_db"], record["site"], record["date"]))
        places = {"best": 0, "median": len(found) // 2, "worst": len(found) - 1}
        drawn: set[int] = set()
        for rank in wanted:
            if found and places[rank] not in drawn:
                drawn.add(places[rank])
                record = found[places[rank]]
                chosen.append(Chosen(rank, record["site"], record["date"], scenario))
    return chosen


def draw_cases(
    evaluation: Evaluation,
    contenders: Sequence[Contender],
    sites: Sequence[Site],
    out: Path,
    settings: EvaluateSettings,
    *,
    limits: Limits,
    progress: Progress,
) -> list[Picture]:
    """Draw the chosen cases into ``out/pictures``; one that is there already is not drawn again.

    Args:
        evaluation: what was scored.
        contenders: the models; the reference and the first others are shown.
        sites: that were scored.
        out: folder of the report.
        settings: of the cases.
        limits: as of the evaluation.
        progress: told of pictures.
    """
    shown = list(contenders)[:MAX_MODELS]
    judge = next((each.name for each in contenders if each.trained), contenders[-1].name)
    chosen = choose_cases(evaluation, judge)
    folder = out / FOLDER
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    scenes: dict[str, Scene] = {}
    pictures = []
    for number, which in enumerate(chosen):
        progress("pictures", number, len(chosen))
        if which.site not in scenes:
            site = next(site for site in sites if site.name == which.site)
            scenes = {which.site: site.open(request_for(contenders, limits)).scene()}
        pictures += _pictures(which, scenes[which.site], shown, evaluation, settings, folder=folder, judge=judge)
    progress("pictures", len(chosen), len(chosen))
    return pictures


def views(bands: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Composites that are drawn: names to indices of red, green and blue.

    True colour; and where bands of 20 m are among them a false colour of short-wave and near infrared, on which their
    seams and halos would show.
    """
    found = {"": true_colour(bands)}
    coarse = [place for place, band in enumerate(bands) if native_step(band) > 1]
    if coarse:
        names = next((three for three in FALSE_COLOUR if all(band in bands for band in three)), None)
        chosen = tuple(bands.index(band) for band in names) if names else (*coarse[:3], *[coarse[-1]] * 2)[:3]
        found["-".join(bands[place] for place in chosen)] = chosen
    return found


def _pictures(
    which: Chosen,
    scene: Scene,
    shown: Sequence[Contender],
    evaluation: Evaluation,
    settings: EvaluateSettings,
    *,
    folder: Path,
    judge: str,
) -> list[Picture]:
    truth = next(truth for truth in scene.truths if truth.target.label == which.date)
    case = next(cases_of(scene, truth, [which.scenario], members=0, seed=settings.seed))
    asked = [with_members_for_mean(case, contender, settings.ensemble) for contender in shown]
    key = config_hash(
        [case_key(scene, each, contender, settings) for each, contender in zip(asked, shown, strict=True)]
    )
    where = f"{which.site}, {which.date}: {SCENARIOS[which.scenario]}"
    paths = {view: _path(folder, which, view, key) for view in views(scene.bands)}
    if not all(path.is_file() for path in paths.values()):
        means = [
            restore_scored(each, model, scene.bands, settings).mean for each, model in zip(asked, shown, strict=True)
        ]
        estimates = dict(zip((model.name for model in shown), means, strict=True))
        titled = {_scored(name, which, evaluation): image for name, image in estimates.items()}
        for view, path in paths.items():
            _draw(case, scene, titled, view, path, title=where)
    caption = f"{which.rank.capitalize()} case of {judge} – {where}"
    return [
        Picture(caption + (f" (as colours: {view.replace('-', ', ')})" if view else ""), path.read_bytes())
        for view, path in paths.items()
    ]


def _path(folder: Path, which: Chosen, view: str, key: str) -> Path:
    return folder / "-".join([which.scenario, which.rank, *([view] if view else []), f"{key}.png"])


def _draw(
    case: EvaluationCase, scene: Scene, estimates: Mapping[str, FloatArray], view: str, path: Path, *, title: str
) -> None:
    """One composite; errors are of the bands that were sampled alike, in false colour of those that are shown."""
    rgb, ground = views(scene.bands)[view], np.where(case.clear, case.truth, np.nan).astype(np.float32)
    coarse = any(native_step(band) > 1 for band in scene.bands)
    fine = [place for place, band in enumerate(scene.bands) if native_step(band) == 1 or not coarse]
    kept = list(rgb) if view or not set(rgb) <= set(fine) else fine
    data = case_picture(
        _low(case, scene)[kept],
        {name: image[kept] for name, image in estimates.items()},
        ground[kept],
        rgb=tuple(kept.index(place) for place in rgb),
        title=f"{title} ({view.replace('-', ', ')})" if view else title,
    )
    with explained(path):
        write_bytes(path, data)


def _scored(name: str, which: Chosen, evaluation: Evaluation) -> str:
    found: list[Record] = select(
        evaluation.records, model=name, site=which.site, date=which.date, scenario=str(which.scenario), region="all"
    )
    score = found[0]["values"].get("cpsnr_db") if found else None
    return name if score is None else f"{name}\n{score:.2f} dB"


def _low(case: EvaluationCase, scene: Scene) -> FloatArray:
    """What the model saw of the date; all NaN where it is hidden."""
    low = case.low.sel(band=list(scene.bands))
    if case.target.index is None:
        return np.full(low.shape[1:], np.nan, np.float32)
    valid = low[VALID].values[case.target.index]
    return np.where(valid, low.values[case.target.index], np.nan).astype(np.float32)
