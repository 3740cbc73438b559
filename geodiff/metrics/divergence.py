"""How far two samples of a quantity lie apart: Jensen-Shannon divergence and 1-Wasserstein distance."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import wasserstein_distance

Floats = npt.NDArray[np.float64]


def even_edges(values: npt.ArrayLike, bins: int) -> Floats:
    """Edges of bins that hold about equal shares of a sample, open at both ends.

    Args:
        values: the sample that sets the bins, any shape; what is not finite does not count.
        bins: at most so many; fewer where many values are the same.

    Returns:
        (k + 1,) rising edges, the first minus and the last plus infinity, 1 <= k <= bins.

    Raises:
        ValueError: no finite value, or no bin.
    """
    known = _known(values)
    if bins < 1:
        raise ValueError(f"{bins} bins: one at least is needed")
    inner = np.unique(np.quantile(known, np.arange(1, bins) / bins))
    return np.concatenate([[-np.inf], inner, [np.inf]])


def jensen_shannon(first: npt.ArrayLike, second: npt.ArrayLike, edges: npt.ArrayLike) -> float:
    """Jensen-Shannon divergence of two samples in bins, in bits.

    With equal weights (Lin 1991, "Divergence measures based on the Shannon entropy"). The plug-in estimate: two finite
    samples of one distribution do not give zero but about (k - 1) (1/n + 1/m) / (8 ln 2) bits with k bins, so it is to
    be read beside the figure of two samples that are known to be alike.

    Args:
        first, second: samples, any shape; what is not finite does not count.
        edges: (k + 1,) rising; every value must lie between the ends.

    Returns:
        0 for equal shares of all bins, 1 where no bin holds values of both.

    Raises:
        ValueError: a sample without a finite value, or a value outside the bins.
    """
    shares = [_shares(_known(sample), np.asarray(edges, np.float64)) for sample in (first, second)]
    middle = (shares[0] + shares[1]) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        each = [np.where(share > 0, share * np.log2(share / middle), 0.0).sum() for share in shares]
    return float(np.clip((each[0] + each[1]) / 2, 0.0, 1.0))


def wasserstein(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """1-Wasserstein distance of two samples, in the unit of the values: how far they must be moved on the mean.

    Args:
        first, second: samples, any shape; what is not finite does not count.

    Raises:
        ValueError: a sample without a finite value.
    """
    return float(wasserstein_distance(_known(first), _known(second)))


def _known(values: npt.ArrayLike) -> Floats:
    flat = np.asarray(values, np.float64).ravel()
    known: Floats = flat[np.isfinite(flat)]
    if not known.size:
        raise ValueError("a sample without a finite value has no distribution")
    return known


def _shares(values: Floats, edges: Floats) -> Floats:
    place = np.searchsorted(edges, values, side="right") - 1
    if (place < 0).any() or (place >= len(edges) - 1).any():
        raise ValueError(f"a value lies outside the bins from {edges[0]:g} to {edges[-1]:g}")
    counts = np.bincount(place, minlength=len(edges) - 1)
    return np.asarray(counts / len(values), np.float64)
