"""``geodiff demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geodiff.cli.errors import finishing_regions
from geodiff.cli.inputs import default_workers
from geodiff.cli.restore import summary_lines
from geodiff.cli.show import print_pairs, print_rows, stage_bars


def demo(
    *,
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("demo-output"),
    ensemble: Annotated[int, typer.Option(min=1, help="Members behind the uncertainty.")] = 4,
    workers: Annotated[int | None, typer.Option(min=1, help="At a time; default: all cores.")] = None,
) -> None:
    """Show the main jobs: on the real data of GEODIFF_DATA where there are some, else on synthetic ones."""
    from geodiff.tasks.demo import run_demo
    from geodiff.tasks.demo_vessels import run_vessels_demo
    from geodiff.tasks.out_folder import check_out

    out = out.expanduser().resolve()
    check_out(out)
    with stage_bars() as bars, finishing_regions():
        result = run_demo(out, workers=workers or default_workers(), progress=bars, ensemble=ensemble)
        vessels = run_vessels_demo(out, workers=workers or default_workers(), progress=bars)
    plain = {key: value for key, value in result.summary.items() if key != "cpsnr_db"}
    print_pairs("done", [("data", result.data), *summary_lines(plain), ("comparison", str(result.comparison))])
    seen, hidden = result.summary["cpsnr_db"], result.summary["cpsnr_hidden_db"]
    typer.echo("\nWald protocol: degraded x4, restored, compared with the original; cPSNR in dB, mean over clear dates")
    rows = [(model, f"{seen[model]:.2f}", f"{hidden[model]:.2f}" if model in hidden else "-") for model in seen]
    print_rows(("model", "date seen", "date hidden"), rows)
    counts = {name: count for each in vessels.summaries.values() for name, count in each["counts"].items()}
    told = ("tracks", "imputed fixes", "forecast fixes", "tracks flagged")
    print_pairs(
        "vessels",
        [
            ("data", vessels.data),
            *((name, f"{counts[name]:,}") for name in told if name in counts),
            *((f"{kind}, map", str(each["files"]["page"])) for kind, each in vessels.summaries.items()),
        ],
    )
    for what, found in (("Gaps filled", vessels.gaps), ("Forecasts", vessels.forecasts)):
        typer.echo(f"\n{what}, of vessels that the model was not trained on; more in {found.page}")
        print_rows(found.header, found.rows)
