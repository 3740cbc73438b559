"""What must hold for any values and any interruption."""

import hashlib
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from geodiff.grid import Grid
from geodiff.outputs.overviews import halve
from geodiff.outputs.packing import REFLECTANCE, UNCERTAINTY, Packing
from geodiff.outputs.zarr_store import StoreSpec, create_store, done_regions, finalize, regions, write_region


@given(
    st.sampled_from([REFLECTANCE, UNCERTAINTY]),
    hnp.arrays(np.float32, (2, 3, 4), elements=st.floats(-0.0625, 0.625, width=32)),
    hnp.arrays(np.bool_, (3, 4)),
)
def test_packing_is_exact_to_half_a_quantum(packing: Packing, values: np.ndarray, keep: np.ndarray) -> None:
    values = values if packing is REFLECTANCE else abs(values)
    codes = packing.pack(values, keep)
    got = packing.unpack(codes)
    assert np.isnan(got[:, ~keep]).all()
    np.testing.assert_allclose(got[:, keep], values[:, keep], rtol=0, atol=packing.scale * 0.5 + 1e-7)
    np.testing.assert_array_equal(packing.pack(got, keep), codes)


@given(hnp.arrays(np.uint16, st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.integers(0, 5)))
def test_halving_is_the_mean_of_what_is_there(codes: np.ndarray) -> None:
    half = halve(codes, fill=0)
    assert half.shape == (-(-codes.shape[0] // 2), -(-codes.shape[1] // 2))
    for (row, col), got in np.ndenumerate(half):
        block = codes[2 * row : 2 * row + 2, 2 * col : 2 * col + 2]
        there = block[block != 0]
        assert got == (np.rint(there.mean()) if there.size else 0)


SPEC = StoreSpec(
    Grid("EPSG:32631", (2.5, 2.5), (0.0, 0.0), (40, 50)),
    ("B02", "B08"),
    tuple(np.array(["2020-01-01"], dtype="datetime64[s]")),
    shard=32,
    chunk=16,
)
NAMES = [region.id for region in regions(SPEC)]


def run(path: Path, asked: set[str], *, torn: str | None = None) -> None:
    """Write some regions; ``torn`` is one that was written, with other values, by a run that died before its marker."""
    create_store(path, SPEC)
    done = {region.id for region in done_regions(path, SPEC)}
    for index, region in enumerate(regions(SPEC)):
        if region.id in done or region.id not in asked:
            continue
        values = np.random.default_rng(index).uniform(0, 0.5, (2, region.window.rows, region.window.cols))
        valid = values[0] < 0.4
        if region.id == torn:
            write_region(path, SPEC, region, np.full_like(values, 0.3), values, np.ones_like(valid))
            (path.with_name(path.name + ".work") / "ledger" / f"{torn}.json").unlink()
        else:
            write_region(path, SPEC, region, values, values * 0.1, valid)


def content(path: Path) -> dict[str, str]:
    return {
        str(p.relative_to(path)): hashlib.sha256(p.read_bytes()).hexdigest() for p in path.rglob("*") if p.is_file()
    }


@settings(deadline=None, max_examples=8)
@given(st.lists(st.sets(st.sampled_from(NAMES)), max_size=3), st.sampled_from(NAMES))
def test_any_interruptions_end_in_the_same_bytes(sessions: list[set[str]], torn: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        once, many = Path(folder) / "once.zarr", Path(folder) / "many.zarr"
        run(once, set(NAMES))
        for asked in sessions:
            run(many, asked, torn=torn)
        run(many, set(NAMES))
        finalize(once, SPEC)
        finalize(many, SPEC)
        assert content(once) == content(many)
