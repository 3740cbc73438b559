"""Which vessels and which times are for testing: one rule for training and evaluation, and how a card tells it.

A vessel is held out when the hash of its identity falls into a tenth: by name alone, so that it is held out of every
file, whatever else the file holds. There are ten such tenths, the folds: what ships holds out the first, and a training
that holds out another one tests the same recipe on other vessels. Of a long period the last tenth is held out too: a
model trains on vessels that are not held out, before the cut; what is tested shares no vessel with that, and is told
apart by whether it shares the period.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

from geodiff.schema import BoolArray, GeodiffError

HELD_OUT_SHARE: Final = 0.1
"""Share of the vessels, and of a long period, that a training does not see."""

FOLDS: Final = 10
"""Tenths of the vessels, by the hash; each vessel is of one."""

SHORTEST_PERIOD_S: Final = 30 * 86_400.0
"""A shorter period is not cut: the last hours of a day hold no test of a twelve-hour forecast."""

TRAIN, VESSEL, LATER, BOTH = SPLITS = ("train", "vessel", "later", "both")
"""Seen by training; a new vessel in the period of training; a known vessel later; a new vessel later."""

Times = npt.NDArray[np.float64]
Ids = npt.ArrayLike


def is_held_out(vessel_id: Ids, fold: int = 0) -> BoolArray:
    """Whether vessels are held out of training.

    Args:
        vessel_id: (n,) integers: MMSI or the source's own number.
        fold: which tenth is held out, 0 to 9.

    Returns:
        (n,) bool.

    Raises:
        GeodiffError: there is no such fold.
    """
    if fold not in range(FOLDS):
        raise GeodiffError(f"fold {fold!r}: vessels are in folds 0 to {FOLDS - 1}")
    held: BoolArray = _each(vessel_id, b"geodiff split") // np.uint64(HELD_OUT_SHARE * 2**64) == np.uint64(fold)
    return held


CALIBRATION_SHARE: Final = 0.06
"""Share of the other vessels on which a training is watched and calibrated, and of which it learns nothing."""


def is_for_calibration(vessel_id: Ids, fold: int = 0) -> BoolArray:
    """Whether vessels that are not held out are set aside to watch and calibrate a training.

    Args:
        vessel_id: (n,) integers.
        fold: which tenth is held out.

    Returns:
        (n,) bool.
    """
    chosen = _each(vessel_id, b"geodiff calib") < np.uint64(CALIBRATION_SHARE * 2**64)
    return chosen & ~is_held_out(vessel_id, fold)


def period_cut(time_s: Times) -> float:
    """The time from which a period is held out of training.

    Args:
        time_s: (n,) seconds of all fixes, in any order. The first and the last thousandth do not count: one clock that
            is wrong by a year would move the cut by months.

    Returns:
        Nine tenths into the period; infinity where it is shorter than ``SHORTEST_PERIOD_S`` and is split by vessel
        alone.
    """
    first, last = np.quantile(time_s, (0.001, 0.999)).tolist()
    return first + (1 - HELD_OUT_SHARE) * (last - first) if last - first >= SHORTEST_PERIOD_S else float("inf")


def split_of(vessel_id: Ids, time_s: Times, cut_s: float, fold: int = 0) -> npt.NDArray[np.str_]:
    """Where fixes or cases belong.

    Args:
        vessel_id: (n,) integers.
        time_s: (n,) seconds since 1970; of a case its last time.
        cut_s: from ``period_cut``.
        fold: which tenth is held out.

    Returns:
        (n,) text, one of ``SPLITS``.
    """
    index = is_held_out(vessel_id, fold).astype(np.int64) + 2 * (np.asarray(time_s, np.float64) >= cut_s)
    return np.array(SPLITS)[index]


def vessel_digest(vessel_id: Ids) -> str:
    """What a card tells of the vessels of a training: who they were can be asked of it, but not read off it.

    Args:
        vessel_id: (n,) integers, in any order, repeated or not.

    Returns:
        The sorted distinct 32-bit hashes (little-endian) in base 64: 5.3 letters a vessel.
    """
    return _encoded(_short(vessel_id))


def join_digests(digests: Iterable[str]) -> str:
    """One digest of the vessels of several.

    Raises:
        GeodiffError: a text is no digest.
    """
    return _encoded(np.concatenate([_listed(each) for each in digests]))


def in_digest(vessel_id: Ids, digest: str) -> BoolArray:
    """Which vessels a digest names; one in 400,000 strangers is taken for one of ten thousand vessels.

    Args:
        vessel_id: (n,) integers.
        digest: from ``vessel_digest``.

    Returns:
        (n,) bool.

    Raises:
        GeodiffError: the text is no digest.
    """
    return np.isin(_short(vessel_id), _listed(digest))


def _encoded(hashes: npt.NDArray[np.uint32]) -> str:
    return base64.b64encode(np.unique(hashes).astype("<u4").tobytes()).decode("ascii")


def _listed(digest: str) -> npt.NDArray[np.uint32]:
    try:
        return np.frombuffer(base64.b64decode(digest, validate=True), "<u4")
    except (ValueError, binascii.Error):
        raise GeodiffError("the card's list of trained vessels is no base 64 of 32-bit hashes: train again") from None


def _short(vessel_id: Ids) -> npt.NDArray[np.uint32]:
    return (_each(vessel_id, b"geodiff trained") & np.uint64(0xFFFF_FFFF)).astype(np.uint32)


def _each(vessel_id: Ids, purpose: bytes) -> npt.NDArray[np.uint64]:
    """(n,) 64-bit BLAKE2b hashes of the decimal identity; each distinct one is hashed once."""
    ids, where = np.unique(np.asarray(vessel_id, np.int64), return_inverse=True)
    hashes = [hashlib.blake2b(str(each).encode(), digest_size=8, person=purpose).digest() for each in ids.tolist()]
    return np.frombuffer(b"".join(hashes), "<u8")[where].astype(np.uint64)
