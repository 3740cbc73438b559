"""Write requirements.lock and environment.yml from the environment that runs this: `make lock`.

The set is what pyproject.toml declares, extras included, and all that it draws in; versions are those installed. No
hashes and no local builds (`+cpu`), so that the lock installs from any index that has these versions.
"""

from __future__ import annotations

import tomllib
from collections import deque
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
NOTE = "# Written by `make lock`; edit pyproject.toml instead."


def declared(project: dict[str, object]) -> list[Requirement]:
    extras = project["optional-dependencies"]
    texts = [*project["dependencies"], *(text for group in extras.values() for text in group)]
    return [requirement for requirement in map(Requirement, texts) if requirement.name != project["name"]]


def closure(roots: list[Requirement]) -> dict[str, str]:
    """Name and version of every distribution that the roots need here."""
    pins: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    queue = deque((root, extra) for root in roots for extra in ("", *root.extras))
    while queue:
        requirement, extra = queue.popleft()
        name = canonicalize_name(requirement.name)
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        found = distribution(requirement.name)
        pins[name] = found.version.split("+")[0]
        for needed in map(Requirement, found.requires or []):
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                queue.extend((needed, inner) for inner in ("", *needed.extras))
    return dict(sorted(pins.items()))


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = [f"{name}=={version}" for name, version in closure(declared(project)).items()]
    (ROOT / "requirements.lock").write_text("\n".join([NOTE, *pins]) + "\n")
    head = [NOTE, "name: geodiff", "channels:", "  - conda-forge", "dependencies:", "  - python=3.11", "  - pip"]
    body = ["  - pip:", *(f"      - {pin}" for pin in pins)]
    (ROOT / "environment.yml").write_text("\n".join([*head, *body]) + "\n")
    print(f"{len(pins)} pins")


if __name__ == "__main__":
    main()
