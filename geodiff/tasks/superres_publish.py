"""The end of the main job: COGs, pictures, summary, and the STAC item, which is the commit; and its undoing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from geodiff.outputs.atomic import read_json, write_json
from geodiff.outputs.cog import write_cogs
from geodiff.outputs.published import damaged_assets, published_items, size_of
from geodiff.outputs.stac_items import RunRecord, build_item, publish_item, withdraw_item
from geodiff.outputs.zarr_store import discard_store
from geodiff.tasks.job import Job, Progress
from geodiff.tasks.memory import peak_rss_mb
from geodiff.tasks.pictures import draw
from geodiff.tasks.plan import Plan, record

_SPEED: Final = ("seconds", "km2", "km2_per_s", "km2_per_s_per_member")


def discard_damaged(job: Job, out: Path) -> None:
    """Remove what is damaged of a published run, so that it is made again; without its cube no item stays published."""
    for item in list(published_items(out, run_id=job.run_id)):
        damaged = damaged_assets(item)
        for path in damaged.values():
            if path.parent == _cogs_folder(job).resolve():
                path.unlink(missing_ok=True)
        if damaged.get("zarr") == job.store.resolve():
            # The cube before the item: a run killed in between must not leave a damaged cube that nobody knows of.
            discard_store(job.store)
            withdraw_item(item)


def publish(plan: Plan, speed: Mapping[str, Any], *, out: Path, name: str, progress: Progress) -> dict[str, Any]:
    """Draw and write what is made of a finished store, and publish its item; returns the summary.

    Args:
        plan: of the run.
        speed: figures of ``speed_of``.
        out: output folder.
        name: of the region.
        progress: told of each stage.

    Raises:
        GeodiffError: a file that cannot be written.
    """
    job = plan.job
    cogs = _cogs(plan, progress)
    progress("pictures", 0, 1)
    pictures = draw(job, job.cube())
    progress("pictures", 1, 1)
    summary = _summary(plan, speed, [*pictures.values(), *cogs], out=out, name=name)
    write_json(_summary_path(plan), summary)
    item = build_item(_run_record(plan), zarr=job.store, summary=_summary_path(plan), cogs=cogs, **pictures)
    publish_item(out, item, collection=name, description=f"Super-resolved Sentinel-2 of {name}")
    write_json(out / "summary.json", summary)
    return summary


def speed_of(plan: Plan, share: float, seconds: float) -> dict[str, Any]:
    """Figures of the restoration alone, of which this process did ``share``; those of before where it did nothing."""
    if not share:
        told = read_json(_summary_path(plan))
        return {name: told[name] for name in _SPEED if name in told} if isinstance(told, dict) else {}
    restored = plan.area_km2 * len(plan.job.targets) * share
    speed = restored / max(seconds, 1e-9)
    return {
        "seconds": round(seconds, 3),
        "km2": round(restored, 4),
        "km2_per_s": round(speed, 4),
        **({"km2_per_s_per_member": round(speed * plan.job.members, 4)} if plan.job.members else {}),
    }


def _cogs_folder(job: Job) -> Path:
    return job.store.with_suffix("")


def _cogs(plan: Plan, progress: Progress) -> list[Path]:
    folder = _cogs_folder(plan.job)
    if plan.job.config.format != "cog" and not folder.exists():  # those that were asked for before stay
        return []
    return write_cogs(plan.job.store, plan.job.spec, folder, progress=lambda done, n: progress("cogs", done, n))


def _summary_path(plan: Plan) -> Path:
    return plan.job.store.with_name(f"{plan.job.run_id}_summary.json")


def _run_record(plan: Plan) -> RunRecord:
    job = plan.job
    links = [link["href"] for item in job.items for link in item.get("links", []) if link.get("rel") == "self"]
    return RunRecord(
        run_id=job.run_id,
        grid=job.spec.grid,
        bands=job.spec.bands,
        times=job.spec.times,
        ensemble=job.members,
        scale=job.spec.grid.shape[0] // job.grid.shape[0],
        model=job.model.name,
        model_href=str(job.model.item) if job.model.item else None,
        sources=tuple(links),
        created=datetime.now(UTC),
    )


def _summary(plan: Plan, speed: Mapping[str, Any], files: Sequence[Path], *, out: Path, name: str) -> dict[str, Any]:
    job = plan.job
    return {
        **record(plan),
        **speed,
        "peak_rss_mb": round(peak_rss_mb(), 1),
        "bytes": size_of(job.store),
        "zarr": str(job.store),
        "item": str(out / name / f"{job.run_id}.json"),
        "catalog_out": str(out / "catalog.json"),
        "files": [str(path) for path in files],
    }
