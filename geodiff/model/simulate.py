"""The sensor model: high-resolution images -> Sentinel-2-like series with a known truth, in batches of tensors.

Each date of a series is the truth of that date seen from a sub-pixel shift, through the MTF of the band, under its own
illumination, atmosphere and season, with clouds, their shadows and noise, and with a mask that errs in both directions.
The target date is one of them, or hidden. ``docs/sensor_model.md`` has the equations and their sources.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from geodiff.model.guide import soften
from geodiff.model.images import Series
from geodiff.model.optics import see
from geodiff.model.raster import in_blocks, shift_image
from geodiff.model.reference import build_series
from geodiff.model.sky import SkyConfig, draw_sky, overmask, smooth, uniform

GUIDE_SCALE = 4
"""How many times finer than what was observed the guides of a training pretend to have been restored."""

MAX_SHIFT_PX = 2.0
MTF_RANGE = (0.12, 0.45)

SHARES = (
    "shifted_date",
    "hazy_date",
    "cloudy_date",
    "cloudy_target",
    "hidden_target",
    "shadow_depth",
    "missed_cloud",
    "missed_shadow",
    "overmasked_date",
)
RANGES = (
    "haze_opacity",
    "haze_reflectance",
    "noise_floor",
    "photon_noise",
    "cloud_cover",
    "cloud_reflectance",
    "cloud_height_m",
    "sun_zenith_deg",
    "sun_azimuth_deg",
    "missed_opacity",
)
STRENGTHS = ("mtf_spread", "shift_px", "shift_error_px", "gain", "path_reflectance", "season", "mask_growth_px")
"""Fields of ``SimulationConfig`` that are shares, ends of a distribution, and other numbers of 0 or more."""

FIELD_KNOTS = 4
"""Knots along a side of the fields of season: they vary over about a third of a patch."""


@dataclass(frozen=True, kw_only=True)
class SimulationConfig:
    """How the sensor and the sky behave; pairs are the ends of a uniform distribution unless said otherwise.

    Attributes:
        scale: ratio of the resolutions.
        mtf: modulation at the low-resolution Nyquist frequency, per band.
        steps: ``sensor.native_step`` of each band, whose pixels are blocks of as many by as many; 1 for all when empty.
        mtf_spread: standard deviation of that between units and scenes.
        shift_px: standard deviation of a date's displacement per axis, in low-resolution pixels (cut at 2).
        shifted_date: share of the dates that are displaced at all.
        shift_error_px: standard deviation of the error of the displacement that the network is told.
        gain: relative standard deviation of the illumination, per date and band.
        path_reflectance: standard deviation of what the atmosphere adds, in reflectance; 0.8 of it common to all bands.
        hazy_date: share of the dates, the target among them, that are seen through haze.
        haze_opacity: of the haze; it varies by a third over a patch.
        haze_reflectance: of haze too thick to see through.
        season: relative standard deviation of the smooth field of change between dates; the last band has its own.
        noise_floor: signal-independent noise in reflectance, ends of a log-uniform distribution over dates.
        photon_noise: variance of the noise per unit of reflectance, in reflectance.
        cloudy_date, cloudy_target: share of the other dates, and of the targets, under clouds.
        hidden_target: share of the targets of which nothing is shown.
        cloud_cover: share of a cloudy patch under cloud; above 1 it is overcast.
        cloud_reflectance: of an opaque cloud, in all bands.
        cloud_height_m: of the base of the clouds, over which the sun casts their shadows.
        sun_zenith_deg: 0 is overhead.
        sun_azimuth_deg: clockwise from north; 90 to 180 before noon north of the tropics.
        shadow_depth: share of the light that the shadow of an opaque cloud takes.
        missed_opacity: opacity below which the mask sees no cloud or shadow.
        mask_growth_px: most pixels by which a mask is grown.
        missed_cloud: share of the cloudy dates, targets excepted, with a small cloud that no mask knows.
        missed_shadow: share of the cloudy dates whose shadows the mask does not know.
        overmasked_date: share of all dates on which the brightest ground is masked though clear.
    """

    scale: int = 4
    mtf: tuple[float, ...]
    steps: tuple[int, ...] = ()
    mtf_spread: float = 0.03
    shift_px: float = 0.6
    shifted_date: float = 0.7
    shift_error_px: float = 0.05
    gain: float = 0.08
    path_reflectance: float = 0.006
    hazy_date: float = 0.25
    haze_opacity: tuple[float, float] = (0.05, 0.5)
    haze_reflectance: tuple[float, float] = (0.1, 0.35)
    season: float = 0.08
    noise_floor: tuple[float, float] = (1e-4, 2e-3)
    photon_noise: tuple[float, float] = (0.0, 4e-6)
    cloudy_date: float = 0.35
    cloudy_target: float = 0.2
    hidden_target: float = 0.12
    cloud_cover: tuple[float, float] = (0.05, 1.1)
    cloud_reflectance: tuple[float, float] = (0.4, 0.7)
    cloud_height_m: tuple[float, float] = (300.0, 4_000.0)
    sun_zenith_deg: tuple[float, float] = (20.0, 65.0)
    sun_azimuth_deg: tuple[float, float] = (90.0, 180.0)
    shadow_depth: float = 0.6
    missed_opacity: tuple[float, float] = (0.01, 0.1)
    mask_growth_px: int = 2
    missed_cloud: float = 0.1
    missed_shadow: float = 0.1
    overmasked_date: float = 0.08

    def __post_init__(self) -> None:
        for name in (*SHARES, *STRENGTHS):
            value, most = getattr(self, name), 1.0 if name in SHARES else math.inf
            if not _is_number(value) or not 0 <= value <= most:
                what = "a share between 0 and 1" if name in SHARES else "a number of 0 or more"
                raise ValueError(f"{name} is {what}, not {value}")
        for name in RANGES:
            ends = getattr(self, name)
            if not isinstance(ends, tuple) or len(ends) != 2 or not all(map(_is_number, ends)):
                raise ValueError(f"{name} is two numbers, not {ends}")
            if not 0 <= ends[0] <= ends[1]:
                raise ValueError(f"{name} goes from a smaller to a larger number, not from {ends[0]} to {ends[1]}")
        if type(self.mask_growth_px) is not int:
            raise ValueError(f"mask_growth_px is a whole number, not {self.mask_growth_px}")
        if self.sun_zenith_deg[1] >= 89 or self.noise_floor[0] <= 0:
            raise ValueError("sun_zenith_deg stays below 89, noise_floor above 0")

    @property
    def sky(self) -> SkyConfig:
        """The part that concerns clouds and masks."""
        return SkyConfig(**{field.name: getattr(self, field.name) for field in fields(SkyConfig)})


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def simulate(
    truth: Tensor, days: Tensor, pixel_m: Tensor, config: SimulationConfig, generator: torch.Generator
) -> tuple[Series, Tensor, Tensor]:
    """Turn true images into a series.

    Args:
        truth: (batch, times, band, scale*y, scale*x) reflectance; the first date is the target. Bands beyond those of
            ``config.mtf`` are the guide: they are shown as they are, or softened (``guide.soften``).
        days: (batch, times), relative to the target.
        pixel_m: (batch,).
        config: of the sensor.
        generator: of every random number.

    Returns:
        The series (dates in random order), the target's truth (batch, band, scale*y, scale*x) under its haze, and
        (batch, y, x) bool: where some date was clear.
    """
    batch, times, bands = len(truth), truth.shape[1], len(config.mtf)
    truth = hazy(truth, config, generator)
    truth, guide = truth[:, :, :bands], truth[:, 0, bands:]
    shift, told = draw_shifts(batch, times, config, generator)
    low = changed(optics(truth, shift, config, generator), config, generator)
    low, masked = under_sky(low, pixel_m, config, generator)
    low = noisy(low, config, generator)
    low = as_sampled(low, config.steps) if config.steps else low
    valid = ~masked
    if times > 1:
        hidden = torch.rand(batch, generator=generator) < config.hidden_target
        valid[:, 0] &= ~hidden[:, None, None]
    order = torch.randperm(times, generator=generator)
    target = (order == 0).nonzero()[0, 0].expand(batch)
    series, known = build_series(low[:, order], valid[:, order], days[:, order], told[:, order], target, pixel_m)
    if guide.shape[1]:
        series = replace(series, guide=soften(guide, GUIDE_SCALE, generator))
    return series, truth[:, 0], known


def hazy(truth: Tensor, config: SimulationConfig, generator: torch.Generator) -> Tensor:
    """Some dates as they look through haze, which is part of what was there: no date tells another's contrast."""
    batch, times, bands, rows, cols = truth.shape
    there = torch.rand((batch, times, 1, 1, 1), generator=generator) < config.hazy_date
    field = 1 + 0.3 * smooth(batch * times, (rows, cols), 3, generator).view(batch, times, 1, rows, cols)
    opacity = (uniform((batch, times, 1, 1, 1), *config.haze_opacity, generator) * field).clamp(0.0, 0.9) * there
    bright = uniform((batch, times, 1, 1, 1), *config.haze_reflectance, generator)
    bright = bright * uniform((batch, times, bands, 1, 1), 0.5, 1.0, generator)
    return truth + opacity * (bright - truth)


def draw_shifts(batch: int, times: int, config: SimulationConfig, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Displacements (batch, times, 2) down and right in low-resolution pixels: the true ones, and those told."""
    shift = config.shift_px * torch.randn((batch, times, 2), generator=generator)
    shift = shift.clamp(-MAX_SHIFT_PX, MAX_SHIFT_PX)
    shift = shift * (torch.rand((batch, times, 1), generator=generator) < config.shifted_date)
    shift[:, 0] = 0
    told = shift + config.shift_error_px * torch.randn(shift.shape, generator=generator)
    told[:, 0] = 0
    return shift, told


def optics(truth: Tensor, shift: Tensor, config: SimulationConfig, generator: torch.Generator) -> Tensor:
    """Displace, blur and sample: (batch, times, band, scale*y, scale*x) -> (batch, times, band, y, x)."""
    batch, times, bands = truth.shape[:3]
    moved = shift_image(truth.flatten(0, 1), -config.scale * shift.flatten(0, 1))
    mtf = torch.tensor(config.mtf) + config.mtf_spread * torch.randn(bands, generator=generator)
    if config.mtf_spread:
        # Rounded, so that the matrices are found in the cache more often than not.
        mtf = (mtf.clamp(*MTF_RANGE) * 50).round() / 50
    shown = [round(float(m), 4) for m in mtf]
    if not config.steps:
        low: Tensor = see(moved, config.scale, shown).unflatten(0, (batch, times))
        return low
    layers = [
        in_blocks(see(moved[:, [band]], config.scale * step, [shown[band]]), step)
        for band, step in enumerate(config.steps)
    ]
    low = torch.cat(layers, 1).unflatten(0, (batch, times))
    return low


def as_sampled(image: Tensor, steps: tuple[int, ...]) -> Tensor:
    """(batch, times, band, y, x) with the mean of each block in place of its pixels, for bands that have blocks."""
    flat = image.flatten(0, 1)
    layers = [in_blocks(F.avg_pool2d(flat[:, [band]], step), step) for band, step in enumerate(steps)]
    return torch.cat(layers, 1).view_as(image)


def changed(low: Tensor, config: SimulationConfig, generator: torch.Generator) -> Tensor:
    """Season, illumination and atmosphere of every date but the target."""
    batch, times, bands, rows, cols = low.shape
    strength = torch.rand((batch, times, 1, 1, 1), generator=generator)
    strength[:, 0] = 0
    gain = config.gain * torch.randn((batch, times, bands, 1, 1), generator=generator)
    field = config.season * smooth(batch * times * 2, (rows, cols), FIELD_KNOTS, generator)
    field = field.view(batch, times, 2, rows, cols)
    field = torch.cat([field[:, :, :1].expand(-1, -1, bands - 1, -1, -1), field[:, :, 1:]], 2)
    common = torch.randn((batch, times, 1, 1, 1), generator=generator)
    own = torch.randn((batch, times, bands, 1, 1), generator=generator)
    path = config.path_reflectance * (0.8 * common + 0.6 * own)
    return low * (1 + strength * (gain + field)) + strength * path


def under_sky(
    low: Tensor, pixel_m: Tensor, config: SimulationConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Clouds and shadows on some dates, and the mask of all: the images, and (batch, times, y, x) bool."""
    batch, times, _, rows, cols = low.shape
    cloudy = torch.rand((batch, times), generator=generator) < config.cloudy_date
    cloudy[:, 0] = torch.rand(batch, generator=generator) < config.cloudy_target
    if times == 1:
        cloudy = torch.zeros_like(cloudy)
    # What no mask knows of would teach the network to invent it on the target, and to break with what it sees there.
    is_target = torch.zeros((batch, times), dtype=torch.bool)
    is_target[:, 0] = True
    sky = draw_sky((rows, cols), pixel_m.repeat_interleave(times), is_target.flatten(), config.sky, generator)
    wrong = overmask(low.flatten(0, 1), config.sky, generator).unflatten(0, (batch, times))
    there = cloudy[:, :, None, None]
    cloud, shadow, masked = (part.unflatten(0, (batch, times)) for part in (sky.cloud, sky.shadow, sky.masked))
    bright = uniform((batch, times, 1, 1, 1), *config.cloud_reflectance, generator)
    low = low * (1 - (shadow * there)[:, :, None])
    low = low + (cloud * there)[:, :, None] * (bright - low)
    masked = masked & there
    return low, (masked | wrong) if times > 1 else masked


def noisy(low: Tensor, config: SimulationConfig, generator: torch.Generator) -> Tensor:
    """A floor that differs between dates, and photon noise, whose variance grows with the signal."""
    batch, times = low.shape[:2]
    ends = [math.log(end) for end in config.noise_floor]
    floor = torch.exp(uniform((batch, times, 1, 1, 1), ends[0], ends[1], generator))
    photon = uniform((batch, times, 1, 1, 1), *config.photon_noise, generator)
    sigma = (floor.square() + photon * low.clamp_min(0.0)).sqrt()
    return low + sigma * torch.randn(low.shape, generator=generator)
