"""Are generated tracks like real ones? A classifier of real tracks is asked about made ones, distributions compared.

Windows of vessels held out give labels and places; the model makes a track for each, at each strength of guidance. What
is made goes to a ledger in batches, so that a killed evaluation goes on where it stopped.

What the accuracy does not say: a generator that makes one typical track of each class over and over would score well,
which is why spread and distributions stand beside it; and a ratio to the accuracy on real tracks means little where
that accuracy is near chance, which is why chance is told.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geodiff.config import config_hash
from geodiff.outputs.atomic import explained
from geodiff.schema import GeodiffError, UsageError
from geodiff.tasks.evaluate_generate_rules import RULES
from geodiff.tasks.evaluate_generate_settings import GenerationSettings
from geodiff.tasks.evaluate_ledger import Ledger, Record
from geodiff.tasks.evaluate_vessels_data import Cleaned
from geodiff.tasks.motion_models import Contender, held_out_fold
from geodiff.tasks.track_denoiser import BATCH, DenoiserMotion
from geodiff.tasks.track_generate import Wanted, grow_tracks
from geodiff.tasks.track_pieces import Grid, Pieces, choose, cut_pieces, usual_grid
from geodiff.tracks import VESSEL_ID
from geodiff.version import __version__
from geodiff.vessels.history import TrackHistory
from geodiff.vessels.split import is_held_out
from geodiff.vessels.windows_draw import STILL

if TYPE_CHECKING:
    from geodiff.tasks.job import Progress


FORMAT = 5
"""Of what is kept: a change makes results of before count no more."""

DEGREES = 7
"""Decimals of kept positions: a centimetre."""


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """Real windows.

    Attributes:
        test: of vessels held out: labels and places to generate from, and what is real.
        learned: of other vessels: for the classifier and the rules.
        copies: some of ``test``, each several times, with identities of their own.
        history: tracks of vessels that are not held out; None where the model is told none.
    """

    test: Pieces
    learned: Pieces
    copies: Pieces
    history: TrackHistory | None


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """Tracks that one generator made.

    Attributes:
        name: for reports.
        guidance: strength; None for a rule.
        pieces: one for each window of ``Asked.test``, in its order.
        copies: for each of ``Asked.copies``; None for a rule.
    """

    name: str
    guidance: float | None
    pieces: Pieces
    copies: Pieces | None


def draw_windows(data: Cleaned, contender: Contender, settings: GenerationSettings) -> Asked:
    """Windows to learn from and to ask for.

    Raises:
        UsageError: the model is not one that generates.
        GeodiffError: too few windows, or the model was trained on a vessel that is held out.
    """
    if not isinstance(contender.model, DenoiserMotion):
        raise UsageError(f"--model {contender.name}: this rule makes no tracks; give the path of trained weights")
    held_out = partial(is_held_out, fold=held_out_fold([contender.model]))
    vessels = np.unique(data.table[VESSEL_ID].to_numpy())
    seen = contender.seen(vessels[held_out(vessels)])
    if seen is not None and seen.any():
        raise GeodiffError(
            f"{contender.name} was trained on {int(seen.sum())} of the {len(seen)} vessels that are held out: its "
            "tracks cannot be judged by them"
        )
    pieces = cut_pieces(data.table, _grid(data, settings))
    test = choose(pieces, settings.max_tracks, seed=settings.seed, allowed=held_out)
    learned = choose(pieces, settings.max_train, seed=settings.seed, allowed=lambda vessel_id: ~held_out(vessel_id))
    if not len(test) or not len(learned):
        raise GeodiffError(
            f"{len(test)} windows of vessels held out and {len(learned)} of others: both are needed; give more vessels"
        )
    if (test.behaviour == STILL).all():
        raise GeodiffError(
            f"all {len(test)} windows of vessels held out lie still: nothing moves that could be compared; give more "
            "vessels"
        )
    table = data.table.filter(~held_out(data.table[VESSEL_ID].to_numpy()))
    return Asked(test, learned, _copies(test, settings), TrackHistory.from_table(table) if settings.history else None)


def _grid(data: Cleaned, settings: GenerationSettings) -> Grid:
    usual = usual_grid(data.table)
    grid = Grid(settings.hours or usual.hours, settings.step_s or usual.step_s)
    if grid.positions < 7:
        raise UsageError(f"windows of {grid.hours:g} h at {grid.step_s:g} s: six steps at least are needed")
    return grid


def _copies(test: Pieces, settings: GenerationSettings) -> Pieces:
    """A few windows, spread over all, each ``copies`` times."""
    count = min(settings.copy_starts, len(test))
    rows = np.repeat(np.linspace(0, len(test) - 1, count).round().astype(np.int64), settings.copies)
    # Identities key the noise: each copy needs its own.
    return replace(test.take(rows), vessel_id=10**12 + np.arange(len(rows)))


def generate(
    contender: Contender,
    asked: Asked,
    out: Path,
    settings: GenerationSettings,
    *,
    progress: Progress | None = None,
) -> list[Made]:
    """Tracks of the model at each guidance, and of the rules.

    Args:
        contender: the model.
        asked: from ``draw_windows``.
        out: folder of the ledger.
        settings: of the evaluation.
        progress: called with the guidance, the tracks made and their number.

    Raises:
        GeodiffError: the folder cannot be written.
    """
    with explained(out):
        out.mkdir(parents=True, exist_ok=True)
    ledger, told = Ledger(out), contender.told(asked.history)
    model = told.model
    assert isinstance(model, DenoiserMotion)
    past = "" if asked.history is None else asked.history.content()
    context = [FORMAT, __version__, contender.digest, settings.seed, past]
    found = []
    for guidance in settings.guidance:
        name = f"{contender.name} {guidance:g}"
        both = [
            _grown(model, pieces, guidance, settings.seed, (ledger, name, context), _Step(progress, name, begin, total))
            for pieces, begin in ((asked.test, 0), (asked.copies, len(asked.test)))
            for total in [len(asked.test) + len(asked.copies)]
        ]
        found.append(Made(name, guidance, *both))
    rules = [Made(name, None, rule(asked.test, asked.learned, settings.seed), None) for name, rule in RULES.items()]
    return found + rules


@dataclass(frozen=True, slots=True)
class _Step:
    """Progress of one guidance."""

    progress: Progress | None
    name: str
    begin: int
    total: int

    def __call__(self, done: int) -> None:
        if self.progress is not None:
            self.progress(self.name, self.begin + done, self.total)


def _grown(
    model: DenoiserMotion,
    pieces: Pieces,
    guidance: float,
    seed: int,
    kept: tuple[Ledger, str, list[object]],
    step: _Step,
) -> Pieces:
    """Tracks for the labels and starts of windows, from the ledger where they are there."""
    ledger, name, context = kept
    grid = pieces.grid
    settings = Wanted(hours=grid.hours, step_s=grid.step_s, guidance=guidance, seed=seed)
    records: list[Record] = []
    for begin in range(0, len(pieces), BATCH):
        some = pieces.take(np.arange(begin, min(begin + BATCH, len(pieces))))
        key = f"{name} {config_hash([*context, guidance, some.content()])}"
        found = ledger.get(key)
        if found is None or len(found) != len(some):
            found = [
                {"lon": lon.round(DEGREES).tolist(), "lat": lat.round(DEGREES).tolist()}
                for _, lon, lat in grow_tracks(model, some.seeds(), some.behaviour, settings)
            ]
            ledger.put(key, found)
        records += found
        step(len(records))
    return pieces.moved(*(np.array([record[each] for record in records], np.float64) for each in ("lon", "lat")))
