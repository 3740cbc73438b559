"""Noise keyed by (seed, what, where): never by chunk, worker or order.

White noise lives on the absolute lattice of the CRS in blocks of 64 x 64 pixels. Each block is drawn from a
counter-based Philox generator (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") whose key is a hash
of the seed, a purpose and the block's place, so that any window reads the same numbers at the same pixels.
"""

from __future__ import annotations

import hashlib
import operator
from functools import lru_cache

import numpy as np

from geodiff.schema import FloatArray

BLOCK = 64


def _plain(part: str | int) -> str | int:
    """Make numpy's integers plain: they equal Python's, as keys of the cache too, so they must name the same stream."""
    return part if isinstance(part, str) else operator.index(part)


def generator(seed: int, *what: str | int) -> np.random.Generator:
    """Return a generator whose stream depends on ``seed`` and the words of ``what`` alone.

    Raises:
        TypeError: a word that is neither text nor a whole number.
    """
    words = [_plain(part) for part in what]
    text = "\x1f".join([str(operator.index(seed)), *(f"{type(word).__name__}:{word}" for word in words)])
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


@lru_cache(maxsize=512)
def _block(seed: int, what: tuple[str | int, ...], channels: int, row: int, col: int) -> FloatArray:
    values = generator(seed, *what, channels, row, col).standard_normal((channels, BLOCK, BLOCK), dtype=np.float32)
    values.flags.writeable = False
    return values


def noise_window(
    seed: int, *what: str | int, channels: int, origin: tuple[int, int], shape: tuple[int, int]
) -> FloatArray:
    """Read standard normal noise for a window of the absolute lattice.

    Args:
        seed: of the run.
        what: purpose of the noise, for instance ("member", 3, "day", 18_000).
        channels: number of channels (part of the key: another number of channels is another field).
        origin: (row, column) of the window's first pixel, may be negative.
        shape: (rows, columns).

    Returns:
        (channels, rows, columns) float32.
    """
    (rows, cols), purpose = shape, tuple(_plain(part) for part in what)
    out = np.empty((channels, rows, cols), np.float32)
    for block_row in range(origin[0] // BLOCK, (origin[0] + rows - 1) // BLOCK + 1):
        for block_col in range(origin[1] // BLOCK, (origin[1] + cols - 1) // BLOCK + 1):
            top, left = block_row * BLOCK - origin[0], block_col * BLOCK - origin[1]
            r0, r1 = max(top, 0), min(top + BLOCK, rows)
            c0, c1 = max(left, 0), min(left + BLOCK, cols)
            block = _block(seed, purpose, channels, block_row, block_col)
            out[:, r0:r1, c0:c1] = block[:, r0 - top : r1 - top, c0 - left : c1 - left]
    return out
