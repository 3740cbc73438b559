"""The demonstration: the main job on a real series where there is one, else on a synthetic place with a known truth."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from geodiff.config import SuperresConfig, data_dir
from geodiff.grid import Grid
from geodiff.imagery.build import build_catalog
from geodiff.outputs.atomic import write_json
from geodiff.outputs.plots import comparison
from geodiff.schema import BANDS_10M
from geodiff.tasks.job import Progress
from geodiff.tasks.models import DEFAULT_MODEL, find_model, load_resolver
from geodiff.tasks.pictures import true_colour
from geodiff.tasks.plan import make_plan
from geodiff.tasks.superres import run
from geodiff.tasks.wald import WaldResult, wald

BOADELLA_BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
"""Order of the bands in the files of the series, which name none."""

SYNTHETIC_PX = 256
SYNTHETIC_ORIGIN = (500_000.0, 4_690_000.0)


@dataclass(frozen=True)
class DemoResult:
    """What the demonstration did.

    Attributes:
        data: one line that names the data.
        summary: of the run, with ``wald``, ``cpsnr_db`` and ``cpsnr_hidden_db`` (by model, mean over the clear dates).
        comparison: the picture of the Wald protocol.
        result: scores by date.
    """

    data: str
    summary: dict[str, Any]
    comparison: Path
    result: WaldResult


def run_demo(out: Path, *, workers: int, progress: Progress, ensemble: int = 4) -> DemoResult:
    """Build a catalogue, search it, super-resolve a place, publish it, and score the model by the Wald protocol.

    Args:
        out: output folder.
        workers: threads.
        progress: told of each stage.
        ensemble: members of the run.

    Raises:
        GeodiffError: as of the main job.
    """
    data, config, name = _real(out, ensemble, progress) or _synthetic(out, ensemble, progress)
    plan = make_plan(config, out, name=name, workers=workers, progress=progress)
    outcome = run(plan, out, name=name, workers=workers, progress=progress)
    resolvers = [load_resolver(find_model(model), bands=BANDS_10M) for model in ("bicubic", "median", DEFAULT_MODEL)]
    result = wald(
        plan.job.cube().compute(),
        resolvers,
        workers=workers,
        progress=lambda done, n: progress("Wald protocol", done, n),
    )
    picture = _picture(result, out, name)
    summary = {
        **outcome.summary,
        "data": data,
        "cpsnr_db": {model: round(db, 3) for model, db in result.mean_db(hidden=False).items()},
        "cpsnr_hidden_db": {model: round(db, 3) for model, db in result.mean_db(hidden=True).items()},
        "comparison": str(picture),
    }
    write_json(out / "summary.json", summary)
    return DemoResult(data, summary, picture, result)


def _picture(result: WaldResult, out: Path, name: str) -> Path:
    scores = {s.model: s.cpsnr_db for s in result.scores if s.date == result.panel_date and not s.hidden}
    return comparison(
        result.panels,
        pixel_m=result.pixel_m,
        title=f"{name}, {result.panel_date}: degraded x4, restored, compared with the original (Wald protocol)",
        path=out / f"{name}_wald.png",
        cpsnr_db=scores,
        rgb=true_colour(BANDS_10M),
    )


def _real(out: Path, ensemble: int, progress: Progress) -> tuple[str, SuperresConfig, str] | None:
    root = data_dir()
    folder = root / "sentinel2" / "boadella" if root else None
    if folder is None or not folder.is_dir():
        return None
    # The files mark no gaps: their zeros are dark water. A number that does not occur says so.
    catalog = build_catalog(
        folder,
        out / "scenes",
        bands=BOADELLA_BANDS,
        nodata=-32_768,
        progress=lambda done, n, _: progress("catalogue", done, n),
    )
    config = SuperresConfig(
        catalog=str(catalog),
        bbox=(2.70, 42.25, 2.95, 42.45),
        datetime="2020-01-01/2022-12-31",
        target=date(2020, 9, 14),
        crs="native",
        ensemble=ensemble,
    )
    year = "contains modified Copernicus Sentinel data 2020-2022"
    return f"real: Sentinel-2 L2A of the Boadella reservoir, 12 dates ({year})", config, "boadella"


def _synthetic(out: Path, ensemble: int, progress: Progress) -> tuple[str, SuperresConfig, str]:
    # The makers of synthetic places are part of the package, so that the demo works anywhere.
    from geodiff.testing.scenes import write_scenes
    from geodiff.testing.series import demo_series

    grid = Grid("EPSG:32631", (10.0, 10.0), SYNTHETIC_ORIGIN, (SYNTHETIC_PX, SYNTHETIC_PX))
    progress("synthetic place", 0, 1)
    catalog = out / "scenes" / "catalog.json"
    if not catalog.is_file():
        write_scenes(demo_series(SYNTHETIC_PX), grid, out / "scenes")
    progress("synthetic place", 1, 1)
    config = SuperresConfig(
        catalog=str(catalog),
        bbox=grid.bounds_wgs84,
        datetime="2021-01-01/2022-12-31",
        crs="native",
        ensemble=ensemble,
    )
    return f"synthetic: {SYNTHETIC_PX} x {SYNTHETIC_PX} px drawn by geodiff.testing, truth known", config, "synthetic"
