"""What a divergence must be whatever the samples: bounded, symmetric, zero for the same, in the unit of the values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance

from geodiff.metrics.divergence import even_edges, jensen_shannon, wasserstein

SAMPLES = arrays(np.float64, st.integers(1, 60), elements=st.floats(-1e3, 1e3, allow_subnormal=False))


@given(SAMPLES, SAMPLES, st.integers(1, 12))
def test_jensen_shannon_is_bounded_symmetric_and_as_scipys(first, second, bins):
    edges = even_edges(first, bins)
    found = jensen_shannon(first, second, edges)
    assert 0 <= found <= 1
    assert found == pytest.approx(jensen_shannon(second, first, edges), abs=1e-12)
    assert jensen_shannon(first, first, edges) == pytest.approx(0, abs=1e-12)
    shares = [np.histogram(np.clip(each, -2e3, 2e3), np.clip(edges, -3e3, 3e3))[0] for each in (first, second)]
    # The last bin of numpy's histogram is closed, ours open: no value lies on it.
    assert found == pytest.approx(jensenshannon(*shares, base=2) ** 2, abs=1e-9)


@given(SAMPLES)
def test_samples_that_share_no_bin_are_one_bit_apart(sample):
    edges = np.array([-np.inf, 2e3, np.inf])
    assert jensen_shannon(sample, sample + 4e3, edges) == 1


@given(SAMPLES, st.integers(1, 40))
def test_bins_are_open_rise_and_hold_about_equal_shares(sample, bins):
    edges = even_edges(sample, bins)
    assert edges[0] == -np.inf
    assert edges[-1] == np.inf
    assert (np.diff(edges) > 0).all()
    assert len(edges) <= bins + 1
    distinct = np.arange(1200.0)
    counts = np.histogram(distinct, np.clip(even_edges(distinct, bins), -1, 1e4))[0]
    assert np.ptp(counts) <= 2


@given(SAMPLES, SAMPLES, st.floats(-100, 100), st.floats(0.01, 100))
def test_wasserstein_is_scipys_and_scales_and_shifts_with_the_unit(first, second, shift, factor):
    found = wasserstein(first, second)
    assert found == pytest.approx(wasserstein_distance(first, second), rel=1e-9, abs=1e-9)
    assert wasserstein(first, first + shift) == pytest.approx(abs(shift), rel=1e-6, abs=1e-6)
    assert wasserstein(factor * first, factor * second) == pytest.approx(factor * found, rel=1e-6, abs=1e-6)


def test_what_is_not_finite_does_not_count_and_nothing_has_no_distribution():
    known = np.array([1.0, 2.0, 3.0])
    holed = np.array([[1.0, np.nan], [2.0, 3.0]])
    assert wasserstein(known, holed) == 0
    assert jensen_shannon(known, holed, even_edges(holed, 3)) == 0
    for wrong in ([np.nan], []):
        with pytest.raises(ValueError, match="finite"):
            wasserstein(wrong, known)
    with pytest.raises(ValueError, match="outside the bins"):
        jensen_shannon(known, known, [1.5, 5.0])
    with pytest.raises(ValueError, match="bins"):
        even_edges(known, 0)
