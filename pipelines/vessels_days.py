"""Clean, complete and score day files of AIS as they arrive; made to be run by cron, systemd or any scheduler.

    python pipelines/vessels_days.py /data/ais/incoming --out /data/tracks --pattern 'AIS_*.zip' --history 7

Every file is cleaned, its gaps are filled, and its tracks are scored: three runs in the catalogue of ``--out``. A file
that is done is found done, a run that was killed resumes. With ``--history`` the model is told of the files before, as
cleaned (they may be gone from the folder), else of the other vessels of the file. Exit code: 0 all files are done, 1 a
file failed, 2 the command is wrong, 130 stopped.
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
from geodiff.schema import GeodiffError
from geodiff.tasks.vessels_day import JOBS, check_readable, describe_day, run_day
from geodiff.tasks.vessels_pool import PROCESSES, Pool
from geodiff.tasks.vessels_settings import CleanSettings, ImputeSettings, ScoreSettings, TrackSettings

log = logging.getLogger("vessels_days")


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
    parser.add_argument("--history", type=int, default=0, metavar="FILES", help="files before that are the past tracks")
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
    try:
        settings: dict[str, TrackSettings] = {
            "clean": CleanSettings.parse({"layout": given.layout, "timezone": given.timezone}),
            "impute": ImputeSettings.parse(
                {"ensemble": given.ensemble} | ({"model": given.model} if given.model else {})
            ),
            "score": ScoreSettings.parse({"alpha": given.alpha}),
        }
        for each in settings.values():
            check_readable(each)
        pool = Pool(given.workers, given.scheduler or (PROCESSES if given.workers > 1 else None))
    except GeodiffError as error:
        parser.error(str(error))
    worst = 0
    for path in files:
        started, code, done = time.monotonic(), 0, list[dict[str, Any]]()
        try:
            for summary in run_day(
                path,
                given.out,
                settings,
                pool,
                history=given.history,
                pattern=Path(given.pattern).name,
                calibration=given.calibration,
            ):
                done.append(summary)
            line = describe_day(done)
        except KeyboardInterrupt:
            log.warning("stopped; the same command goes on from here")
            return 130
        except Exception as error:  # whatever it is, the other files must have their turn
            code = getattr(error, "exit_code", 1)
            what = str(error) if isinstance(error, GeodiffError) else f"{type(error).__name__}: {error}"
            line = f"failed: {JOBS[len(done)]}: {what}"
        worst, tell = max(worst, code), log.error if code else log.info
        tell("%s: %s (%.0f s)", path.name, " ".join(line.split()), time.monotonic() - started)
    return worst


if __name__ == "__main__":
    sys.exit(main())
