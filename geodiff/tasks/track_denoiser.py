"""The denoiser as a model of motion: questions cut into windows, members drawn in few passes, regions calibrated."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from geodiff.metrics.ensemble import spatial_median
from geodiff.model.track_checkpoint import load_track_checkpoint
from geodiff.model.track_objectives import draw
from geodiff.model.tracks import Fleet, TrackDenoiser
from geodiff.rng import generator
from geodiff.schema import GeodiffError
from geodiff.tasks.track_calibration import TrackCalibration
from geodiff.tasks.track_fleets import MIRROR, fleet_of, group_scenes, mirrored, sees_windows
from geodiff.tasks.track_members import held_back
from geodiff.tasks.track_regions import from_true_north
from geodiff.tasks.track_stretches import Stretch, cut, in_batches
from geodiff.tracks import TrackAnswer, TrackQuery
from geodiff.vessels.history import TrackHistory
from geodiff.vessels.identity import fastest_kn
from geodiff.vessels.split import FOLDS, in_digest
from geodiff.vessels.window_fixes import ASKED, to_degrees
from geodiff.vessels.windows import Windows, build_windows, predict_km

Floats = npt.NDArray[np.float64]

BATCH = 128
"""Windows that are denoised together."""

MOST_DRAWN = 4096
"""Windows x members that are denoised together, about 28 kB each; a scene is never cut."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Members of some windows: departures (member, n, ASKED, 2) as the model says them, in asinh units."""

    windows: Windows
    members: Floats


@dataclass(frozen=True, eq=False)
class DenoiserMotion:
    """Answers questions about tracks with the denoiser.

    Attributes:
        net: in evaluation mode.
        card: of the checkpoint.
        calibration: of members and regions; None while there is none yet.
        history: past tracks of the region, or None.
        passes: evaluations per member.
        antithetic: members come in pairs of opposite noise, one after the other.
    """

    antithetic: ClassVar[bool] = True
    net: TrackDenoiser
    card: dict[str, Any]
    calibration: TrackCalibration | None
    name: str
    history: TrackHistory | None = None
    passes: int = 2

    @classmethod
    def load(cls, path: Path, *, name: str | None = None) -> Self:
        """Load weights with their card.

        Raises:
            GeodiffError: see ``load_track_checkpoint``; weights for windows of another version; or a calibration that
                is none.
        """
        net, card = load_track_checkpoint(path)
        if not sees_windows(net.config):
            raise GeodiffError(
                f"{path} was trained on other features of tracks than this version of geodiff makes: train it again, "
                "or use the version that it came with"
            )
        raw = card.get("track_calibration")
        calibration = TrackCalibration.from_json(raw, where=str(path.with_suffix(".json"))) if raw else None
        return cls(net, card, calibration, name or path.stem)

    @property
    def levels(self) -> tuple[float, ...]:
        """Probabilities of the ellipses."""
        return self.calibration.levels if self.calibration else ()

    @property
    def fold(self) -> int:
        """The tenth of the vessels that its training held out (``vessels.split``).

        Raises:
            GeodiffError: the card names none.
        """
        training = self.card.get("training")
        found = training.get("fold", 0) if isinstance(training, dict) else 0
        if found not in range(FOLDS):
            raise GeodiffError(f"the card of {self.name} says that fold {found!r} was held out; there are {FOLDS}")
        return int(found)

    def with_history(self, history: TrackHistory | None) -> DenoiserMotion:
        """The same model, told what other vessels did."""
        return dataclasses.replace(self, history=history)

    def with_calibration(self, calibration: TrackCalibration) -> DenoiserMotion:
        """The same model with other regions."""
        return dataclasses.replace(self, calibration=calibration)

    def trained_on(self, vessel_id: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Which vessels its training saw, or its calibration on other data, by the digest of its card."""
        return in_digest(vessel_id, str(self.card.get("vessels", "")))

    def predict(self, queries: Sequence[TrackQuery], *, members: int = 16, seed: int = 0) -> list[TrackAnswer]:
        """Answer each query; fewer than two ``members`` give the regression mean alone, without regions.

        Point and regions are found with as many members as the calibration was, even where fewer are asked for: of four
        a covariance says little, and regions calibrated with sixteen would hold a third where they promise a half.
        """
        members = members if members > 1 else 0
        answers = [_blank(query, members, len(self.levels) if members else 0) for query in queries]
        enough = max(members, self.calibration.members) if members and self.calibration else members
        size = max(1, min(BATCH, MOST_DRAWN // max(enough, 1)))
        for some in in_batches([each for row, query in enumerate(queries) for each in cut(query, row)], size):
            drawn = self.sample([stretch.query for stretch in some], members=enough, seed=seed)
            self._fill(answers, some, drawn)
        return answers

    def sample(self, stretches: Sequence[TrackQuery], *, members: int, seed: int) -> Drawn:
        """Members of windows of one stretch each, before calibration.

        Args:
            stretches: at most ``ASKED`` times each.
            members: 0 for the mean alone.
            seed: of the noise, which is keyed by vessel and time too.
        """
        windows = build_windows(stretches, self.history)
        count = max(members, 1)
        values = np.zeros((count, len(windows), ASKED, 2))
        for rows in group_scenes(np.array([query.scene for query in stretches], np.int64)):
            noise = _noise(windows, rows, members, seed) if members else None
            with torch.inference_mode():
                payload = self._payload(fleet_of(windows, scenes=rows), noise)
            found = payload.movedim(1, 0).double().numpy()
            there = rows >= 0
            values[:, rows[there]] = found[:, there]
        return Drawn(windows, values)

    def _payload(self, fleet: Fleet, noise: Tensor | None) -> Tensor:
        """Departures (batch, members, cells, ASKED, 2) of some scenes; the mean alone without noise.

        A trained network does not treat port and starboard quite alike. So the mean is that of a scene and of its
        mirror image, and every other pair of members is drawn in the mirror: their middle errs about 1 % less.
        """
        batch, cells = fleet.group.shape
        signs = torch.ones(2), MIRROR
        contexts = [self.net.encode(each) for each in (fleet, mirrored(fleet, torch.ones(batch, dtype=torch.bool)))]
        nothing, level = torch.zeros(batch, cells, ASKED, 2), torch.ones(batch)
        plain, turned = (self.net(nothing, level, each) * sign for each, sign in zip(contexts, signs, strict=True))
        mean = (plain + turned) / 2
        if noise is None:
            alone: Tensor = mean * contexts[0].scale
            return alone[:, None]
        out = torch.empty_like(noise)
        pair = torch.arange(noise.shape[1]) // 2
        for view, (context, sign) in enumerate(zip(contexts, signs, strict=True)):
            some = pair % 2 == view
            count = int(some.sum())
            if count:
                many, first = context.repeated(count), (mean * sign).repeat_interleave(count, 0)
                drawn = draw(self.net, many, first, (noise[:, some] * sign).flatten(0, 1), self.passes)
                out[:, some] = (drawn * many.scale).unflatten(0, (batch, count)) * sign
        return out

    def _fill(self, answers: list[TrackAnswer], stretches: Sequence[Stretch], drawn: Drawn) -> None:
        """Write what was drawn into the answers."""
        windows, members = drawn.windows, drawn.members
        calibrated = self.calibration if len(members) > 1 else None
        if calibrated:
            members = calibrated.spread(members, windows)
        place = windows.to_km(members)
        middle = spatial_median(place)
        ellipses = calibrated.ellipses(place[: calibrated.members], middle, windows) if calibrated else None
        asked_for = place[: len(answers[0].member_lon_deg)]
        away = np.concatenate([middle[None], asked_for]) - windows.prior_km
        fastest = fastest_kn(windows.vessel_id, windows.ship_type)
        for row, stretch in enumerate(stretches):
            answer, asked = answers[stretch.row], len(stretch.ask_s)
            target = slice(stretch.first, stretch.first + asked)
            prior, _ = predict_km(windows.edges[row : row + 1], windows.kind[row : row + 1], stretch.ask_s[None])
            place_km = prior[0] + stretch.between(away[:, row])
            edges, kind = windows.edges[row], int(windows.kind[row])
            place_km[1:] = held_back(place_km, stretch.ask_s, edges, kind, float(fastest[row]))
            lon, lat = to_degrees(place_km, windows.frame[row])
            answer.lon_deg[target], answer.lat_deg[target] = lon[0], lat[0]
            if answer.member_lon_deg.size:
                answer.member_lon_deg[:, target], answer.member_lat_deg[:, target] = lon[1:], lat[1:]
            if ellipses is not None:
                found = stretch.regions(ellipses[:, row], np.array(self.levels))
                answer.ellipse_km[:, target] = from_true_north(found, place_km[0], windows.frame[row])


def _blank(query: TrackQuery, members: int, levels: int) -> TrackAnswer:
    asked = len(query.ask_s)
    return TrackAnswer(
        np.full(asked, np.nan),
        np.full(asked, np.nan),
        np.full((members, asked), np.nan),
        np.full((members, asked), np.nan),
        np.full((levels, asked, 3), np.nan),
    )


def _noise(windows: Windows, rows: npt.NDArray[np.int64], members: int, seed: int) -> Tensor:
    """Standard normal noise (batch, member, cells, ASKED, 2), keyed by vessel and the time of the stretch.

    Members come in pairs of opposite sign, and the pairs stand at right angles: each is a normal draw, and their
    middle is that of many more. The first few are the same however many are drawn.
    """
    out = np.zeros((rows.shape[0], members, rows.shape[1], ASKED, 2), np.float32)
    for scene, cell in np.argwhere(rows >= 0):
        row = rows[scene, cell]
        key = int(windows.vessel_id[row]), int(windows.edges[row, 0, 0]), int(windows.kind[row])
        half = _at_right_angles(generator(seed, "track", *key).standard_normal(((members + 1) // 2, 2 * ASKED)))
        out[scene, :, cell] = np.stack([half, -half], 1).reshape(-1, ASKED, 2)[:members]
    return torch.from_numpy(out)


def _at_right_angles(draws: Floats) -> Floats:
    """Normal draws (n, d) turned so that any d in a row are orthogonal, each still normal (Yu et al. 2016)."""
    length = np.linalg.norm(draws, axis=1, keepdims=True)
    parts = [draws[at : at + draws.shape[1]] for at in range(0, len(draws), draws.shape[1])]
    turned = []
    for part in parts:
        q, r = np.linalg.qr(part.T)
        turned.append((q * np.sign(np.diag(r))).T)
    out: Floats = np.concatenate(turned) * length
    return out
