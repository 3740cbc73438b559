"""The end of a run over tracks: its files, its maps, its summary, and the STAC item, which is the commit."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import polars as pl
import pyarrow.parquet as pq

from geodiff.outputs.atomic import explained, read_json, replacing, write_json
from geodiff.outputs.published import RUN_ID
from geodiff.outputs.track_columns import quantile_columns
from geodiff.outputs.track_item import TrackInput, TrackRecord, build_track_item, publish_tracks, table_asset
from geodiff.outputs.track_parquet import write_table
from geodiff.outputs.track_store import TrackStore
from geodiff.schema import GeodiffError
from geodiff.tasks.vessels_inputs import Input
from geodiff.tasks.vessels_job import FIXES, FORECAST, IMPUTE, SCORE, Progress, TrackJob
from geodiff.tasks.vessels_plan import TrackPlan, association_of
from geodiff.version import __version__
from geodiff.vessels.partition import MANIFEST

TABLES: Final = {"stops": "stops of the vessels (GeoParquet, points)", "scores": "scores of the tracks (Parquet)"}
"""Further tables of a run, which parts leave in the work folder."""


def publish(plan: TrackPlan, figures: Callable[[], Mapping[str, Any]], *, progress: Progress) -> dict[str, Any]:
    """Finish a run whose parts are written; safe to be killed and called again.

    Args:
        plan: of the run.
        figures: tells time and memory up to the moment when it is asked, for the summary.
        progress: told of each stage.

    Returns:
        The summary.

    Raises:
        GeodiffError: nothing is left to publish, or a file that cannot be written.
    """
    job, provenance = plan.job, None
    if not job.store.is_final():
        provenance = provenance_of_run(plan)
        tables = {key: path for key in TABLES if (path := _table(job, key, provenance)) is not None}
        write_json(
            summary_path(job.store), {**_facts(plan), "tables": {key: path.name for key, path in tables.items()}}
        )
    # A final store is left alone, but for what a run that was killed in clearing up left beside it.
    job.store.finalize(job.names, provenance=provenance, progress=lambda done, n: progress("write", done, n))
    summary = read_json(summary_path(job.store))
    if not isinstance(summary, dict):
        raise GeodiffError(f"{summary_path(job.store)} is damaged: remove the files of run {job.run_id} and run again")
    return finish(plan, summary, figures, progress=progress)


def finish(
    plan: TrackPlan, summary: dict[str, Any], figures: Callable[[], Mapping[str, Any]], *, progress: Progress
) -> dict[str, Any]:
    """Draw the maps of a final store and publish its item; returns the summary, with the figures."""
    job = plan.job
    picture, page = _maps(job, progress)
    tables = {key: job.store.folder / str(name) for key, name in summary.get("tables", {}).items()}
    summary["item"] = str(job.store.folder / f"{job.run_id}.json")
    item = build_track_item(
        job.store, _record(plan, summary), picture=picture, page=page, summary=summary_path(job.store)
    )
    for key, path in tables.items():
        item.add_asset(key, table_asset(path, TABLES[key]))
    summary["files"] = {key: asset.href for key, asset in item.assets.items()}
    summary["counts"] = {**item.properties["geodiff:counts"], **summary["counts"]}
    summary |= figures()
    write_json(summary_path(job.store), summary)
    publish_tracks(plan.out, item, collection=plan.name)
    write_json(plan.out / "summary.json", shown(summary))
    return shown(summary)


def shown(summary: Mapping[str, Any]) -> dict[str, Any]:
    """A stored summary without what it keeps for a run that was killed before its item was published."""
    return {name: value for name, value in summary.items() if name != "tables"}


def summary_path(store: TrackStore) -> Path:
    """``<run id>_summary.json``."""
    return store.folder / f"{store.run_id}_summary.json"


def provenance_of_run(plan: TrackPlan) -> dict[str, Any]:
    """What every file of the run carries: no times, so that equal runs give equal bytes."""
    given: dict[str, Sequence[Input | TrackInput]] = {"inputs": plan.inputs, **plan.beside}
    return {
        "geodiff:job": plan.job.kind,
        "geodiff:version": __version__,
        "geodiff:model": plan.model,
        "geodiff:configuration": plan.job.settings.model_dump(mode="json"),
        **({"geodiff:association": rules} if (rules := association_of(plan.job.settings)) else {}),
        **({"geodiff:regions": found} if (found := read_json(plan.job.regions_path)) else {}),
        **({"geodiff:alpha": rate} if (rate := _alpha(plan.job)) else {}),
        **{
            f"geodiff:{what}": [{"href": one.href, "sha256": one.sha256} for one in files]
            for what, files in given.items()
        },
    }


def _facts(plan: TrackPlan) -> dict[str, Any]:
    """What is known once all parts are written, and gone with the work folder."""
    job, rate = plan.job, _alpha(plan.job)
    counts = {**added_counts(job, "clean"), **added_counts(job, "step")}
    further = read_json(job.work / "associated.json")
    if isinstance(further, dict):
        counts |= further
    files = {"inputs": _counted(job, FIXES, [TrackInput(one.href, one.sha256, one.counts) for one in plan.inputs])}
    files |= {what: _counted(job, what, some) for what, some in plan.beside.items()}
    read = [(one["href"], one["counts"]) for one in files["inputs"] if one["counts"]]
    empty = [f"{href}: no fix in it, of {count['read']:,} rows" for href, count in read if not count["kept"]]
    return {
        "run_id": job.run_id,
        "job": job.kind,
        "model": plan.model,
        **_regions(job),
        **({"alpha": rate} if rate else {}),
        "notes": [*plan.notes, *empty, *_flagged_at(job, rate)],
        "configuration": job.settings.model_dump(mode="json"),
        "counts": counts,
        **files,
    }


def _alpha(job: TrackJob) -> float | None:
    """The false-alarm rate at which anomalies were flagged; None for another job than scores."""
    if job.kind != SCORE:
        return None
    from geodiff.tasks.vessels_score import alpha_of

    return alpha_of(job)


def _flagged_at(job: TrackJob, rate: float | None) -> list[str]:
    """What the user must know of the rate at which anomalies were flagged."""
    if rate is None or getattr(job.settings, "alpha", None) is not None:
        return []
    from geodiff.vessels.scoring_tracks import ALPHA

    if rate == ALPHA:
        return []
    return [f"flagged at a false-alarm rate of {rate:g}: so few vessels cannot tell {ALPHA:g}"]


def _regions(job: TrackJob) -> dict[str, str]:
    """What the regions of a trained model rest on."""
    found = read_json(job.regions_path)
    return {"regions": str(found["told"])} if isinstance(found, dict) else {}


def _counted(job: TrackJob, what: str, files: Sequence[TrackInput]) -> list[dict[str, Any]]:
    """Each file with what the reader counted, if it was read into the work folder."""
    told = read_json(job.work / what / MANIFEST)
    sources = told.get("sources", []) if isinstance(told, dict) else []
    counts = [source.get("counts", {}) for source in sources] or [dict(one.counts) for one in files]
    pairs = zip(files, counts, strict=True)
    return [{"href": one.href, "sha256": one.sha256, "counts": count} for one, count in pairs]


def added_counts(job: TrackJob, what: str) -> dict[str, Any]:
    """Counts of all parts together."""
    return add(read_json(job.counts_path(what, part)) for part in range(job.parts))


def add(counts: Iterable[object]) -> dict[str, Any]:
    """Numbers added up by name, in mappings too."""
    out: dict[str, Any] = {}
    for one in counts:
        for name, value in one.items() if isinstance(one, dict) else ():
            out[name] = add([out.get(name), value]) if isinstance(value, dict) else out.get(name, 0) + value
    return {name: dict(sorted(value.items())) if isinstance(value, dict) else value for name, value in out.items()}


def _table(job: TrackJob, key: str, provenance: Mapping[str, Any]) -> Path | None:
    """Join the tables that parts left; None where they left none."""
    paths = [path for part in range(job.parts) if (path := job.path(key, part)).exists()]
    if not paths:
        return None
    whole = pl.concat([pl.read_parquet(path, glob=False) for path in paths])
    order = [name for name in ("vessel_id", "track_id", "first") if name in whole.columns]
    target = job.store.folder / f"{job.run_id}_{key}.parquet"
    with explained(target), replacing(target) as temporary:
        write_table(whole.sort(order, maintain_order=True), temporary, {RUN_ID: job.run_id, **provenance})
    return target


def _maps(job: TrackJob, progress: Progress) -> tuple[Path, Path]:
    """The map and the page, drawn from the files of the run."""
    from geodiff.outputs.track_html import write_page
    from geodiff.outputs.track_maps import draw_tracks

    store = job.store
    source = store.zarr_path if store.members else store.fixes_path
    progress("maps", 0, 2)
    title = f"{job.kind} {job.run_id}"
    picture = draw_tracks(source, store.folder / f"{job.run_id}.png", title=title, coastline=job.coastline)
    progress("maps", 1, 2)
    page = write_page(source, store.folder / f"{job.run_id}.html", title=title, coastline=job.coastline)
    progress("maps", 2, 2)
    return picture, page


def _has_members(job: TrackJob) -> bool:
    """Whether an ensemble was drawn: a classical rule tells one position, and no quantiles of it."""
    names = pq.read_schema(job.store.fixes_path).names
    return job.kind not in (IMPUTE, FORECAST) or quantile_columns()[0] in names


def _record(plan: TrackPlan, summary: Mapping[str, Any]) -> TrackRecord:
    given = {
        what: tuple(TrackInput(one["href"], one["sha256"], one["counts"]) for one in summary[what])
        for what in ("inputs", *plan.beside)
    }
    settings = json.loads(plan.job.settings.model_dump_json())
    flagged_at = {"geodiff:alpha": summary["alpha"]} if "alpha" in summary else {}
    return TrackRecord(
        job=plan.job.kind,
        inputs=given.pop("inputs"),
        beside=given,
        model=plan.model,
        ensemble=int(settings.get("ensemble", 0)) if plan.model and _has_members(plan.job) else 0,
        configuration=settings,
        properties={"geodiff:summary": summary["counts"], **flagged_at},
        created=datetime.now(UTC),
    )
