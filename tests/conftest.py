"""What every test may rely on: quiet threads, no display, the real data where they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before numpy, torch and matplotlib load: the suite shares few cores and has no screen.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")


@pytest.fixture(scope="session")
def geodiff_data() -> Path:
    """The folder of real data; skips the test where there is none."""
    from geodiff.config import data_dir

    found = data_dir()
    if found is None:
        pytest.skip("no real data: set GEODIFF_DATA to the folder that holds sentinel2/ and stac/")
    return found


@pytest.fixture
def repository() -> Path:
    """The root of the checkout that holds these tests."""
    return Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark whatever asks for the real data, and skip what needs a GPU on a machine without one."""
    needs_gpu = [item for item in items if item.get_closest_marker("gpu")]
    for item in items:
        if "geodiff_data" in getattr(item, "fixturenames", ()):
            item.add_marker("data")
    if needs_gpu:
        import torch

        if not torch.cuda.is_available():
            for item in needs_gpu:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
