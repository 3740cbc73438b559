"""The notebooks that ship: executed, without errors, without traces of the machine, and in step with their sources."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "notebooks").glob("*.py"))
MAX_BYTES = 3_000_000
MACHINE = re.compile(r"(/home/|/root/|/tmp/|/work/|/Users/|site-packages)")


def cells(source: Path) -> list[dict[str, Any]]:
    notebook: dict[str, Any] = json.loads(source.with_suffix(".ipynb").read_text(encoding="utf-8"))
    return list(notebook["cells"])


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_executed_notebook_is_that_of_the_source(source: Path) -> None:
    written = source.read_text(encoding="utf-8")
    for cell in cells(source):
        if cell["cell_type"] == "code":
            # jupytext comments out magics
            lines = [f"# {line}" if line.startswith("%") else line for line in "".join(cell["source"]).splitlines()]
        else:
            lines = [f"# {line}".rstrip() for line in "".join(cell["source"]).splitlines()]
        assert "\n".join(lines).strip() in written, "run: make notebooks"


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_every_cell_ran_and_shows_nothing_of_the_machine(source: Path) -> None:
    assert source.with_suffix(".ipynb").stat().st_size < MAX_BYTES
    counts = [cell["execution_count"] for cell in cells(source) if cell["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))
    for cell in cells(source):
        for output in cell.get("outputs", ()):
            assert output["output_type"] != "error"
            assert output.get("name") != "stderr"
            text = json.dumps({k: v for k, v in output.get("data", {}).items() if not k.startswith("image/")})
            assert not MACHINE.search(text + "".join(output.get("text", ())))
