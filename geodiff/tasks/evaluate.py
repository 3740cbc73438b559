"""``geodiff evaluate superres``: models side by side on places that none of them saw, case by case, resumable."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

from pydantic import Field

from geodiff.config import Settings, TileConfig, config_hash
from geodiff.outputs.atomic import explained
from geodiff.schema import GeodiffError, UsageError
from geodiff.tasks.evaluate_cases import EvaluationCase, Scenario, Scene, cases_of
from geodiff.tasks.evaluate_ledger import Ledger, Record
from geodiff.tasks.evaluate_models import Contender, needed_bands, scored_bands, with_members_for_mean
from geodiff.tasks.evaluate_restore import Ensemble, restore_case
from geodiff.tasks.evaluate_score import lpips_digest, score_case
from geodiff.tasks.evaluate_sources import Request, Site
from geodiff.tasks.job import Progress
from geodiff.tasks.leakage import Evidence, refuse_training_ground
from geodiff.tasks.models import calibration_of
from geodiff.tasks.wald_pair import coarsest_step

log = logging.getLogger(__name__)

FORMAT = 6
"""Of the report and of the records: a change of either makes results of before count no more."""

PIXEL_KM2 = 1e-4
"""Ground of a low-resolution pixel in figures of speed, whatever it is in the degraded series: 10 m x 10 m."""


class EvaluateSettings(Settings):
    """What is computed of every case; part of the key under which a result is kept.

    Attributes:
        ensemble: members that are drawn where the ensemble is scored; intervals are calibrated for four.
        seed: of noise, synthetic clouds and ties.
        scenarios: what models are shown.
        tile: how a scene is cut.
    """

    ensemble: int = Field(4, ge=0, le=64)
    seed: int = Field(0, ge=0)
    scenarios: tuple[Scenario, ...] = tuple(Scenario)
    tile: TileConfig = TileConfig()


@dataclass(frozen=True)
class Limits:
    """How much of the data is looked at, and by how many threads; results of single cases do not depend on it.

    Attributes:
        dates: most dates of a place that are restored, spread over the series.
        sites: most places, in the order of the data.
        workers: threads.
    """

    dates: int | None = None
    sites: int | None = None
    workers: int = 1


@dataclass(frozen=True)
class Evaluation:
    """What was found, before it is summed up.

    Attributes:
        records: of every model, case and region.
        left_out: places that could not be scored, and why.
    """

    records: tuple[Record, ...]
    left_out: tuple[tuple[str, str], ...]


def request_for(contenders: Sequence[Contender], limits: Limits) -> Request:
    """What the models need of every place."""
    return Request(
        bands=needed_bands(contenders),
        scored=scored_bands(contenders),
        scale=contenders[0].resolver.scale,
        dates_limit=limits.dates,
    )


def evaluate(
    contenders: Sequence[Contender],
    sites: Sequence[Site],
    out: Path,
    settings: EvaluateSettings,
    *,
    limits: Limits,
    progress: Progress,
) -> Evaluation:
    """Restore and score every case with every model; what the folder holds already is not computed again.

    Args:
        contenders: from ``load_contenders``.
        sites: from ``find_sites``.
        out: folder of the report; results are appended to ``results.jsonl`` in it.
        settings: of every case.
        limits: how much.
        progress: told of places and of cases.

    Raises:
        UsageError: a model was trained on one of the places.
        GeodiffError: no place can be scored.
    """
    with explained(out):
        out.mkdir(parents=True, exist_ok=True)
    ledger, request = Ledger(out), request_for(contenders, limits)
    chosen = list(sites)[: limits.sites]
    for site in chosen:
        refuse_all(contenders, site.evidence)
    records: list[Record] = []
    left_out: list[tuple[str, str]] = []
    for number, site in enumerate(chosen):
        progress("places", number, len(chosen))
        scene = _scene(site, request, contenders, left_out)
        if scene is not None:
            records += _score_scene(scene, contenders, ledger, settings, workers=limits.workers, progress=progress)
    progress("places", len(chosen), len(chosen))
    if not records:
        why = "; ".join(f"{name}: {reason}" for name, reason in left_out[:3]) or "no case had enough clear pixels"
        raise GeodiffError(f"nothing could be scored ({why})")
    return Evaluation(tuple(records), tuple(left_out))


def refuse_all(contenders: Sequence[Contender], evidence: Evidence) -> None:
    """Refuse a place on which any of the models was trained.

    Raises:
        UsageError: one line that names the place and the model.
    """
    for contender in contenders:
        refuse_training_ground(contender.card, evidence, model=contender.name)


def _scene(
    site: Site, request: Request, contenders: Sequence[Contender], left_out: list[tuple[str, str]]
) -> Scene | None:
    """A place that cannot be read or has nothing to compare with is told of, and the others go on.

    Raises:
        UsageError: a model was trained on it.
    """
    try:
        opened = site.open(request)
        refuse_all(contenders, opened.evidence())
        return opened.scene()
    except UsageError:
        raise
    except GeodiffError as error:
        log.warning("place %s is left out: %s", site.name, error)
        left_out.append((site.name, str(error)))
        return None


def _score_scene(
    scene: Scene,
    contenders: Sequence[Contender],
    ledger: Ledger,
    settings: EvaluateSettings,
    *,
    workers: int,
    progress: Progress,
) -> list[Record]:
    """All records of a scene, in an order that does not depend on the workers."""
    jobs = [(case, contender) for case in scene_cases(scene, settings) for contender in contenders]

    def run(job: tuple[EvaluationCase, Contender]) -> list[Record]:
        case, contender = with_members_for_mean(job[0], job[1], settings.ensemble), job[1]
        key = case_key(scene, case, contender, settings)
        known = ledger.get(key)
        if known is None:
            known = score_one(case, contender, scene, settings)
            ledger.put(key, known)
        return known

    found: list[Record] = []
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for number, records in enumerate(pool.map(run, jobs), start=1):
            found += records
            progress(scene.site, number, len(jobs))
    return found


def scene_cases(scene: Scene, settings: EvaluateSettings) -> Iterator[EvaluationCase]:
    """Every case of a scene."""
    for truth in scene.truths:
        yield from cases_of(scene, truth, settings.scenarios, members=settings.ensemble, seed=settings.seed)


def case_key(scene: Scene, case: EvaluationCase, contender: Contender, settings: EvaluateSettings) -> str:
    """Names a result: equal for equal weights, pixels and settings."""
    step = coarsest_step(scene.low)
    what = {
        "format": FORMAT,
        "model": [contender.name, contender.digest, contender.passes, calibration_of(contender.card)],
        # Bands that are needed but not scored decide on which lattice the truth lies.
        "data": [scene.site, scene.digest, scene.scale, list(scene.bands), *([step] if step > 1 else [])],
        "case": [case.date, case.scenario, list(case.target.dates)],
        "settings": [case.members, settings.seed, settings.tile.model_dump()],
        "lpips": lpips_digest(),
    }
    return config_hash(what)


def restore_scored(
    case: EvaluationCase, contender: Contender, bands: tuple[str, ...], settings: EvaluateSettings
) -> Ensemble:
    """Restore a case; of the result the bands that are scored, in their order."""
    found = restore_case(case, contender.resolver, seed=settings.seed, tile=settings.tile)
    order = [contender.resolver.bands.index(band) for band in bands]
    half = {level: width[order] for level, width in found.half_width.items()}
    return replace(found, mean=found.mean[order], members=found.members[:, order], half_width=half)


def score_one(case: EvaluationCase, contender: Contender, scene: Scene, settings: EvaluateSettings) -> list[Record]:
    """The records of one model on one case."""
    start = perf_counter()
    found = restore_scored(case, contender, scene.bands, settings)
    seconds = perf_counter() - start
    rows, cols = case.low.shape[-2:]
    common = {
        "model": contender.name,
        "site": case.site,
        "group": case.group,
        "date": case.date,
        "scenario": str(case.scenario),
        "tags": {
            "dates": len(case.target.dates),
            "cloud": round(case.cloud, 4),
            "hidden": case.target.index is None,
            "days_to_nearest": case.days_to_nearest,
        },
        "members": len(found.members),
        "seconds": round(seconds, 4),
        "km2": rows * cols * PIXEL_KM2,
    }
    return [{**common, **record} for record in score_case(case, found, bands=scene.bands, scale=scene.scale)]
