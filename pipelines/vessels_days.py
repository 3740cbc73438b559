"""Clean, complete and score day files of AIS as they arrive; made to be run by cron, systemd or any scheduler.

    python pipelines/vessels_days.py /data/ais/incoming --out /data/tracks --pattern 'AIS_*.zip' --history 7

Every file is cleaned, its gaps are filled, and its tracks are scored: three runs in the catalogue of ``--out``. A file
that is done is found done, a run that was killed resumes. With ``--history`` the model is told of the files before;
without, of the other vessels of the file. Exit code: 0 all files are done, 1 a file failed, 2 the command is wrong.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from geodiff.cli.inputs import default_workers
from geodiff.schema import GeodiffError, UsageError
from geodiff.tasks.vessels_plan import Paths, make_plan
from geodiff.tasks.vessels_pool import PROCESSES, Pool
from geodiff.tasks.vessels_run import run_tracks
from geodiff.tasks.vessels_settings import CleanSettings, ImputeSettings, ScoreSettings, TrackSettings

log = logging.getLogger("vessels_days")


def run_day(
    path: Path, given: argparse.Namespace, settings: dict[str, TrackSettings], pool: Pool, history: Sequence[Path]
) -> tuple[str, Path]:
    """Do one file; the rest of its log line, and its clean fixes."""

    def run(kind: str, source: Path, paths: Paths = Paths()) -> dict[str, Any]:  # noqa: B008
        plan = make_plan(kind, [source], settings[kind], given.out, paths=paths)
        return run_tracks(plan, pool=pool, progress=lambda *_: None).summary

    clean = run("clean", path)
    fixes = Path(clean["files"]["fixes"])
    impute = run("impute", fixes, Paths(history=tuple(history)))
    score = run("score", fixes, Paths(calibration=given.calibration))
    counts = {**clean["counts"], **impute["counts"], **score["counts"]}
    told = ("tracks", "rejected", "gaps: filled", "gaps: moored", "imputed fixes", "tracks flagged")
    found = {name: counts[name] for name in told if name in counts}
    said = (f"{name} {sum(each.values()) if isinstance(each, dict) else each}" for name, each in found.items())
    return ", ".join([*said, *score["notes"]]), fixes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run file after file in the order of their names; one that fails does not stop the others."""
    parser = argparse.ArgumentParser(description="Clean, complete and score day files of AIS.")
    parser.add_argument("folder", type=Path, help="holds the files, one for each day, named so that days sort")
    parser.add_argument("--out", type=Path, required=True, help="a STAC catalogue of all runs")
    parser.add_argument("--pattern", default="*", help="of the names of the files; default: all")
    parser.add_argument("--layout", help="column map; default: recognised")
    parser.add_argument("--timezone", help="of times without an offset")
    parser.add_argument("--model", help="of motion, for gaps; default: the trained one")
    parser.add_argument("--ensemble", type=int, default=16, help="members")
    parser.add_argument("--history", type=int, default=0, metavar="DAYS", help="files before that are past tracks too")
    parser.add_argument("--alpha", type=float, help="false-alarm rate of the scores")
    parser.add_argument("--calibration", type=Path, help="of the scores; default: the file's own vessels")
    parser.add_argument("--workers", type=int, default=default_workers(), help="default: all cores")
    parser.add_argument("--scheduler", help="threads, processes, or the address of a Dask scheduler")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    files = [path for path in sorted(given.folder.glob(given.pattern)) if path.is_file() and path.name[0] != "."]
    if not files:
        parser.error(f"no file {given.pattern} in {given.folder}")
    if given.history < 0:
        parser.error(f"--history {given.history}: 0 or more")
    if given.calibration is not None and not given.calibration.is_file():
        parser.error(f"--calibration {given.calibration}: no such file")
    model = {} if given.model is None else {"model": given.model}
    try:
        settings: dict[str, TrackSettings] = {
            "clean": CleanSettings.parse({"layout": given.layout, "timezone": given.timezone}),
            "impute": ImputeSettings.parse({"ensemble": given.ensemble, **model}),
            "score": ScoreSettings.parse({"alpha": given.alpha}),
        }
        pool = Pool(given.workers, given.scheduler or (PROCESSES if given.workers > 1 else None))
    except UsageError as error:
        parser.error(str(error))
    past, failed = list[Path](), False
    for path in files:
        started, tell = time.monotonic(), log.info
        try:
            line, fixes = run_day(path, given, settings, pool, past[-given.history :] if given.history else [])
            past.append(fixes)
        except Exception as error:  # whatever it is, the other files must have their turn
            failed, tell = True, log.error
            line = f"failed: {error}" if isinstance(error, GeodiffError) else f"failed: {type(error).__name__}: {error}"
        tell("%s: %s (%.0f s)", path.name, " ".join(line.split()), time.monotonic() - started)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
