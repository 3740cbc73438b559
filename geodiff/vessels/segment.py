"""Tracks: the fixes of one vessel between silences, and their names."""

from __future__ import annotations

import numpy as np
import polars as pl

from geodiff.tracks import TRACK_ID
from geodiff.vessels.clean_arrays import Bools, Fixes, Floats, Index, Ints
from geodiff.vessels.clean_rules import LONGEST_GAP_S, CleanRules

FEWEST_STEPS = 10
"""Steps from which on a vessel's own say how often it reports."""


def cut_tracks(fixes: Fixes, vessel_number: Index, rules: CleanRules) -> tuple[pl.Series, Index]:
    """Cut fixes into tracks, named ``<vessel_id>/<UTC of the first fix, yyyymmddThhmmss>`` and a letter.

    Args:
        fixes: sorted by vessel and time.
        vessel_number: (n,) which of the vessels that share the identity sent it, from 0; they become the letters a,
        b, …
        rules: how long a silence begins a new track.

    Returns:
        The names of the tracks, and (n,) which of them each fix is of.
    """
    if not len(fixes):
        return pl.Series(TRACK_ID, [], pl.String), np.zeros(0, np.intp)
    shared = bool(vessel_number.any())
    order = np.lexsort((vessel_number, fixes.vessel)) if shared else np.arange(len(fixes))
    vessel, number, time_us = fixes.vessel, vessel_number, fixes.time_us
    if shared:
        vessel, number, time_us = vessel[order], number[order], time_us[order]
    new = np.ones(len(order), np.bool_)
    new[1:] = (vessel[1:] != vessel[:-1]) | (number[1:] != number[:-1])
    step = np.diff(time_us, prepend=0)
    silent = ~new & (step > rules.gap_s * 1e6)
    if rules.silent_steps and silent.any():
        silent &= step > np.minimum(rules.silent_steps * _usual_steps(new, step, silent), LONGEST_GAP_S * 1e6)
    new |= silent
    first = np.flatnonzero(new)
    names = _names(vessel[first], time_us[first], number[first])
    segment = np.empty(len(order), np.intp)
    segment[order] = np.cumsum(new) - 1
    return names, segment


def _usual_steps(new: Bools, step_us: Ints, silent: Bools) -> Floats:
    """(n,) median step of each vessel that is somewhere silent; 0 of the others, and where it has too few to tell."""
    first = np.flatnonzero(new)
    vessel = np.cumsum(new) - 1
    asked = np.zeros(len(first), np.bool_)
    asked[vessel[silent]] = True
    rows = np.flatnonzero(asked[vessel] & ~new)
    order = np.lexsort((step_us[rows], vessel[rows]))
    count = np.bincount(vessel[rows], minlength=len(first))
    last = np.cumsum(count)
    usual = np.zeros(len(first))
    known = count >= FEWEST_STEPS
    usual[known] = step_us[rows][order][(last - count + count // 2)[known]]
    of_fix: Floats = usual[vessel]
    return of_fix


def track_numbers(names: pl.Series) -> tuple[Index, Index | None]:
    """Number the tracks of a cleaned table.

    Args:
        names: (n,) ``track_id`` of fixes sorted by vessel and time, none null.

    Returns:
        (n,) number of the track of each fix, tracks standing together; and the order of the fixes that this takes, None
        where they stand together as they are: vessels that share an identity interleave.
    """
    begins = names.ne_missing(names.shift())
    track = np.cumsum(begins.to_numpy())
    first = names.filter(begins)
    if first.n_unique() == len(first):
        return track, None
    numbers = first.rank("dense").to_numpy().astype(np.intp)[track - 1]
    order = np.argsort(numbers, kind="stable")
    return numbers[order], order


def _names(vessel: Index, time_us: Index, number: Index) -> pl.Series:
    table = pl.DataFrame({"vessel": vessel, "time": time_us, "number": number}).with_columns(
        pl.col("time").cast(pl.Datetime("us", "UTC")).dt.strftime("%Y%m%dT%H%M%S"),
        (pl.col("number").max().over("vessel") > 0).alias("shared"),
    )
    letters = pl.Series([_letters(n) for n in range(int(number.max()) + 1)])
    letter = pl.when("shared").then(pl.lit(letters.gather(number))).otherwise(pl.lit(""))
    return table.select(pl.format("{}/{}{}", "vessel", "time", letter).alias(TRACK_ID)).to_series()


def _letters(number: int) -> str:
    """0 -> a, 25 -> z, 26 -> aa."""
    text = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        text = chr(ord("a") + rest) + text
    return text
