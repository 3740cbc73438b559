"""Super-resolve every region of a folder; made to be run daily by cron, systemd or any scheduler. See README.md here.

Exit code: 0 all regions are done, 1 a region failed, 2 the command or a region file is wrong.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from geodiff.cli.inputs import default_workers
from geodiff.cli.restore import check_name
from geodiff.config import SuperresConfig, catalogs_dir, read_yaml
from geodiff.schema import GeodiffError, UsageError
from geodiff.tasks.out_folder import check_out
from geodiff.tasks.plan import find_run, make_plan
from geodiff.tasks.superres import finished, run

log = logging.getLogger("superres_regions")


def resolve_dates(text: str, today: date) -> str:
    """``last 60 days`` as ``A/B``: today (UTC) and the 60 days before it; other texts as they are."""
    found = re.fullmatch(r"last (\d{1,4}) days?", text.strip())
    return text if found is None else f"{today - timedelta(days=int(found[1]))}/{today}"


def named_place(name: str) -> dict[str, object]:
    """Geometry of a place of ``catalogs/regions.geojson``."""
    document = json.loads((catalogs_dir() / "regions.geojson").read_text(encoding="utf-8"))
    places = {feature["properties"]["name"]: feature["geometry"] for feature in document["features"]}
    if name not in places:
        raise UsageError(f"no region {name!r}: give a geometry, or one of {', '.join(places)}")
    return dict(places[name])


def read_region(path: Path, today: date) -> tuple[str, SuperresConfig]:
    """Name and settings of a region file."""
    values = read_yaml(path)
    name = check_name(str(values.pop("name", path.stem)))
    values["datetime"] = resolve_dates(str(values.get("datetime", "last 60 days")), today)
    if isinstance(values.get("region"), str):
        values["region"] = named_place(str(values["region"]))
    return name, SuperresConfig.parse(values, where=str(path))


def no_bars(*_: object) -> None:
    """Show no progress."""


def run_region(path: Path, out: Path, *, workers: int, scheduler: str | None, today: date) -> str:
    """Do one region; the rest of its log line."""
    name, config = read_region(path, today)
    check_out(out, name)
    found = find_run(config, progress=no_bars)
    # The interval moves daily; named by the days that have scenes, a run is found finished until there is a new one.
    days = sorted(item.datetime.astimezone(UTC).date() for item in found.items if item.datetime)
    if days:
        found = find_run(config.model_copy(update={"datetime": f"{days[0]}/{days[-1]}"}), progress=no_bars)
    outcome = finished(out, found.run_id, config.format)
    if outcome is None:
        plan = make_plan(found.config, out, name=name, workers=workers, progress=no_bars, found=found)
        outcome = run(plan, out, name=name, workers=workers, scheduler=scheduler, progress=no_bars)
    targets = ",".join(str(target["date"]) for target in outcome.summary.get("targets", []))
    return f"{'unchanged' if outcome.resumed else 'done'} {targets} {outcome.summary['zarr']}"


def main(arguments: Sequence[str] | None = None, *, today: date | None = None) -> int:
    """Run region after region; one that fails does not stop the others."""
    parser = argparse.ArgumentParser(description="Super-resolve every region of a folder.")
    parser.add_argument("folder", type=Path, help="holds the region files, *.yaml")
    parser.add_argument("--out", type=Path, required=True, help="a STAC catalogue of all runs, one folder per region")
    parser.add_argument("--workers", type=int, default=default_workers(), help="threads per region; default: all cores")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="a Dask scheduler to use in place of threads")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    worst, day, out = 0, today or datetime.now(UTC).date(), given.out.resolve()
    files = sorted(given.folder.glob("*.yaml")) or parser.error(f"no region files (*.yaml) in {given.folder}")
    for path in files:
        started, code = time.monotonic(), 0
        try:
            line = run_region(path, out, workers=given.workers, scheduler=given.scheduler, today=day)
        except Exception as error:  # whatever it is, the other regions must have their turn
            code = getattr(error, "exit_code", 1)
            line = f"failed: {error}" if isinstance(error, GeodiffError) else f"failed: {type(error).__name__}: {error}"
        worst, tell = max(worst, code), log.error if code else log.info
        tell("%s: %s (%.0f s)", path.stem, " ".join(line.split()), time.monotonic() - started)
    return worst


if __name__ == "__main__":
    sys.exit(main())
