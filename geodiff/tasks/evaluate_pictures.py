"""Pictures of an evaluation: the best, the median and the worst case, restored again and drawn side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geodiff.config import config_hash
from geodiff.outputs.atomic import explained, write_bytes
from geodiff.outputs.report_page import Picture
from geodiff.outputs.report_plots import case_picture
from geodiff.outputs.report_tables import SCENARIOS
from geodiff.schema import VALID, FloatArray
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
        pictures.append(_picture(which, scenes[which.site], shown, evaluation, settings, folder=folder, judge=judge))
    progress("pictures", len(chosen), len(chosen))
    return pictures


def _picture(
    which: Chosen,
    scene: Scene,
    shown: Sequence[Contender],
    evaluation: Evaluation,
    settings: EvaluateSettings,
    *,
    folder: Path,
    judge: str,
) -> Picture:
    truth = next(truth for truth in scene.truths if truth.target.label == which.date)
    case = next(cases_of(scene, truth, [which.scenario], members=0, seed=settings.seed))
    asked = [with_members_for_mean(case, contender, settings.ensemble) for contender in shown]
    key = config_hash(
        [case_key(scene, each, contender, settings) for each, contender in zip(asked, shown, strict=True)]
    )
    path = folder / f"{which.scenario}-{which.rank}-{key}.png"
    where = f"{which.site}, {which.date}: {SCENARIOS[which.scenario]}"
    if not path.is_file():
        means = [
            restore_scored(each, model, scene.bands, settings).mean for each, model in zip(asked, shown, strict=True)
        ]
        estimates = dict(zip((model.name for model in shown), means, strict=True))
        titled = {_scored(name, which, evaluation): image for name, image in estimates.items()}
        ground = np.where(case.clear, case.truth, np.nan).astype(np.float32)
        data = case_picture(_low(case, scene), titled, ground, rgb=true_colour(scene.bands), title=where)
        with explained(path):
            write_bytes(path, data)
    return Picture(f"{which.rank.capitalize()} case of {judge} – {where}", path.read_bytes())


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
