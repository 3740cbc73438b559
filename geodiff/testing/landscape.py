"""A synthetic landscape of any extent, seen at metres per pixel: hills, a reservoir, fields, woods, roads, villages.

The world is a function of the seed alone. It is drawn in blocks on the absolute pixel lattice, each from the seed
and its own place alone, so that any window, in any order and chunking, shows exactly the pixels of the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from geodiff.schema import BANDS_10M, FloatArray
from geodiff.testing.fields import Cells, Coords, Floats, fractal, hash01, smooth_noise, voronoi
from geodiff.testing.houses import block_of, make_lots
from geodiff.testing.materials import Cover, Palette, palette
from geodiff.testing.relief import Land, Relief, make_land, make_relief

BLOCK = 256
SHADOW_REACH_M = 14.0
MAIN_ROAD_M = 2_400.0
CROWN_M = 7.5


@dataclass(frozen=True, eq=False)
class Scene:
    """A window of the landscape.

    Attributes:
        reflectance: (band, rows, columns) float32.
        cover: (rows, columns) uint8, values of ``Cover``.
        parcel: (rows, columns) int32, the number of the parcel that each pixel lies in.
    """

    reflectance: FloatArray
    cover: npt.NDArray[np.uint8]
    parcel: npt.NDArray[np.int32]


def landscape(
    shape: tuple[int, int],
    *,
    pixel_m: float = 2.5,
    origin_px: tuple[int, int] = (0, 0),
    seed: int = 0,
    bands: Sequence[str] = BANDS_10M,
) -> FloatArray:
    """Reflectance of a window of the synthetic world.

    Args:
        shape: (rows, columns).
        pixel_m: side of a pixel in metres; another size is another rendering of the same ground.
        origin_px: (row, column) of the first pixel on the absolute lattice (rows count downwards), may be negative.
        seed: of the world.
        bands: any of ``materials.WORLD_BANDS``, in any order; a band does not depend on the others asked for.

    Returns:
        (band, rows, columns) float32, 0-1.

    Raises:
        UsageError: a band that the landscape does not have.
    """
    return landscape_window(seed, origin_px, shape, pixel_m, tuple(bands)).reflectance


def landscape_window(
    seed: int,
    origin_px: tuple[int, int],
    shape: tuple[int, int],
    pixel_m: float = 2.5,
    bands: tuple[str, ...] = BANDS_10M,
) -> Scene:
    """Assemble a window from blocks; memory is that of the window and a few blocks.

    Args:
        seed: of the world.
        origin_px: (row, column) of the first pixel on the absolute lattice, may be negative.
        shape: (rows, columns).
        pixel_m: side of a pixel in metres.
        bands: any of ``materials.WORLD_BANDS``.

    Raises:
        UsageError: a band that the landscape does not have.
    """
    rows, cols = shape
    image = np.empty((len(bands), rows, cols), np.float32)
    scene = Scene(image, np.empty((rows, cols), np.uint8), np.empty((rows, cols), np.int32))
    for block_row in range(origin_px[0] // BLOCK, (origin_px[0] + rows - 1) // BLOCK + 1):
        for block_col in range(origin_px[1] // BLOCK, (origin_px[1] + cols - 1) // BLOCK + 1):
            top, left = block_row * BLOCK - origin_px[0], block_col * BLOCK - origin_px[1]
            r0, r1, c0, c1 = max(top, 0), min(top + BLOCK, rows), max(left, 0), min(left + BLOCK, cols)
            block = _block(int(seed), int(block_row), int(block_col), float(pixel_m), bands)
            source = (slice(r0 - top, r1 - top), slice(c0 - left, c1 - left))
            scene.reflectance[:, r0:r1, c0:c1] = block.reflectance[:, *source]
            scene.cover[r0:r1, c0:c1] = block.cover[source]
            scene.parcel[r0:r1, c0:c1] = block.parcel[source]
    return scene


@lru_cache(maxsize=24)
def _block(seed: int, row: int, col: int, pixel_m: float, bands: tuple[str, ...]) -> Scene:
    return render(seed, (row * BLOCK, col * BLOCK), (BLOCK, BLOCK), pixel_m, bands)


def render(
    seed: int,
    origin_px: tuple[int, int],
    shape: tuple[int, int],
    pixel_m: float,
    bands: tuple[str, ...] = BANDS_10M,
) -> Scene:
    """Draw one window at once; equal to ``landscape_window`` but for rounding (sums in another order)."""
    margin = int(np.ceil(SHADOW_REACH_M / pixel_m)) + 2
    y = (np.arange(-margin, shape[0] + margin, dtype=np.float64) + origin_px[0] + 0.5) * pixel_m
    x = (np.arange(-margin, shape[1] + margin, dtype=np.float64) + origin_px[1] + 0.5) * pixel_m
    canvas = _Painter(seed, y, x, pixel_m, palette(bands))
    canvas.paint_all()
    inner = (slice(margin, margin + shape[0]), slice(margin, margin + shape[1]))
    image = np.clip(canvas.image[:, *inner], 0.002, 1.0)
    return Scene(np.ascontiguousarray(image), canvas.cover[inner].copy(), canvas.land.parcel[inner].astype(np.int32))


def _ramp(values: Floats, low: float, high: float) -> FloatArray:
    """0 below ``low``, 1 above ``high``, smooth between."""
    t = np.clip((values - low) / np.float32(high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


class _Painter:
    """The image of one window while it is painted, bottom layer first."""

    def __init__(self, seed: int, y_m: Coords, x_m: Coords, pixel_m: float, paints: Palette) -> None:
        self.seed, self.y, self.x, self.pixel = seed, y_m, x_m, pixel_m
        self.paints, self.spectra = paints, paints.spectra
        self.relief: Relief = make_relief(seed, y_m, x_m, pixel_m)
        self.land: Land = make_land(seed, y_m, x_m)
        self.image = np.zeros((len(paints.shade), len(y_m), len(x_m)), np.float32)
        self.cover = np.full(self.image.shape[1:], Cover.GRASS, np.uint8)
        self.trees = np.zeros(self.cover.shape, np.float32)
        self.water = self._cover_of(self.relief.depth_m / np.maximum(self.relief.slope, 0.02))

    def paint_all(self) -> None:
        self._ground()
        self._woods()
        self._shore_and_river()
        self._roads()
        self._village()
        self._crowns()
        self._unseen()
        self.image *= self.relief.hillshade
        self._reservoir()

    def _cover_of(self, inside_m: Floats) -> FloatArray:
        """Share of each pixel inside a shape, from the signed distance to its outline (positive inside)."""
        return np.asarray(np.clip(inside_m / self.pixel + 0.5, 0, 1), np.float32)

    def _noise(self, what: str, wavelength_m: float) -> FloatArray:
        return smooth_noise(self.seed, what, self.y, self.x, wavelength_m)

    def _paint(self, alpha: Floats, colour: Floats, cover: Cover | None = None) -> None:
        tint = colour[:, None, None] if colour.ndim == 1 else colour
        self.image += alpha * (tint - self.image)
        if cover is not None:
            self.cover[alpha > 0.5] = cover

    def _ground(self) -> None:
        """Fields with their rows on gentle ground, rough grass elsewhere."""
        land, seed = self.land, self.seed
        crops = self.paints.crops
        kind = np.minimum((hash01(seed, "crop", land.parcel) * len(crops)).astype(np.int64), len(crops) - 1)
        crop, between = np.stack([c.colour for c in crops]).T, np.stack([c.between for c in crops]).T
        spacing = np.array([c.spacing_m for c in crops], np.float32)[kind]
        strength = np.array([c.strength for c in crops], np.float32)[kind]
        wobble = 0.3 * self._noise("wobble", 120)
        # Rows narrower than two pixels cannot be drawn: they fade instead of beating against the lattice.
        strength = strength * np.clip(spacing / (2 * self.pixel) - 0.5, 0, 1)
        wave = 0.5 + 0.5 * np.sin(2 * np.pi * (land.u_m / spacing + wobble)).astype(np.float32)
        patchy = fractal(seed, "patchy", self.y, self.x, 90, octaves=4, roughness=0.6)
        share = np.clip(wave * strength + 0.12 * patchy, 0, 1)
        field = crop[:, kind] + share * (between - crop)[:, kind]
        field *= 1 + 0.28 * (hash01(seed, "tint", land.parcel) - 0.5) + 0.07 * patchy
        rough = self.spectra["grass"][:, None, None] * (1 + 0.16 * patchy)
        rough += _ramp(patchy + self._noise("scrub", 70), 0, 1.6) * (self.spectra["scrub"][:, None, None] - rough)
        self.image[:] = rough
        verge = 1.2 + 1.8 * hash01(seed, "verge", land.farm.row, land.farm.col)
        tilled = self._cover_of(land.border_m - verge) * (land.rough < 0.62) * self._cover_of(8 - self.relief.depth_m)
        self._paint(tilled, field, Cover.CROP)

    def _woods(self) -> None:
        """Where trees stand: woods on slopes, hedges along some fields, single trees."""
        land, relief = self.land, self.relief
        score = 0.8 * fractal(self.seed, "wood", self.y, self.x, 1_500, octaves=7, roughness=0.55)
        score += 2.2 * (relief.slope - 0.2) + 1.4 * (land.rough - 0.5) - 1.1 * (land.rough < 0.5)
        self.trees = _ramp(score, 0.30, 0.42)
        hedged = hash01(self.seed, "hedged", land.farm.row, land.farm.col) < 0.4
        self.trees = np.maximum(self.trees, 0.75 * hedged * self._cover_of(4 - land.border_m))
        self.trees = np.maximum(self.trees, 0.02)
        self.trees *= 1 - 0.97 * ((self.cover == Cover.CROP) & (self.trees < 0.05))

    def _shore_and_river(self) -> None:
        """The bare bank that a falling level leaves, the river with its alders."""
        depth = self.relief.depth_m
        ragged = 1.4 * fractal(self.seed, "bank", self.y, self.x, 60, octaves=3)
        bank = _ramp(depth + ragged, -4.2, -2.8)
        rings = 1 + 0.05 * np.sin(depth * 4 + ragged) + 0.07 * ragged
        self._paint(bank, self.spectra["bank"][:, None, None] * rings, Cover.SOIL)
        width = 8 + 2.5 * self._noise("width", 800)
        river = self._cover_of(width - self.relief.river_m)
        wooded = 0.8 * _ramp(width + 22 + 8 * ragged - self.relief.river_m, 0, 6) * (self._noise("alder", 200) > -0.6)
        self.trees = np.maximum(self.trees, wooded) * (1 - bank) * (1 - river)
        self._paint(river, 0.5 * (self.spectra["shallow"] + self.spectra["water"]), Cover.WATER)

    def _roads(self) -> None:
        """Main roads between districts, lanes and tracks between farms; no trees on them."""
        y, x = np.broadcast_arrays(self.y[:, None], self.x[None, :])
        bend = [220 * self._noise(f"road/{axis}", 1_400) + 40 * self._noise(f"road2/{axis}", 420) for axis in "yx"]
        main = voronoi(self.seed, "main road", y + bend[0], x + bend[1], MAIN_ROAD_M).edge_m
        farm = self.land.farm
        lane = np.where(farm.border < 0.45, farm.edge_m, np.float32(1e4))
        track = np.where((farm.border >= 0.45) & (farm.border < 0.8), farm.edge_m, np.float32(1e4))
        worn = 1 + 0.08 * self._noise("worn", 25)
        for distance, half_m, material in ((track, 1.6, "gravel"), (lane, 2.6, "asphalt"), (main, 4.6, "asphalt")):
            self.trees *= 1 - self._cover_of(half_m + 2.5 - distance)
            self._paint(self._cover_of(half_m + 1.5 - distance) * np.float32(0.5), self.spectra["gravel"])
            self._paint(self._cover_of(half_m - distance), self.spectra[material][:, None, None] * worn, Cover.ROAD)

    def _village(self) -> None:
        """Streets, gardens and houses in the directions of the farm they stand on."""
        land = self.land
        lived = _ramp(land.village, 0.02, 0.10)
        lonely = hash01(self.seed, "farmstead", land.farm.row, land.farm.col, *block_of(land)) < 0.012
        lived = np.maximum(lived, (0.9 * (lonely & (self.relief.slope < 0.15))).astype(np.float32))
        if not lived.any():
            return
        lots = make_lots(self.seed, land, self.paints)
        lived *= self._cover_of(-4.5 - self.relief.depth_m) * (self.cover != Cover.WATER)
        garden = self.spectra["garden"] + (lots.paved[..., None] > 0.55) * (
            self.spectra["yard"] - self.spectra["garden"]
        )
        mottle = 1 + 0.12 * fractal(self.seed, "mottle", self.y, self.x, 14, octaves=2)
        free = lived * (self.cover != Cover.ROAD)
        self._paint(free, np.moveaxis(garden, -1, 0) * mottle, Cover.GRASS)
        self.trees += free * (0.22 - self.trees)
        self._paint(free * self._cover_of(lots.street_m), self.spectra["asphalt"], Cover.ROAD)
        self.trees *= 1 - self._cover_of(lots.street_m + 2) * free
        house = self._cover_of(lots.inside_m) * (lots.built < 0.2 + 0.65 * lived) * (free > 0.3)
        self.trees *= 1 - np.clip(house * 2, 0, 1)
        self._shade(house, 6.0)
        self._paint(house, lots.roof, Cover.BUILDING)

    def _shade(self, mask: Floats, reach_m: float) -> None:
        """Darken what lies north west of ``mask``, where the morning sun casts its shadow."""
        shadow = mask
        for share in (0.5, 1.0):
            shift = -reach_m * share / self.pixel / np.sqrt(2)
            shadow = np.maximum(shadow, ndimage.shift(mask, (shift, shift), order=1, mode="nearest"))
        shadow = np.clip(shadow - mask, 0, 1)
        self.image *= 1 + shadow * (self.paints.shade[:, None, None] - 1)

    def _crowns(self) -> None:
        """Single crowns, lit from the south east, dark ground between them."""
        y, x = np.broadcast_arrays(self.y[:, None], self.x[None, :])
        sway = [3.5 * self._noise(f"sway/{axis}", 28) for axis in "yx"]
        crown: Cells = voronoi(self.seed, "crown", y + sway[0], x + sway[1], CROWN_M, jitter=0.9)
        chance, tone = (hash01(self.seed, f"crown/{part}", crown.row, crown.col) for part in ("stands", "tone"))
        radius = 3.0 + 1.6 * hash01(self.seed, "crown/size", crown.row, crown.col)
        out = np.sqrt(crown.dy_m**2 + crown.dx_m**2)
        stands = chance < self.trees
        dense = _ramp(self.trees, 0.5, 0.9)
        crowns = self._cover_of(np.minimum(radius - out, crown.edge_m + 0.8)) * stands
        leafy = _ramp(self._noise("leafy", 300) + 1.6 * (tone - 0.5), -0.2, 0.4)
        leaf = self.spectra["conifer"][:, None, None] * (1 - leafy) + self.spectra["broadleaf"][:, None, None] * leafy
        lit = 0.80 + 0.5 * (tone - 0.5) + 0.32 * (crown.dy_m + crown.dx_m) / radius - 0.25 * (out / radius) ** 2
        lit = lit * (1 + 0.10 * fractal(self.seed, "stand", self.y, self.x, 160, octaves=3))
        self._shade(crowns, 5.0)
        self._paint(dense, self.spectra["floor"])
        self._paint(crowns, leaf * np.clip(lit + 0.3, 0.35, 1.6))
        self.cover[(dense > 0.5) | (crowns > 0.5)] = Cover.FOREST

    def _unseen(self) -> None:
        """What only the other bands show: soils and leaves that differ in water, leaves that differ in chlorophyll."""
        grown = ~np.isin(self.cover, (Cover.ROAD, Cover.BUILDING))
        for trait, gains in (("moisture", self.paints.moisture), ("chlorophyll", self.paints.chlorophyll)):
            if gains.any():
                field = (2 * hash01(self.seed, f"{trait}/field", self.land.parcel) - 1) * (self.cover == Cover.CROP)
                patchy = 0.5 * fractal(self.seed, trait, self.y, self.x, 110, octaves=4)
                self.image *= np.exp(gains[:, None, None] * grown * (field + patchy))

    def _reservoir(self) -> None:
        """Still water: brighter where it is shallow or turbid."""
        depth = np.maximum(self.relief.depth_m, 0)
        shallow = np.exp(-depth / 2.2) * 0.8 + 0.10 * _ramp(self._noise("turbid", 700), -0.5, 1.5)
        ripple = 1 + 0.02 * fractal(self.seed, "ripple", self.y, self.x, 30, octaves=3, roughness=0.8)
        colour = self.spectra["water"][:, None, None] * (1 - shallow) + self.spectra["shallow"][:, None, None] * shallow
        self._paint(self.water, colour * ripple, Cover.WATER)
