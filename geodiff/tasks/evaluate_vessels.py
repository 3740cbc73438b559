"""Motion models side by side on vessels that none of them saw: gaps to fill, futures to forecast.

Each result goes to a ledger as soon as it is there, so that a killed evaluation goes on where it stopped, and a model
that is added later is the only one to be run.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.config import config_hash
from geodiff.metrics.tracks import TrackScore, score_track
from geodiff.outputs.atomic import explained
from geodiff.schema import GeodiffError, UsageError
from geodiff.tasks.evaluate_ledger import Ledger, Record
from geodiff.tasks.evaluate_vessels_data import Drawn
from geodiff.tasks.evaluate_vessels_settings import VesselSettings
from geodiff.tasks.motion_models import BASELINES, Contender, load_contender, regions_here
from geodiff.tasks.vessels_pool import one_thread
from geodiff.tracks import TrackAnswer
from geodiff.version import __version__
from geodiff.vessels.cases import Case

if TYPE_CHECKING:
    from geodiff.tasks.job import Progress

FORMAT = 6
"""Of report and records: a change of either makes results of before count no more."""

CHUNK = 250
"""Cases that are kept together: what a killed run loses at most."""

REFERENCES = {"impute": "hermite", "forecast": "dead_reckoning"}
"""The rule that gains are told against."""

PER_STEP = ("greedy_km", "mean_km", "crps_km", "energy_km", "best_km", "variance_km2", "square_km2")
WHOLE = ("ade_km", "fde_km", "min_ade_km", "min_fde_km")


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What was found, before it is summed up.

    Attributes:
        records: of each model one per case, in the order of the cases.
    """

    records: dict[str, list[Record]]


def load_contenders(names: Sequence[str]) -> list[Contender]:
    """The named models, then every classical rule.

    Raises:
        UsageError: an unknown model, or two of one name.
    """
    asked = [load_contender(name) for name in dict.fromkeys(names)]
    twice = {each.name for each in asked if sum(other.name == each.name for other in asked) > 1}
    if twice:
        raise UsageError(f"--model: two files give the name {min(twice)}: rename one of them")
    known = {each.name for each in asked}
    return asked + [load_contender(name) for name in BASELINES if name not in known]


def calibrated(contender: Contender, drawn: Drawn, settings: VesselSettings) -> Contender:
    """The model with regions calibrated on the vessels that are not asked about; see ``track_calibrate_here``."""
    if not settings.calibrate:
        return contender
    with one_thread():
        found = regions_here(
            contender.model, [drawn.others], lambda: contender.told(drawn.history).model, seed=settings.seed
        )
    if found is None or found.calibration is None:
        return contender
    digest = f"{contender.digest}-{config_hash(found.to_json())}"
    return replace(contender, model=found.of(contender.model), digest=digest, regions=str(found))


def evaluate_vessels(
    contenders: Sequence[Contender],
    drawn: Drawn,
    out: Path,
    settings: VesselSettings,
    *,
    progress: Progress | None = None,
) -> Evaluation:
    """Ask every model about every case.

    Args:
        contenders: from ``load_contenders``.
        drawn: from ``evaluate_vessels_data.draw_cases``.
        out: folder of the ledger and of the report.
        settings: members and seed.
        progress: called with the model, the cases done and their number.

    Raises:
        GeodiffError: the folder cannot be written, or an answer is no position.
    """
    with explained(out):
        out.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(out)
    chunks = list(_chunks(drawn))
    keys = [_content(*chunk) for chunk in chunks]
    told = "" if drawn.history is None else drawn.history.content()
    records: dict[str, list[Record]] = {}
    for contender in contenders:
        model = contender.told(drawn.history)
        records[contender.name] = []
        for (cases, split), content in zip(chunks, keys, strict=True):
            parts = [FORMAT, __version__, contender.name, contender.digest, content, settings.members, settings.seed]
            key = f"{contender.name} {config_hash([*parts, told if model is not contender else ''])}"
            found = ledger.get(key)
            if found is None:
                found = _ask(model, cases, split, settings)
                ledger.put(key, found)
            records[contender.name] += found
            if progress is not None:
                progress(contender.name, len(records[contender.name]), len(drawn.cases))
    return Evaluation(records)


def _chunks(drawn: Drawn) -> Iterator[tuple[tuple[Case, ...], tuple[str, ...]]]:
    for start in range(0, len(drawn.cases), CHUNK):
        yield drawn.cases[start : start + CHUNK], drawn.split[start : start + CHUNK]


def _content(cases: Sequence[Case], split: Sequence[str]) -> str:
    """A hash of what is asked and true, so that other data or another cleaning never meet old results."""
    found = hashlib.blake2b(digest_size=16)
    for case, where in zip(cases, split, strict=True):
        query = case.query
        words = (case.key, query.ship_type, query.vessel_id, case.moving, case.label, where)
        found.update("\x1f".join(map(str, words)).encode())
        known = (query.time_s, query.lon_deg, query.lat_deg, query.sog_kn, query.cog_deg, query.ask_s)
        for array in (*known, case.truth_lon_deg, case.truth_lat_deg):
            found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def _ask(contender: Contender, cases: Sequence[Case], split: Sequence[str], settings: VesselSettings) -> list[Record]:
    start = time.perf_counter()
    answers = contender.model.predict([case.query for case in cases], members=settings.members, seed=settings.seed)
    seconds = (time.perf_counter() - start) / len(cases)
    return [
        _record(contender, case, where, answer, seconds)
        for case, where, answer in zip(cases, split, answers, strict=True)
    ]


def _record(contender: Contender, case: Case, split: str, answer: TrackAnswer, seconds: float) -> Record:
    """One case as plain values; empty lists and None where there is no ensemble."""
    try:
        score = score_track(answer, case.truth_lon_deg, case.truth_lat_deg, antithetic=contender.antithetic)
    except ValueError as error:
        raise GeodiffError(f"{contender.name}: its answer to {case.key} cannot be scored: {error}") from None
    return {
        "case": case.key,
        "vessel": case.query.vessel_id,
        "ship_type": case.query.ship_type,
        "split": split,
        "moving": case.moving,
        "label": list(case.label),
        "members": len(answer.member_lon_deg),
        "levels": list(contender.model.levels)[: len(score.inside)],
        "seconds": _number(seconds),
        **{name: [_number(value) for value in getattr(score, name)] for name in PER_STEP},
        **{name: _number(getattr(score, name)) for name in WHOLE},
        **_regions(score),
    }


def _regions(score: TrackScore) -> dict[str, Any]:
    return {
        "inside": score.inside.tolist(),
        "area_km2": [[_number(value) for value in level] for level in score.area_km2],
    }


def _number(value: float) -> float | None:
    """Seven significant digits; None where there is no figure."""
    return float(f"{value:.7g}") if np.isfinite(value) else None
