"""``geodiff evaluate vessels --task …``: one command, whose task decides the other options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final

import typer
from typer.main import get_command

from geodiff.cli.evaluate_anomaly import evaluate_scoring
from geodiff.cli.evaluate_association import associate_report
from geodiff.cli.evaluate_generate import evaluate_generated
from geodiff.cli.evaluate_vessels import evaluate_vessels
from geodiff.schema import UsageError

MOTION: Final = ("impute", "forecast")
TASKS: Final[dict[str, Callable[..., None]]] = {
    "impute": evaluate_vessels,
    "forecast": evaluate_vessels,
    "score": evaluate_scoring,
    "associate": associate_report,
    "generate": evaluate_generated,
}
FREE: Final = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
"""All but the task is left to the command of the task, ``--help`` too."""


def evaluate_by_task(
    context: typer.Context,
    task: Annotated[str | None, typer.Option(help=f"One of {', '.join(TASKS)}.")] = None,
) -> None:
    """Score models of vessels' motion: --task impute, forecast, score, associate or generate; each has its --help."""
    rest = list(context.args)
    if task is None and "--help" in rest:
        typer.echo(f"geodiff evaluate vessels --task {'|'.join(TASKS)} --data FILE --out FOLDER …\n")
        for name in TASKS:
            typer.echo(f"  --task {name} --help")
        return
    if task not in TASKS:
        raise UsageError(f"--task {task or 'is missing'}: choose among {', '.join(TASKS)}")
    one = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    one.command(name=task)(TASKS[task])
    command: Any = get_command(one)
    told = ["--task", task] if task in MOTION else []
    command.main(told + rest, prog_name=f"geodiff evaluate vessels --task {task}", standalone_mode=False)
