"""Pictures: written whole, showing the right ground in colours that can be compared."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from geodiff.outputs.colour import Stretch, nice_length, shrink, textured_square
from geodiff.outputs.plots import View, closer_look, comparison, quicklook, thumbnail
from geodiff.schema import GeodiffError


def scene(scale: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Low resolution (4, 60, 90), its enlargement, an uncertainty; a hole at the upper left, texture at the right."""
    rng = np.random.default_rng(1)
    low = np.full((4, 60, 90), 0.1, np.float32) + rng.uniform(0, 0.01, (4, 60, 90)).astype(np.float32)
    low[:, 20:40, 60:80] += rng.uniform(0, 0.3, (4, 20, 20)).astype(np.float32)
    low[:, :10, :10] = np.nan
    mean = low.repeat(scale, axis=1).repeat(scale, axis=2)
    return low, mean, np.where(np.isfinite(mean), 0.01, np.nan).astype(np.float32)


def test_one_stretch_gives_equal_reflectance_equal_colour() -> None:
    low, mean, _ = scene()
    stretch = Stretch.of(low, (2, 1, 0))
    small, large = stretch.apply(low), stretch.apply(mean)
    np.testing.assert_array_equal(small, large[::4, ::4])
    assert small[..., :3].min() >= 0
    assert small[..., :3].max() <= 1
    assert (small[:10, :10, 3] == 0).all()
    assert (small[10:, :, 3] == 1).all()


def test_one_glaring_pixel_does_not_darken_the_picture() -> None:
    low, _, _ = scene()
    glaring = low.copy()
    glaring[:, 50, 50] = 9.0
    np.testing.assert_allclose(Stretch.of(glaring, (2, 1, 0)).span, Stretch.of(low, (2, 1, 0)).span, rtol=0.2)


@pytest.mark.parametrize("bands", [1, 2])
def test_fewer_than_three_bands_are_grey(bands: int) -> None:
    colours = Stretch.of(scene()[0][:bands], (2, 1, 0)).apply(scene()[0][:bands])
    assert colours.shape == (60, 90, 4)
    np.testing.assert_array_equal(colours[..., 0], colours[..., 2])


def test_the_closer_look_is_at_the_texture_and_beside_the_hole() -> None:
    low, mean, uncertainty = scene()
    top, left, side = textured_square(low, 20)
    assert (abs(top - 20), abs(left - 60), side) <= (1, 1, 20)
    assert textured_square(np.full((1, 5, 9), np.nan, np.float32), 20)[2] == 5
    close = closer_look(View(low, mean, uncertainty, 32.0))
    assert close.low.shape == (4, 20, 20)
    assert close.mean.shape == (4, 80, 80)
    row, col = round(close.top_m / 32), round(close.left_m / 32)
    np.testing.assert_array_equal(close.mean[:, ::4, ::4], low[:, row : row + 20, col : col + 20])


def test_the_rim_of_a_hole_is_no_texture() -> None:
    image = np.full((1, 60, 60), 0.3, np.float32)
    image[:, 5:25, 5:25] = np.nan
    image[:, 40:50, 40:50] += np.random.default_rng(0).uniform(0, 0.05, (10, 10)).astype(np.float32)
    top, left, side = textured_square(image, 12)
    assert np.isfinite(image[:, top : top + side, left : left + side]).all()
    assert min(top, left) >= 37


def test_a_pixel_of_which_one_colour_is_unknown_is_transparent() -> None:
    image = np.full((3, 4, 4), 0.1, np.float32)
    image[1, 2, 3] = np.nan
    alpha = Stretch.of(image, (2, 1, 0)).apply(image)[..., 3]
    assert np.argwhere(alpha == 0).tolist() == [[2, 3]]


def test_the_frame_is_drawn_where_the_closer_look_was_taken(tmp_path: Path) -> None:
    """Of an image and the same upside down: yellow lies higher in the picture whose texture does."""
    rng = np.random.default_rng(1)
    low = np.full((3, 60, 60), 0.1, np.float32)
    low[:, 2:18, 20:40] += rng.uniform(0, 0.3, (3, 16, 20)).astype(np.float32)
    heights = []
    for name, image in (("up.png", low), ("down.png", low[:, ::-1])):
        path = comparison({"truth": image}, pixel_m=40.0, title="", path=tmp_path / name)
        red, green, blue = imread(path)[..., :3].transpose(2, 0, 1)
        heights.append(float(np.argwhere((red > 0.95) & (green > 0.95) & (blue < 0.05))[:, 0].mean()))
    assert heights[0] < heights[1]


def test_shrinking_averages_what_is_there() -> None:
    image = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    image[0, 0, 0] = np.nan
    np.testing.assert_allclose(shrink(image, 2), [[[(1 + 4 + 5) / 3, 4.5], [8.5, 10.5]]])
    assert shrink(image, 4) is image
    assert np.isnan(shrink(np.full((1, 4, 4), np.nan, np.float32), 2)).all()


@pytest.mark.parametrize(("extent", "length"), [(3800, 1000), (640, 200), (50_000, 10_000), (2.9, 0.5)])
def test_scale_bars_are_round(extent: float, length: float) -> None:
    assert nice_length(extent) == pytest.approx(length)


@pytest.mark.parametrize("cloudy", [False, True])
def test_a_quicklook_is_drawn(tmp_path: Path, cloudy: bool) -> None:
    low, mean, uncertainty = scene()
    if cloudy:
        low, uncertainty = low * np.float32(np.nan), uncertainty * np.float32(np.nan)
    path = quicklook(
        low,
        mean,
        uncertainty,
        pixel_m=10,
        scale=4,
        dates=("2021-06-26", "2021-07-01"),
        title="A",
        path=tmp_path / "q.png",
    )
    picture = imread(path)
    assert picture.shape[1] > 2000
    # The three panels of the upper row differ from white paper and from each other.
    thirds = [picture[300:600, start : start + 300, :3] for start in (200, 900, 1700)]
    assert all(third.mean() < 0.95 for third in thirds)
    assert abs(thirds[1] - thirds[2]).mean() > 0.01
    assert [p.name for p in tmp_path.iterdir()] == ["q.png"]


@pytest.mark.parametrize("known", [True, False])
def test_a_quicklook_has_a_colour_bar_where_there_is_an_uncertainty(
    tmp_path: Path, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    bars: list[object] = []
    drawn = Figure.colorbar

    def seen(self: Figure, *args: Any, **kwargs: Any) -> Any:
        bars.append(args)
        return drawn(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "colorbar", seen)
    low, mean, uncertainty = scene()
    shown = uncertainty if known else uncertainty * np.float32(np.nan)
    quicklook(low, mean, shown, pixel_m=10, scale=4, dates=("2021-06-26",), title="A", path=tmp_path / "q.png")
    assert len(bars) == (2 if known else 0)


def test_a_quicklook_takes_a_prepared_detail(tmp_path: Path) -> None:
    low, mean, uncertainty = scene()
    detail = View(low[:, :8, :8], mean[:, :32, :32], uncertainty[:, :32, :32], 10.0)
    path = quicklook(
        low,
        low,
        uncertainty,
        pixel_m=100,
        scale=4,
        dates=("2021-06-26",),
        title="B",
        path=tmp_path / "q.png",
        detail=detail,
    )
    assert path.stat().st_size > 10_000


def test_a_comparison_takes_panels_of_different_pixel_size(tmp_path: Path) -> None:
    low, mean, _ = scene()
    panels = {"input": low, "bicubic": mean, "truth": mean}
    path = comparison(panels, pixel_m=2.5, title="C", path=tmp_path / "c.png", cpsnr_db={"bicubic": 35.56})
    assert imread(path).shape[1] > 2000


def test_a_thumbnail_is_small_and_transparent_where_nothing_was_seen(tmp_path: Path) -> None:
    picture = imread(thumbnail(scene()[1], tmp_path / "t.png", size=120))
    assert picture.shape == (80, 120, 4)
    assert picture[0, 0, 3] == 0
    assert picture[-1, -1, 3] == 1


def test_a_picture_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GeodiffError, match="cannot write"):
        thumbnail(scene()[1], tmp_path / "file" / "t.png")
