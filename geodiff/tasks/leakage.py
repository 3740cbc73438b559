"""Nothing is scored on ground that a model was trained on: what a model card stores of its ground, and who compares.

Three witnesses, for none of them sees everything: names (of places, scenes and collections), footprints in degrees,
and the content of the images. The content is told by *ordinal digests*: where the red band zigzags in both directions,
the order of the 36 values of a 6 x 6 block is hashed. The order survives any gain and offset, the zigzag is found again
in any crop, and smooth ground, which looks alike everywhere, has none. (Anchors chosen by the content itself: Manber
1994, "Finding similar files in a large file system"; the order of values as a descriptor: Zabih and Woodfill 1994.)
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from geodiff.schema import FloatArray, GeodiffError, UsageError

PLACES, FOOTPRINTS, DIGESTS = "training_places", "training_footprints", "training_digests"
"""Keys of a model card. The key ``places`` of older cards, families of places, stands in where the first is missing."""

Bbox = tuple[float, float, float, float]

BLOCK_PX = 6
PER_IMAGE = 48
"""Digests that a card keeps of one image: the smallest, so that a crop of half the ground holds about half of them."""

ENOUGH = 3
"""Common digests that make two images the same; a digest has 48 bits."""

DISTINCT = 8
"""Names of so many letters, a digit among them, are looked for inside longer names, such as those of files."""

_DIGEST_BITS = 48
_READ_ROWS = 512


class TrainingGround(Protocol):
    """What is needed of a training place (``imagery.ground.Ground``)."""

    @property
    def name(self) -> str: ...

    @property
    def days(self) -> npt.NDArray[np.float64]: ...

    @property
    def footprint(self) -> Bbox | None: ...

    @property
    def size(self) -> tuple[int, int]: ...

    def read(self, dates: Sequence[int], rows: slice, cols: slice) -> FloatArray: ...


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of a place that is to be scored.

    Attributes:
        site: for the message.
        names: of the place, its scenes and collections.
        bbox: (west, south, east, north) in degrees; None where it is not known.
        digests: of all its images (``image_digests``).
    """

    site: str
    names: tuple[str, ...] = ()
    bbox: Bbox | None = None
    digests: frozenset[str] = frozenset()


def describe_ground(places: Iterable[TrainingGround], *, band: int = 2) -> dict[str, Any]:
    """What a model card must store of the ground of its training.

    Args:
        places: everything that the training saw, whole.
        band: index of the red band.

    Returns:
        JSON-serialisable: ``training_places`` (names), ``training_footprints`` (name to west, south, east, north in
        degrees, of places that have one) and ``training_digests`` (name to hexadecimal digests, sorted).
    """
    names: set[str] = set()
    footprints: dict[str, list[float]] = {}
    digests: dict[str, list[str]] = {}
    for place in places:
        names.add(place.name)
        if place.footprint is not None:
            footprints[place.name] = [round(float(side), 6) for side in place.footprint]
        found = set(digests.get(place.name, ()))
        for date in range(len(place.days)):
            found.update(sorted(_place_digests(place, date, band))[:PER_IMAGE])
        digests[place.name] = sorted(found)
    return {PLACES: sorted(names), FOOTPRINTS: footprints, DIGESTS: digests}


def _place_digests(place: TrainingGround, date: int, band: int) -> set[str]:
    """Of one date, read in strips: an orthophoto may be larger than the memory."""
    rows, cols = place.size
    found: set[str] = set()
    for top in range(0, rows, _READ_ROWS):
        strip = place.read([date], slice(top, min(top + _READ_ROWS + BLOCK_PX - 1, rows)), slice(0, cols))[0]
        found.update(_strip_digests(strip[min(band, len(strip) - 1)]))
    return found


def image_digests(image: npt.NDArray[np.floating[Any]]) -> frozenset[str]:
    """Ordinal digests of one band, (y, x); NaN is left out. Strips are looked at one after the other."""
    found: set[str] = set()
    for top in range(0, max(image.shape[0] - BLOCK_PX + 1, 0), _READ_ROWS):
        found.update(_strip_digests(image[top : top + _READ_ROWS + BLOCK_PX - 1]))
    return frozenset(found)


def _strip_digests(image: npt.NDArray[np.floating[Any]]) -> Iterator[str]:
    if min(image.shape) < BLOCK_PX:
        return
    blocks = np.lib.stride_tricks.sliding_window_view(image, (BLOCK_PX, BLOCK_PX))
    zigzag = np.ones(blocks.shape[:2], np.bool_)
    for step in range(4):
        row, nxt = blocks[..., 2, step], blocks[..., 2, step + 1]
        column, below = blocks[..., step, 2], blocks[..., step + 1, 2]
        zigzag &= (row < nxt) & (column > below) if step % 2 else (row > nxt) & (column < below)
    chosen = blocks[zigzag].reshape(-1, BLOCK_PX * BLOCK_PX)
    chosen = chosen[np.isfinite(chosen).all(1)]
    order = np.argsort(chosen, axis=1, kind="stable").astype(np.uint8)
    for ranks in order:
        yield hashlib.blake2b(ranks.tobytes(), digest_size=_DIGEST_BITS // 8).hexdigest()


def refuse_training_ground(card: Mapping[str, Any], evidence: Evidence, *, model: str) -> None:
    """Refuse to score a model on a place that it was trained on.

    Args:
        card: of the model; what it does not tell cannot be compared.
        evidence: of the place.
        model: for the message.

    Raises:
        UsageError: by name, footprint or content; one line that names the place, the model and the reason.
        GeodiffError: a card that tells its ground in no known form, so that nothing could be compared.
    """
    _check(card, model)
    reason = _by_name(card, evidence) or _by_footprint(card, evidence) or _by_content(card, evidence)
    if reason:
        raise UsageError(
            f"place {evidence.site} was seen in the training of model {model} ({reason}): "
            "leave this place or this model out, scores there would prove nothing"
        )


def _check(card: Mapping[str, Any], model: str) -> None:
    """Raises GeodiffError for a card whose witnesses are not of the form of ``describe_ground``."""

    def named(value: object, good: Callable[[object], bool]) -> bool:
        return value is None or (isinstance(value, dict) and all(good(one) for one in value.values()))

    forms = {
        FOOTPRINTS: named(card.get(FOOTPRINTS), _is_box),
        DIGESTS: named(card.get(DIGESTS), _is_texts),
        **{key: card.get(key) is None or _is_texts(card[key]) for key in (PLACES, "places")},
    }
    wrong = next((key for key, good in forms.items() if not good), None)
    if wrong:
        raise GeodiffError(f"the card of model {model} has no readable {wrong}: fetch it again, or train again")


def _is_box(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 4 and all(isinstance(one, int | float) for one in value)


def _is_texts(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)


def calibration_ground(card: Mapping[str, Any]) -> list[str]:
    """Places that members and intervals were fitted on, beside strips of the training's own."""
    told = card.get("calibration")
    ground = told.get("ground") if isinstance(told, dict) else None
    places = ground.get("places") if isinstance(ground, dict) else None
    trained = {str(name).split("/")[0] for key in (PLACES, "places") for name in card.get(key) or ()}
    return [str(name) for name in places or () if str(name).split("/")[0] not in trained]


def witnesses(card: Mapping[str, Any]) -> list[str]:
    """What of a card can speak for unseen ground: among ``names``, ``footprints`` and ``content``."""
    told = {"names": card.get(PLACES) or card.get("places"), "footprints": card.get(FOOTPRINTS)}
    told["content"] = card.get(DIGESTS)
    return [name for name, value in told.items() if value]


def _by_name(card: Mapping[str, Any], evidence: Evidence) -> str | None:
    for place in card.get(PLACES) or card.get("places") or ():
        wanted = _parts(str(place))
        for name in evidence.names:
            if wanted and _holds(_parts(name), wanted):
                return f"{name} is its training place {place}"
    for place in calibration_ground(card):
        for name in evidence.names:
            if _holds(_parts(name), _parts(place)):
                return f"its intervals were calibrated on {place}"
    return None


def _parts(name: str) -> list[str]:
    return [part for part in re.split(r"[/\\]+", name.strip().casefold()) if part]


def _holds(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    """All parts of a place stand in a name; or the last one does, when it is one of a family or hardly by chance."""
    last = wanted[-1]
    if len(wanted) > 1 and last in parts:
        return True
    if len(last) >= DISTINCT and any(letter.isdigit() for letter in last) and any(_inside(last, p) for p in parts):
        return True
    count = len(wanted)
    return any(list(parts[i : i + count]) == list(wanted) for i in range(len(parts) - count + 1))


def _inside(word: str, text: str) -> bool:
    """A name within a longer one, as a word: Spotter-1 is in Spotter-1-3-2, but not in Spotter-17."""
    return word in text and re.search(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])", text) is not None


def _by_footprint(card: Mapping[str, Any], evidence: Evidence) -> str | None:
    if evidence.bbox is None:
        return None
    west, south, east, north = evidence.bbox
    for place, box in (card.get(FOOTPRINTS) or {}).items():
        if min(east, box[2]) > max(west, box[0]) and min(north, box[3]) > max(south, box[1]):
            return f"it overlaps the footprint of its training place {place}"
    return None


def _by_content(card: Mapping[str, Any], evidence: Evidence) -> str | None:
    for place, digests in (card.get(DIGESTS) or {}).items():
        common = len(evidence.digests.intersection(digests))
        if common >= ENOUGH:
            return f"{common} blocks of its images are those of its training place {place}"
    return None
