"""Typed settings: YAML in, an unknown key is an error, the whole of it is stored in every output.

Settings say *what* is computed. Where and how fast it runs (workers, scheduler, output folder) is not in them, so that
the same request has the same hash on every machine.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails, to_jsonable_python

from geodiff.dates import parse_interval
from geodiff.grid import MAX_RESOLUTION_M, MIN_RESOLUTION_M, check_bbox
from geodiff.schema import BANDS_10M, GeodiffError, UsageError

DATA_VARIABLE = "GEODIFF_DATA"

Bbox = tuple[float, float, float, float]


def catalogs_dir() -> Path:
    """The folder of packaged data: sources, models with their weights, named regions.

    Inside the package in an installed wheel, beside it in a checkout or an editable install.

    Raises:
        GeodiffError: the installation is incomplete.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "catalogs", package.parent / "catalogs"):
        if folder.is_dir():
            return folder
    raise GeodiffError(
        f"no catalogs folder in {package} or beside it: the installation is incomplete, reinstall geodiff"
    )


def data_dir() -> Path | None:
    """The folder of real data for tests, demo and training; None where there is none.

    ``GEODIFF_DATA`` names it; an empty value means none. Without the variable, ``../shared/data`` beside a checkout.

    Raises:
        UsageError: ``GEODIFF_DATA`` names something that is not a folder.
    """
    named = os.environ.get(DATA_VARIABLE)
    if named is not None:
        folder = Path(named).expanduser()
        if named and not folder.is_dir():
            raise UsageError(
                f"{DATA_VARIABLE}={named} is not a folder: correct it, or unset it to do without real data"
            )
        return folder.resolve() if named else None
    checkout = Path(__file__).resolve().parents[1]
    folder = checkout.parent / "shared" / "data"
    return folder if (checkout / "pyproject.toml").is_file() and folder.is_dir() else None


def config_hash(settings: object) -> str:
    """Sixteen hexadecimal digits that name a value: equal for equal settings, on every machine and in every order.

    Args:
        settings: a settings object, or mappings, sequences and plain values (sets have no order and are refused).

    Raises:
        TypeError: the value holds something that JSON cannot say.
    """
    return hashlib.blake2b(canonical_json(settings).encode(), digest_size=8).hexdigest()


def canonical_json(settings: object) -> str:
    """JSON with sorted keys and no spaces: one text for one value."""
    return json.dumps(
        settings, default=_plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def _plain(value: object) -> object:
    if isinstance(value, set | frozenset):
        raise TypeError("a set has no order: sort it into a tuple")
    return to_jsonable_python(value)


def read_yaml(path: Path) -> dict[str, object]:
    """Read the keys and values of a settings file, not yet checked.

    Raises:
        UsageError: the file cannot be read, is not YAML, or holds no mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot read settings ({getattr(error, 'strerror', None) or error})") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # 2020-13-45 is a ValueError of its own
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        raise UsageError(f"{path}: not YAML{line} ({getattr(error, 'problem', None) or 'unreadable'})") from None
    if not isinstance(values, dict):
        raise UsageError(f"{path}: settings are a list of `key: value`, this file holds {type(values).__name__}")
    return values


class Settings(BaseModel):
    """Base of all settings: frozen, and strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def parse(cls, values: Mapping[str, object], *, where: str = "settings") -> Self:
        """Check plain values.

        Args:
            values: as read from YAML or the command line.
            where: how the error names their origin.

        Raises:
            UsageError: one line that names the key, what is wrong with it, and for an unknown key the nearest known.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            problems = error.errors(include_url=False)
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise UsageError(f"{where}: {_explain(cls, problems[0])}{more}") from None
        except UsageError as error:  # raised by a rule that other rooms share, for instance check_bbox
            raise UsageError(f"{where}: {error}") from None

    def to_json(self) -> str:
        """The settings as indented JSON, every default spelled out; ``parse(json.loads(...))`` gives them back."""
        return self.model_dump_json(indent=2)


def _explain(model: type[BaseModel], problem: ErrorDetails) -> str:
    path = [str(part) for part in problem["loc"]]
    key = ".".join(path) or "the whole"
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path[-1], known := _keys_at(model, path[:-1]), n=1, cutoff=0.0)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        return f"unknown key {key!r}, {hint}"
    if problem["type"] == "missing":
        return f"key {key!r} is missing"
    message = problem["msg"].removeprefix("Value error, ").replace("\n", " ")
    plain = isinstance(problem["input"], str | int | float | None) and path
    return f"{key}: {message}" + (f" (got {problem['input']!r})" if plain else "")


def _keys_at(model: type[BaseModel], path: list[str]) -> list[str]:
    """Names of the fields of ``model``, or of the settings nested in it at ``path``."""
    for part in path:
        field = model.model_fields.get(part)
        annotation = field.annotation if field else None
        inner = [t for t in (annotation, *get_args(annotation)) if isinstance(t, type) and issubclass(t, BaseModel)]
        if not inner:
            return []
        model = inner[0]
    return list(model.model_fields)


class MaskConfig(Settings):
    """Which pixels of a date count as observed.

    Attributes:
        scl_classes: classes of the Sentinel-2 scene classification that are hidden: no data, saturated, cloud shadow,
            cloud of medium and of high probability, thin cirrus.
        dilation_m: how far a hidden area grows, in metres; the classification is 20 m and misses the rims of clouds.
        spectral_screen: look for clouds by their brightness where a scene has no classification.
        min_clear: dates with a smaller share of clear pixels over the region (0-1) are left out.
    """

    scl_classes: tuple[Annotated[int, Field(ge=0, le=11)], ...] = (0, 1, 3, 8, 9, 10)
    dilation_m: float = Field(40.0, ge=0, le=2_000)
    spectral_screen: bool = True
    min_clear: float = Field(0.05, ge=0, le=1)


class TileConfig(Settings):
    """How a region is cut for the model, in low-resolution pixels; see ``grid.TilePlan``."""

    core: int = Field(128, ge=16, le=2_048)
    feather: int = Field(8, ge=0)
    halo: int = Field(16, ge=0, le=256)

    @model_validator(mode="after")
    def _feathers_do_not_meet(self) -> Self:
        if 2 * self.feather > self.core:
            raise ValueError(f"feather {self.feather} is more than half of core {self.core}")
        return self


class RestoreConfig(Settings):
    """What is restored of a cube, and how; shared by the main job and ``geodiff.superres``.

    Attributes:
        target: the day to restore, within 60 days of the found dates; None for the best date, or those of ``every``.
        every: a series of targets, one every so many days from the first found date to the last (``10D``).
        max_dates: most dates that one target is restored from; they are chosen for the region as a whole.
        ensemble: members behind the uncertainty; the reflectance is the expectation, of one pass, and does not depend
            on them.
        level: of the interval whose half-width is the uncertainty: the truth lies within reflectance plus or minus
            uncertainty with this probability, as calibrated on places that the training never saw.
        seed: of the noise.
        passes: evaluations of the denoiser per member.
        keep_member: give the first member beside reflectance and uncertainty.
        dial: between perception and distortion, for the member: 1 is a sample, as sharp as real imagery; 0 is the
            reflectance itself, whose expected error is the least.
        layers: further layers: ``guessed``, the share of the local variance that the observations do not decide.
    """

    target: date | None = None
    every: str | None = Field(None, pattern=r"^[1-9]\d{0,3}D$")
    max_dates: int = Field(6, ge=1, le=32)
    ensemble: int = Field(4, ge=1, le=256)
    seed: int = Field(0, ge=0)
    passes: int = Field(2, ge=1, le=64)
    keep_member: bool = False
    level: float = Field(0.9, gt=0, lt=1)
    dial: float = Field(1.0, ge=0, le=1)
    layers: tuple[Literal["guessed"], ...] = ()

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if self.target is not None and self.every is not None:
            raise ValueError("give one of target and every")
        return self


class SuperresConfig(RestoreConfig):
    """One super-resolution run: everything that decides the stored values.

    Attributes (and those of ``RestoreConfig``):
        catalog: name of a source (``catalogs/sources.yaml``), URL of a STAC API, URL or path of a static catalogue or
            of an ItemCollection (``items.json``).
        sources: path of your own sources, in the form of ``catalogs/sources.yaml``.
        collections: collections to search; empty for all of a static catalogue.
        bbox: (west, south, east, north) in degrees; this or ``region``.
        region: a GeoJSON geometry in degrees; this or ``bbox``.
        datetime: ``A/B`` in UTC, both days included.
        bands: bands to restore.
        resolution_m: pixel side of the low-resolution grid in metres.
        crs: grid of the output; None for UTM of the region, ``native`` for that of the scenes.
        max_cloud: scenes with more cloud in percent, by their metadata, are not read.
        model: name of a model in ``catalogs/models`` or path of its STAC item.
        mask: what counts as observed.
        tile: how the region is cut.
        coregister: estimate and use the sub-pixel shift of each date.
        format: ``zarr``, or ``cog`` to write GeoTIFFs as well.
    """

    catalog: str = Field(min_length=1)
    sources: str | None = None
    collections: tuple[str, ...] = ()
    bbox: Bbox | None = None
    region: dict[str, object] | None = None
    datetime: str
    bands: tuple[str, ...] = Field(BANDS_10M, min_length=1)
    resolution_m: float = Field(10.0, ge=MIN_RESOLUTION_M, le=MAX_RESOLUTION_M)
    crs: str | None = None
    max_cloud: float | None = Field(None, ge=0, le=100)
    model: str = Field("s2x4", min_length=1)
    mask: MaskConfig = MaskConfig()
    tile: TileConfig = TileConfig()
    coregister: bool = True
    format: Literal["zarr", "cog"] = "zarr"

    @field_validator("bbox")
    @classmethod
    def _bbox_is_on_earth(cls, bbox: Bbox | None) -> Bbox | None:
        if bbox is not None:
            check_bbox(bbox)
        return bbox

    @field_validator("datetime")
    @classmethod
    def _dates_are_ordered(cls, text: str) -> str:
        parse_interval(text)
        return text

    @field_validator("bands")
    @classmethod
    def _bands_differ(cls, bands: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(bands)) < len(bands):
            raise ValueError("a band is named twice")
        return bands

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.bbox is None) == (self.region is None):
            raise ValueError("give one of bbox and region")
        return self
