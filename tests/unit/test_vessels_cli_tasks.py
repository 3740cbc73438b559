"""``geodiff evaluate vessels``: the task decides what may be asked."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from geodiff.cli import app
from geodiff.cli.evaluate_tasks import TASKS

runner = CliRunner()


@pytest.mark.parametrize("task", TASKS)
def test_each_task_has_its_own_help(task):
    found = runner.invoke(app, ["evaluate", "vessels", "--task", task, "--help"])
    assert found.exit_code == 0
    assert "--out" in found.output


def test_help_without_a_task_lists_them():
    found = runner.invoke(app, ["evaluate", "vessels", "--help"])
    assert found.exit_code == 0
    assert all(f"--task {task}" in found.output for task in TASKS)


@pytest.mark.parametrize("words", [["--task", "guess"], ["--data", "x.csv"], ["--task", "impute", "--data", "x.csv"]])
def test_what_is_missing_or_wrong_is_said(words):
    found = runner.invoke(app, ["evaluate", "vessels", *words])
    assert found.exit_code == 2
    assert "--task" in found.output + found.stderr
