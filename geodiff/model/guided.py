"""All ten bands: those of 10 m first, then those of 20 m given them, each from its own pixels.

The chain rule: p(10 m bands) p(20 m bands | 10 m bands). Both factors are the denoiser (``model.resolver``): the first
on the lattice of 10 m, the second on that of 20 m, with the first's result as its guide (``model.guide``). A member of
the whole is a member of the first and, given it, one of the second: edges lie in the same place in all bands.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from geodiff.model.conformal import ConformalTable
from geodiff.model.draft import Draft
from geodiff.model.native import coarse_part, cut, fine_part, join
from geodiff.model.patches import fill_nearest, one_thread
from geodiff.model.resolver import DiffusionResolver
from geodiff.schema import FloatArray, Patch, Restoration
from geodiff.sensor import native_step


@dataclass(frozen=True)
class GuidedResolver:
    """A denoiser of the 10 m bands and one of the 20 m bands that it guides, as one resolver.

    A patch holds the bands of both, those of 20 m as blocks of two by two pixels (``model.native``). The radiometric
    constraint holds for every band at its own sampling. Where no date shows the whole of a pixel of 20 m, its bands are
    NaN, though those of 10 m may be known.

    Attributes:
        name: for reports.
        fine: restores the 10 m bands; its bands are the guide of ``coarse``.
        coarse: restores the 20 m bands, at twice the factor of ``fine``.
    """

    antithetic: ClassVar[bool] = True

    name: str
    fine: DiffusionResolver
    coarse: DiffusionResolver

    def __post_init__(self) -> None:
        guide, factor = self.coarse.model.config.guide, self.coarse.scale / self.fine.scale
        if guide != self.fine.bands or factor != 2 or self.fine.model.config.guide:
            raise ValueError(f"bands {guide} at x{self.coarse.scale} are not guided by {self.fine.bands}")
        wrong = [band for band in self.coarse.bands if native_step(band) != 2]
        if wrong:
            raise ValueError(f"band {wrong[0]} is not sampled at 20 m")
        if self.intervals is not None and self.fine.levels != self.coarse.levels:
            raise ValueError(f"intervals of {self.fine.levels} and of {self.coarse.levels} do not go together")

    @property
    def scale(self) -> int:
        return self.fine.scale

    @property
    def bands(self) -> tuple[str, ...]:
        return (*self.fine.bands, *self.coarse.bands)

    @property
    def passes(self) -> int:
        """Evaluations of each network per member."""
        return self.fine.passes

    @property
    def dial(self) -> float:
        return self.fine.dial

    @property
    def levels(self) -> tuple[float, ...]:
        """Of the half-widths."""
        return self.fine.levels

    @property
    def intervals(self) -> ConformalTable | None:
        """The table of the 20 m bands; None where either part has none."""
        return self.coarse.intervals if self.fine.intervals is not None else None

    def tuned(self, *, level: float, dial: float) -> GuidedResolver:
        """See ``DiffusionResolver.tuned``."""
        fine, coarse = (part.tuned(level=level, dial=dial) for part in (self.fine, self.coarse))
        return replace(self, fine=fine, coarse=coarse)

    def restore(self, patch: Patch, *, members: int, seed: int) -> Restoration:
        """See ``schema.Resolver``."""
        found, draft, (part, rows, cols) = self._both(patch, members, seed)
        with one_thread(), torch.inference_mode():
            coarse = self.coarse.nothing(part, members) if draft is None else self.coarse.finish(draft)
        found = replace(found, members=found.mean + np.float32(self.dial) * (found.members - found.mean))
        index = tuple(range(len(self.fine.bands))), tuple(range(len(self.fine.bands), len(self.bands)))
        return join([(index[0], found), (index[1], cut(coarse, rows, cols, self.scale))])

    def draft(self, patch: Patch, *, members: int, seed: int) -> Draft | None:
        """What the network makes of the 20 m bands of a patch of all bands, on whole pixels of 20 m."""
        return self._both(patch, members, seed)[1]

    def _both(
        self, patch: Patch, members: int, seed: int
    ) -> tuple[Restoration, Draft | None, tuple[Patch, slice, slice]]:
        """The 10 m bands, the draft of the 20 m bands, and their part of the patch with the rows and columns to cut."""
        count = len(self.fine.bands)
        part, rows, cols = coarse_part(patch, range(count, len(self.bands)))
        # What guides is a sample; the dial is turned when all are drawn. Its brightness guides nobody: the 20 m bands
        # have their own.
        fine, own = replace(self.fine, dial=1.0), fine_part(patch, range(count))
        with one_thread(), torch.inference_mode():
            first = fine.draft(own, members=members, seed=seed)
            if first is None:
                return fine.nothing(own, members), None, (part, rows, cols)
            found = fine.finish(first)
            guide = found if fine.brightness is None or first.is_lit else replace(fine, brightness=None).finish(first)
            draft = self._draft(part, (rows, cols), guide, seed)
        return found, draft, (part, rows, cols)

    def _draft(self, part: Patch, own: tuple[slice, slice], found: Restoration, seed: int) -> Draft | None:
        guides = np.concatenate([found.mean[None], found.members])
        if np.isnan(guides[0]).all():
            return None
        sides = (2 * part.valid.shape[1], 2 * part.valid.shape[2])
        around = [(s.start * self.scale, (side - s.stop) * self.scale) for s, side in zip(own, sides, strict=True)]
        grown = np.pad(_filled(guides), ((0, 0), (0, 0), *around), mode="edge")
        return self.coarse.draft(part, members=len(found.members), seed=seed, guides=grown)


def _filled(guides: FloatArray) -> FloatArray:
    """Where no date shows the ground, the nearest pixel that some date does."""
    known = torch.from_numpy(np.isfinite(guides[0]).all(0))
    flat = fill_nearest(torch.from_numpy(guides).flatten(0, 1), known)
    filled: FloatArray = flat.unflatten(0, guides.shape[:2]).numpy()
    return filled
