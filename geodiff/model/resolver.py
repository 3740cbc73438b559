"""From a patch to a restored patch: the denoiser behind the protocol of a resolver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from geodiff.model.brightness import Brightness, brightness_of, draw_chance
from geodiff.model.conformal import ConformalTable, deviation_scale, guessed_share, normal_half_width, table_for
from geodiff.model.draft import Draft, Settled, times
from geodiff.model.images import ImageContext, ImageDenoiser, Series
from geodiff.model.members import SPREAD_HIDDEN, DeviationFilter, filter_for
from geodiff.model.patches import hide, nothing, one_thread, patch_series, whole_cells
from geodiff.model.raster import in_blocks
from geodiff.model.sampler import euler, schedule
from geodiff.model.texture import FLOOR, box_mean, texture
from geodiff.rng import noise_window
from geodiff.schema import FloatArray, GeodiffError, Patch, Restoration

OWN_SHARE = "own_share"
"""Key of a card."""

RIM_PX = 2
"""Low-resolution pixels beside hidden ones over which the estimate of all dates takes over."""


@dataclass(frozen=True)
class DiffusionResolver:
    """The spatio-temporal denoiser as a resolver.

    The first pass, at noise level 1, is the regression mean and is shared by all members. Members come in antithetic
    pairs (noise e and -e), whose errors cancel to first order. The noise is that of the absolute high-resolution
    lattice and the same for every target date, so that one member is one story through time. A patch of any size and
    place is grown to whole cells of the absolute lattice by pixels that are not valid, and cut back before the
    radiometric constraint, which therefore holds up to the patch's own edge.

    Attributes:
        name: for reports.
        model: in evaluation mode.
        passes: evaluations per member, the shared first included; with 1 there are no members.
        spread: filter of the deviation of members from the mean, from calibration on held-out places.
        spread_hidden: the same where the target date was not observed; when None, ``spread`` without the texture.
        brightness: of dates whose light is not known, from calibration; none when None.
        consistent: end with the hard radiometric constraint where the target date was observed.
        conformal: quantiles behind the half-widths of an ensemble; no half-widths without.
        alone: the same for a mean without members.
        levels: of the half-widths, each calibrated.
        dial: between perception and distortion: members are mean + dial * deviation. At 1 they are samples, as sharp
            as real imagery; at 0 they are the mean, whose expected squared error is the least. Mean and half-widths
            do not depend on it.
        own_share: of the mean, where the target date was observed, the share that is restored from that date alone:
            what changed on the ground between dates misleads a mean of two estimates less. From calibration.
    """

    antithetic: ClassVar[bool] = True
    """For whoever scores the members: the two of a pair are not independent."""

    name: str
    model: ImageDenoiser
    passes: int = 2
    spread: DeviationFilter = DeviationFilter()  # noqa: RUF009 - frozen
    spread_hidden: DeviationFilter | None = None
    brightness: Brightness | None = None
    consistent: bool = True
    conformal: ConformalTable | None = None
    alone: ConformalTable | None = None
    levels: tuple[float, ...] = (0.9,)
    dial: float = 1.0
    own_share: float = 0.0

    @classmethod
    def calibrated(
        cls, name: str, model: ImageDenoiser, card: Mapping[str, Any], *, passes: int = 2
    ) -> DiffusionResolver:
        """The resolver of a model with what its card says of members and intervals.

        Raises:
            GeodiffError: a card that says what no calibration writes.
        """
        bands = len(model.config.bands)
        spread = filter_for(card, passes, bands) or cls.spread
        hidden = filter_for(card, passes, bands, SPREAD_HIDDEN)
        ensemble, alone = table_for(card, max(passes, 2), bands), table_for(card, 1, bands)
        known = ensemble or alone
        levels = known.levels if known else cls.levels
        return cls(
            name,
            model,
            passes=passes,
            spread=spread,
            spread_hidden=hidden,
            brightness=brightness_of(card, bands),
            conformal=ensemble,
            alone=alone,
            levels=levels,
            own_share=check_share(card.get(OWN_SHARE, 0.0)),
        )

    @property
    def intervals(self) -> ConformalTable | None:
        """The table behind the half-widths of an ensemble, or of the mean alone at one pass."""
        return self.conformal if self.passes > 1 else self.alone

    def tuned(self, *, level: float, dial: float) -> Self:
        """The same model with one level of its intervals, and the dial of its members.

        Raises:
            UsageError: a level that it was not calibrated for.
        """
        if self.intervals is not None:
            self.intervals.require((level,))
        return replace(self, levels=(level,), dial=dial)

    @property
    def scale(self) -> int:
        return self.model.config.scale

    @property
    def bands(self) -> tuple[str, ...]:
        return self.model.config.bands

    def restore(self, patch: Patch, *, members: int, seed: int) -> Restoration:
        """See ``schema.Resolver``."""
        with one_thread(), torch.inference_mode():
            draft = self.draft(patch, members=members, seed=seed)
            if draft is None:
                return self.nothing(patch, members)
            return self.finish(draft)

    def nothing(self, patch: Patch, members: int) -> Restoration:
        """What is returned for a patch of which no date shows any."""
        calibrated = self.conformal if members and self.passes > 1 else self.alone
        count = members if self.passes > 1 else 0
        return nothing(patch, self.scale, count, levels=len(self.levels) if calibrated else 0)

    def draft(self, patch: Patch, *, members: int, seed: int, guides: FloatArray | None = None) -> Draft | None:
        """What the network makes of a patch; None where no date shows any of it.

        Args:
            patch: to restore.
            members: of the ensemble.
            seed: of their noise.
            guides: (1 + members, guide band, scale*y, scale*x) finite reflectance, of the mean and of each member, for
                a model with a guide.
        """
        grown, rows, cols = whole_cells(patch, self.model.config.stride)
        series, known = patch_series(grown)
        if not known.any():
            return None
        own = (..., times(rows, self.scale), times(cols, self.scale))
        if guides is not None:
            around = [(part.start, grown.valid.shape[axis] - part.stop) for axis, part in ((1, rows), (2, cols))]
            pad = ((0, 0), (0, 0), *((before * self.scale, after * self.scale) for before, after in around))
            guides = np.pad(guides, pad, mode="edge")
        count = members if self.passes > 1 else 0
        mean, deviation, upsampled = self._sample(series, grown.origin_px, count, seed, guides)
        mean = mean + self._towards_own_date(mean, series, patch.target_index, guides)
        return Draft(
            mean=mean[own],
            deviation=deviation[own],
            upsampled=upsampled[own],
            reference=series.reference[0, :, rows, cols],
            observed=series.observed[0, rows, cols],
            known=known[rows, cols],
            mirrored=patch.mirrored,
            chance=torch.from_numpy(draw_chance(seed, patch.target_day, count, len(self.bands))),
            lit=torch.from_numpy(patch.lit),
        )

    def finish(self, draft: Draft) -> Restoration:
        """Filter, constraint, intervals and dial: all that calibration decides."""
        found = self.settle(draft)
        mean, members = found.mean, found.members
        table, half_width, share = (self.conformal if len(members) else self.alone), None, None
        if table is not None:
            sky, highest = draft.sky, table.levels[-1]
            half_width = table.half_width(self.levels, found.scale, draft.upsampled, sky).contiguous().numpy()
            error = table.half_width((highest,), found.scale, draft.upsampled, sky)[0]
            share = guessed_share(error / normal_half_width(highest), mean, draft.mean[0]).numpy()
        drawn = (mean + self.dial * (members - mean)).contiguous().numpy()
        restored = Restoration(mean.clone().contiguous().numpy(), drawn, half_width, share)
        return hide(restored, draft.known, self.scale)

    def settle(self, draft: Draft) -> Settled:
        """Members of the calibrated deviation, under the constraint."""
        members, uncertain = draft.mean + self._spread_out(draft), torch.zeros_like(draft.mean[0])
        drawn = members
        if self.brightness is not None and len(members) and not draft.is_lit:
            unlit, chance = draft.unlit(), draft.chance[: len(members)].numpy()
            drawn = members * torch.from_numpy(self.brightness.factors(chance))[:, :, None, None] ** unlit
            uncertain = unlit * draft.mean[0].abs() * torch.from_numpy(self.brightness.deviation)[:, None, None]
        image = torch.cat([draft.mean, drawn])
        if self.consistent:
            image = draft.enforced(image, self.model.config.mtf)
        brightened = drawn - members
        return Settled(image[0], image[1:], deviation_scale(image[1:] - image[0] - brightened, uncertain))

    def _spread_out(self, draft: Draft) -> Tensor:
        """The calibrated deviation of members, where the target date shows the ground and where not."""
        if not len(draft.deviation):
            return draft.deviation
        seen, rough = draft.seen, (texture(draft.upsampled) + FLOOR) / self.model.residual_scale
        if seen.all():
            return self.spread.apply(draft.deviation, rough)
        hidden = (self.spread_hidden or replace(self.spread, power=0.0)).apply(draft.deviation, rough)
        return torch.where(seen, self.spread.apply(draft.deviation, rough), hidden) if seen.any() else hidden

    def _sample(
        self, series: Series, origin_px: tuple[int, int], members: int, seed: int, guides: FloatArray | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mean (1, band, scale*y, scale*x), deviation of the members from it, and the upsampled reference."""
        context, unit = self.model.encode(self._guided(series, guides, 0)), self.model.residual_scale
        mean = self._regress(context)
        shape, scale = (mean.shape[-2], mean.shape[-1]), self.scale
        origin = (origin_px[0] * scale, origin_px[1] * scale)
        what = "member" if guides is None else "guided member"
        deviations = [mean[:0]]
        for member in range(members):
            field = noise_window(seed, what, member // 2, channels=len(self.bands), origin=origin, shape=shape)
            noise = torch.from_numpy(field)[None] * (1 - 2 * (member % 2))
            own, first = context, mean
            if guides is not None:
                # A member of these bands goes with one member of the guide: together they are one sample of all.
                own = replace(context, guide=self.model.guided(_one(guides, 1 + member)))
                first = self._regress(own)
            deviations.append(self._draw(noise, own, first) - mean)
        return context.upsampled + unit * mean, unit * torch.cat(deviations), context.upsampled

    def _towards_own_date(
        self, mean: Tensor, series: Series, target: int | None, guides: FloatArray | None
    ) -> Tensor | float:
        """What leads from the mean of all dates to that of the target date alone, by ``own_share``."""
        times = series.days.shape[1]
        if not self.own_share or target is None or times == 1 or not series.observed.any():
            return 0.0
        parts = ("reflectance", "valid", "days", "shift_px")
        single = replace(series, **{name: getattr(series, name)[:, [target]] for name in parts})
        context = self.model.encode(self._guided(single, guides, 0))
        alone = context.upsampled + self.model.residual_scale * self._regress(context)
        # Near what is hidden the date alone knows less.
        seen = series.observed[:, None].to(mean.dtype)
        near = box_mean(seen, 2 * RIM_PX + 1)
        weight = self.own_share * in_blocks(seen * near, self.scale)
        return weight * (alone - mean)

    def _regress(self, context: ImageContext) -> Tensor:
        """The estimate at noise level 1, in units of the residual."""
        estimate: Tensor = self.model(torch.zeros_like(context.upsampled), torch.ones(1), context)
        return estimate

    def _draw(self, noise: Tensor, context: ImageContext, first: Tensor) -> Tensor:
        """A sample from noise; ``first`` is the estimate at noise level 1."""

        def denoise(x: Tensor, level: float) -> Tensor:
            estimate: Tensor = first if level == 1.0 else self.model(x, torch.tensor([level]), context)
            return estimate

        return euler(denoise, noise, schedule(self.passes))

    @staticmethod
    def _guided(series: Series, guides: FloatArray | None, index: int) -> Series:
        return series if guides is None else replace(series, guide=_one(guides, index))


def check_share(value: object) -> float:
    """``own_share`` of a card.

    Raises:
        GeodiffError: it is no share.
    """
    if type(value) not in (int, float) or not 0 <= float(str(value)) <= 1:
        raise GeodiffError(f"the model card gives no usable {OWN_SHARE}: {str(value)[:20]!r} is not between 0 and 1")
    return float(str(value))


def _one(guides: FloatArray, index: int) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(guides[index : index + 1], np.float32))
