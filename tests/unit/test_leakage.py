"""Who was trained where: names, footprints and the content of images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geodiff.imagery.ground import Place
from geodiff.schema import FloatArray, GeodiffError, UsageError
from geodiff.tasks.leakage import (
    ENOUGH,
    PER_IMAGE,
    Evidence,
    describe_ground,
    image_digests,
    refuse_training_ground,
    witnesses,
)


def texture(seed: int, shape: tuple[int, int] = (160, 160)) -> FloatArray:
    """Digital numbers of rough ground in whole steps, as a sensor delivers them, in reflectance."""
    numbers = np.random.default_rng(seed).normal(1500, 200, shape).round()
    return (numbers / 1e4).astype(np.float32)


def place(name: str, seed: int, *, footprint: tuple[float, float, float, float] | None = None, dates: int = 1) -> Place:
    images = np.stack(
        [np.stack([texture(100 * seed + 10 * date + band) for band in range(4)]) for date in range(dates)]
    )
    return Place(name, images, np.arange(dates, dtype=np.float64), 10.0, footprint=footprint)


def refused(card: dict[str, Any], **known: Any) -> str | None:
    try:
        refuse_training_ground(card, Evidence("lake", **known), model="m1")
    except UsageError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("trained", "names", "seen"),
    [
        ("boadella", ("boadella",), True),
        ("Boadella", ("BOADELLA", "x"), True),
        ("worldcereal/0001", ("0001",), True),
        ("worldcereal/0001", ("cubes/0001",), True),
        ("worldcereal/0001", ("worldcereal/0002",), False),
        ("worldcereal", ("worldcereal/0002",), True),
        ("ships", ("shipsides", "my-ships"), False),
        ("a/b", ("b/a",), True),  # by its last part: better too careful
        ("a/b", ("a",), False),
        ("worldcereal/0000280849BAC91C", ("S2_L2A_10m_0000280849BAC91C_32631",), True),
        ("worldstrat/ASMSpotter-1", ("ASMSpotter-1-3-2",), True),
        ("worldstrat/ASMSpotter-1", ("ASMSpotter-17-3-2", "ASMSpotter-17"), False),
        ("worldstrat/Landcover-7698", ("Landcover-769876",), False),
        ("short/b1", ("xb1x",), False),
        ("", ("",), False),
    ],
)
def test_names(trained: str, names: tuple[str, ...], seen: bool) -> None:
    for key in ("training_places", "places"):
        found = refused({key: [trained]}, names=names)
        assert (found is not None) == seen
    if seen:
        assert found is not None
        assert "place lake" in found
        assert "model m1" in found
        assert "\n" not in found


def test_exact_places_win_over_families() -> None:
    card = {"places": ["worldcereal"], "training_places": ["worldcereal/0001"]}
    assert refused(card, names=("worldcereal/0002",)) is None
    assert refused(card, names=("worldcereal/0001",)) is not None


def test_ground_of_the_calibration_counts_as_seen() -> None:
    card = {"places": ["naip"], "calibration": {"ground": {"places": ["naip/1m", "openeo/quintad"]}}}
    assert "calibrated on openeo/quintad" in str(refused(card, names=("cubes/quintad",)))
    assert refused(card, names=("cubes/1m",)) is None  # a strip of the training's own, whose family is named
    assert refused(card, names=("cubes/other",)) is None


@pytest.mark.parametrize(
    "card",
    [
        {"training_places": 3},
        {"places": "naip"},
        {"places": [["naip"]]},
        {"training_footprints": [[0, 0, 1, 1]]},
        {"training_footprints": {"p": [0, 0, "1", 1]}},
        {"training_footprints": {"p": [0, 0, 1]}},
        {"training_digests": {"p": [["00"]]}},
        {"training_digests": {"p": 7}},
    ],
)
def test_a_card_that_tells_nothing_readable_is_refused(card: dict[str, Any]) -> None:
    evidence = Evidence("lake", ("lake",), (0.0, 0.0, 1.0, 1.0), frozenset({"00"}))
    with pytest.raises(GeodiffError, match="card of model m1 has no readable") as caught:
        refuse_training_ground(card, evidence, model="m1")
    assert not isinstance(caught.value, UsageError)


@given(
    box=st.tuples(st.floats(-170, 160), st.floats(-80, 70), st.floats(0.01, 5), st.floats(0.01, 5)),
    move=st.tuples(st.floats(-12, 12), st.floats(-12, 12)),
)
def test_footprints_meet_exactly_when_both_axes_do(
    box: tuple[float, float, float, float], move: tuple[float, float]
) -> None:
    west, south, width, height = box
    mine = (west, south, west + width, south + height)
    other = [west + move[0], south + move[1], west + move[0] + width, south + move[1] + height]
    meet = min(mine[2], other[2]) > max(mine[0], other[0]) and min(mine[3], other[3]) > max(mine[1], other[1])
    assert (refused({"training_footprints": {"p": other}}, bbox=mine) is not None) == meet
    assert refused({"training_footprints": {"p": other}}) is None


def test_content_is_known_by_a_crop_under_other_radiometry() -> None:
    card = describe_ground([place("field", 1), place("town", 2)])
    image = texture(102)  # the red band of the field
    crop = (image[37:120, 21:140] * np.float32(1.27) + np.float32(0.031)).astype(np.float32)
    found = refused(card, digests=image_digests(crop))
    assert found is not None
    assert "training place field" in found
    assert refused(card, digests=image_digests(texture(999))) is None


def test_gaps_and_other_bands_do_not_hide_it() -> None:
    card = describe_ground([place("field", 1)])
    image = texture(102)
    image[40:90, 30:100] = np.nan
    assert refused(card, digests=image_digests(image)) is not None
    assert refused(card, digests=image_digests(texture(101))) is None  # green of the same ground


def test_smooth_ground_has_no_digests() -> None:
    rows, cols = np.mgrid[0:200, 0:200].astype(np.float32)
    for image in (rows * 1e-3 + cols * 2e-3, np.hypot(rows - 100, cols - 100) * 1e-3, np.zeros((200, 200), np.float32)):
        assert not image_digests(image)
    assert not image_digests(np.zeros((4, 300), np.float32))


def test_strips_find_what_the_whole_has() -> None:
    image = texture(5, (700, 40))
    whole = image_digests(image)
    # Cut where the strips meet: both halves overlap by what a block needs.
    parts = image_digests(image[:515]) | image_digests(image[510:])
    assert whole == parts


def test_the_card_is_small_and_json() -> None:
    card = describe_ground([place("a", 1, dates=3), place("b", 2, footprint=(1.0, 2.0, 3.0, 4.0))])
    assert card["training_places"] == ["a", "b"]
    assert card["training_footprints"] == {"b": [1.0, 2.0, 3.0, 4.0]}
    assert ENOUGH <= len(card["training_digests"]["b"]) <= PER_IMAGE
    assert len(card["training_digests"]["a"]) <= 3 * PER_IMAGE
    assert witnesses(card) == ["names", "footprints", "content"]
    assert witnesses({"places": ["x"]}) == ["names"]
    assert witnesses({}) == []


@dataclass(frozen=True)
class Huge:
    """Ground that must not be read at once."""

    name: str = "huge"
    footprint: None = None

    @property
    def days(self) -> npt.NDArray[np.float64]:
        return np.zeros(1)

    @property
    def size(self) -> tuple[int, int]:
        return 1200, 60

    def read(self, dates: Any, rows: slice, cols: slice) -> FloatArray:
        assert rows.stop - rows.start < 600
        image = texture(7, (1200, 60))[rows, cols]
        return np.stack([image, image, image])[None]


def test_strips_of_large_ground_lose_no_block_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geodiff.tasks.leakage.PER_IMAGE", 10**6)
    red = texture(1, (1030, 300))
    images = np.stack([texture(2, red.shape), texture(3, red.shape), red, texture(4, red.shape)])[None]
    card = describe_ground([Place("large", images, np.zeros(1), 10.0)])
    assert set(card["training_digests"]["large"]) == image_digests(red)


def test_large_ground_is_read_in_strips() -> None:
    card = describe_ground([Huge()])
    assert set(card["training_digests"]["huge"]) == set(sorted(image_digests(texture(7, (1200, 60))))[:PER_IMAGE])


def test_the_training_places_know_themselves_and_boadella_is_foreign(geodiff_data: Path) -> None:
    import rasterio

    def red(path: Path, band: int) -> FloatArray:
        with rasterio.open(path) as source:
            values: FloatArray = source.read(band).astype(np.float32) / np.float32(1e4)
        return values

    image = red(geodiff_data / "sentinel2" / "majortom_t48que" / "B04.tif", 1)
    card = describe_ground([Place("majortom", image[None, None].repeat(3, 1), np.zeros(1), 40.0)])
    assert refused(card, digests=image_digests(image[500:, 500:])) is not None
    for path in sorted((geodiff_data / "sentinel2" / "boadella").glob("*.tif"))[:3]:
        assert refused(card, digests=image_digests(red(path, 4))) is None
