"""Noise is a function of seed, purpose and place: windows agree, streams do not touch, the numbers are normal."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from geodiff.rng import BLOCK, _block, generator, noise_window
from geodiff.testing.strategies import windows

seeds = st.integers(-(2**70), 2**70)
PINNED = [[[0.6765804, -0.2582547], [0.5633692, 0.5724967]], [[-0.9662331, -0.8211005], [0.0530515, 0.0458393]]]


@given(windows(reach=150), windows(reach=150), seeds, st.integers(1, 3))
def test_windows_agree_where_they_overlap(a, b, seed, channels):
    one, two = (
        noise_window(seed, "x", channels=channels, origin=(w.top, w.left), shape=(w.rows, w.cols)) for w in (a, b)
    )
    shared = a.intersect(b)
    if shared is not None:
        np.testing.assert_array_equal(one[:, *shared.slices_in(a)], two[:, *shared.slices_in(b)])


@given(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9), st.integers(1, BLOCK), st.integers(1, BLOCK))
def test_far_places_split_anywhere_give_the_whole(row, col, rows, cols):
    whole = noise_window(5, channels=2, origin=(row, col), shape=(2 * rows, 2 * cols))
    quarters = [
        [noise_window(5, channels=2, origin=(row + i * rows, col + j * cols), shape=(rows, cols)) for j in (0, 1)]
        for i in (0, 1)
    ]
    np.testing.assert_array_equal(whole, np.block(quarters))


def test_every_part_of_the_key_changes_the_noise():
    def read(seed, *what, channels=1, origin=(0, 0)):
        return noise_window(seed, *what, channels=channels, origin=origin, shape=(BLOCK, BLOCK))[0]

    fields = [
        read(0, "a"),
        read(1, "a"),
        read(-1, "a"),
        read(0, "b"),
        read(0, "a", 1),
        read(0, "a", "1"),
        read(0, 1, "a"),
        read(0, "a1"),
        read(0, "a", channels=2),
        read(0, "a", origin=(BLOCK, 0)),
        read(0, "a", origin=(0, BLOCK)),
        read(0, "a", origin=(-BLOCK, 0)),
    ]
    for one, two in itertools.combinations(fields, 2):
        # 4096 independent pairs: six standard deviations of the correlation are 0.094.
        assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.094


@pytest.mark.parametrize("first", ["numpy", "python"])
def test_numpy_integers_name_the_same_noise_whoever_comes_first(first):
    """They are equal as keys of a cache: were their streams different, the noise would depend on the order of calls."""
    seed = {"numpy": 101, "python": 102}[first]
    keys = [np.int64(7), 7] if first == "numpy" else [7, np.int64(7)]
    fields = [noise_window(seed, "member", k, channels=1, origin=(0, 0), shape=(4, 4)) for k in keys]
    np.testing.assert_array_equal(*fields)
    place = (np.int64(-3), np.int32(90))
    np.testing.assert_array_equal(
        noise_window(np.int64(seed), channels=1, origin=place, shape=(9, 9)),
        noise_window(seed, channels=1, origin=(-3, 90), shape=(9, 9)),
    )


@pytest.mark.parametrize("word", [1.0, None, (1, 2)])
def test_a_word_that_is_no_name_is_refused(word):
    with pytest.raises(TypeError):
        generator(0, word)


def test_the_numbers_are_standard_normal_and_independent():
    field = noise_window(7, "moments", channels=3, origin=(-300, -300), shape=(600, 600))
    assert field.dtype == np.float32
    count = field[0].size
    for channel in field:
        assert abs(channel.mean()) < 5 / np.sqrt(count)
        assert abs(channel.std() - 1) < 5 / np.sqrt(2 * count)
        # Every pixel of a stride of 7: few enough for the test to have a chance, at a level that fails once in 10^4.
        assert stats.kstest(channel[::7, ::7].ravel(), "norm").pvalue > 1e-4
    for one, two in itertools.combinations(field, 2):
        assert abs((one * two).mean()) < 5 / np.sqrt(count)
    # Neighbours, also across the borders of the blocks.
    for lag in (1, 2, BLOCK - 1, BLOCK, BLOCK + 1):
        for axis in (0, 1):
            near, far = (np.take(field[0], np.arange(s, 600 - lag + s), axis) for s in (0, lag))
            assert abs((near * far).mean()) < 5 / np.sqrt(near.size)


def test_the_cache_is_neither_written_nor_needed():
    place = {"channels": 2, "origin": (10, -70), "shape": (100, 100)}
    field = noise_window(9, "cache", **place)
    field[:] = 0
    again = noise_window(9, "cache", **place)
    assert again.std() > 0.9
    _block.cache_clear()
    np.testing.assert_array_equal(noise_window(9, "cache", **place), again)


def test_threads_read_the_same_numbers():
    _block.cache_clear()

    def read(index: int) -> np.ndarray:
        return noise_window(3, "threads", channels=1, origin=(-index % 5, 0), shape=(300, 300))

    with ThreadPoolExecutor(8) as pool:
        fields = list(pool.map(read, range(20)))
    for index, field in enumerate(fields):
        np.testing.assert_array_equal(field, read(index))


def test_the_stream_is_pinned():
    """Stored cubes must be reproducible by later versions: a change here is a change of every output."""
    found = noise_window(42, "member", 3, channels=2, origin=(-1, 63), shape=(2, 2))
    np.testing.assert_allclose(found, PINNED, atol=1e-6)
