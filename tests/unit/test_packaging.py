"""What is declared, what is pinned and what is carried must be the same things."""

from __future__ import annotations

import ast
import importlib
import os
import pkgutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import geodiff


@pytest.fixture
def project(repository: Path) -> dict[str, Any]:
    return tomllib.loads((repository / "pyproject.toml").read_text())["project"]


@pytest.fixture
def declared(project: dict[str, Any]) -> list[Requirement]:
    texts = [*project["dependencies"], *(text for group in project["optional-dependencies"].values() for text in group)]
    return [requirement for requirement in map(Requirement, texts) if requirement.name != project["name"]]


def pins_of(lines: list[str]) -> dict[str, Requirement]:
    """Pins by name; fails on anything that is not one exact public version."""
    pins = {}
    for line in lines:
        pin = Requirement(line)
        (only,) = pin.specifier
        assert only.operator == "==", line
        assert not pin.url, line
        assert "+" not in only.version, f"{line}: a local build does not exist on other machines"
        assert pin.name not in pins, f"{line}: pinned twice"
        pins[canonicalize_name(pin.name)] = pin
    return pins


@pytest.fixture
def lock(repository: Path) -> dict[str, Requirement]:
    lines = (repository / "requirements.lock").read_text().splitlines()
    return pins_of([line for line in lines if line and not line.startswith("#")])


def test_the_lock_pins_what_is_declared_within_its_bounds(
    lock: dict[str, Requirement], declared: list[Requirement]
) -> None:
    for requirement in declared:
        pin = lock.get(canonicalize_name(requirement.name))
        assert pin is not None, f"{requirement.name} is declared but not in requirements.lock: run `make lock`"
        (only,) = pin.specifier
        assert requirement.specifier.contains(only.version), f"{pin} is outside {requirement}"


def test_the_lock_does_not_pin_the_package_itself(lock: dict[str, Requirement]) -> None:
    assert "geodiff" not in lock


def test_the_conda_environment_holds_the_same_pins(
    repository: Path, lock: dict[str, Requirement], project: dict[str, Any]
) -> None:
    environment = yaml.safe_load((repository / "environment.yml").read_text())
    (pip,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    conda = dict(entry.partition("=")[::2] for entry in environment["dependencies"] if isinstance(entry, str))
    assert pins_of(pip) == lock
    assert "pip" in conda
    assert Requirement(f"python{project['requires-python']}").specifier.contains(conda["python"])


def imports_of(file: Path) -> set[str]:
    tree = ast.parse(file.read_text())
    named = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    named += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level]
    return {name.partition(".")[0] for name in named}


def test_every_import_of_the_package_is_declared(repository: Path, declared: list[Requirement]) -> None:
    names = {canonicalize_name(requirement.name) for requirement in declared}
    homes = packages_distributions()
    files = [*(repository / "geodiff").rglob("*.py"), *(repository / "notebooks").glob("*.py")]
    strangers = {
        f"{file.relative_to(repository)} imports {top}"
        for file in files
        for top in imports_of(file) - set(sys.stdlib_module_names) - {"geodiff"}
        if not {canonicalize_name(owner) for owner in homes.get(top, [top])} & names
    }
    assert not strangers, "pyproject.toml does not declare what these import"


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, geodiff; print(*sorted({'torch', 'xarray', 'numpy', 'rasterio'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    assert "superres" in dir(geodiff)
    with pytest.raises(AttributeError, match="no attribute 'superress'"):
        _ = geodiff.superress


def data_files(repository: Path) -> set[str]:
    folder = repository / "catalogs"
    tracked = subprocess.run(
        ["git", "ls-files", "catalogs"], cwd=repository, capture_output=True, text=True, check=False
    )
    files = [repository / name for name in tracked.stdout.split()] or [f for f in folder.rglob("*") if f.is_file()]
    return {f"geodiff/{file.relative_to(repository).as_posix()}" for file in files if file.exists()}


def test_the_wheel_is_told_to_carry_catalogs_weights_and_types(repository: Path) -> None:
    carried = {file.distribution_path for file in WheelBuilder(str(repository)).recurse_included_files()}
    assert data_files(repository) <= carried
    assert {"geodiff/catalogs/sources.yaml", "geodiff/py.typed", "geodiff/config.py"} <= carried
    assert all(name.startswith("geodiff/") for name in carried)


@pytest.mark.slow
def test_a_wheel_installed_in_a_clean_environment_sees_its_data(repository: Path, tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(repository)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("geodiff-*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "env")], check=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    # The dependencies of this environment serve the clean one; its editable geodiff does not, for the .pth file that
    # leads to the checkout works in a site folder only, not on PYTHONPATH.
    site = Path(yaml.__file__).parents[1]
    code = (
        "from geodiff.config import catalogs_dir; root = catalogs_dir(); print(root)\n"
        "print(*(p.relative_to(root.parent.parent) for p in root.rglob('*') if p.is_file()), sep='\\n')"
    )
    env = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run([python, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    root, *files = done.stdout.split()
    assert Path(root).is_relative_to(tmp_path / "env")
    assert set(files) == data_files(repository)


def _scripts(repository: Path) -> list[Path]:
    folders = ("docs", "notebooks", "pipelines", "tests/benchmarks")
    return [path for folder in folders for path in sorted((repository / folder).glob("*.py"))]


def test_scripts_beside_the_package_import_what_there_is(repository: Path) -> None:
    """No checker of types reads them, and not all are run by tests."""
    absent = []
    for path in _scripts(repository):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("geodiff"):
                module = importlib.import_module(str(node.module))
                lost = [each.name for each in node.names if not hasattr(module, each.name)]
                inside = {each.name for each in pkgutil.iter_modules(getattr(module, "__path__", []))}
                absent += [f"{path.name}: {node.module}.{name}" for name in lost if name not in inside]
    assert absent == []
