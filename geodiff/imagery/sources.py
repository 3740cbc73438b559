"""What we know about each catalogue: endpoint, names of bands, scale, offset and nodata, how links are signed.

The knowledge is data (``catalogs/sources.yaml``, and a user's own file of the same form); this module checks it.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import pystac
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from geodiff.schema import GeodiffError, UsageError, public

Kind = Literal["api", "static", "auto"]
Signing = Literal["none", "planetary-computer"]

ORIGIN = "geodiff:source"
"""Member of a saved ItemCollection: the name of the source whose rules its scenes follow."""

log = logging.getLogger(__name__)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class BandAlias(_Frozen):
    """One band: the asset names it may go by, best first, and its sampling distance in metres."""

    assets: tuple[str, ...] = Field(min_length=1)
    resolution_m: float = Field(gt=0, le=10_000)


class OffsetRule(_Frozen):
    """When digital numbers still carry the +1000 of processing baseline 04.00 (2022-01-25).

    The offset is added after the scale, in reflectance: ``reflectance = scale * DN + offset``. It is, in this order:
    zero where one of ``applied_properties`` is true on the item; zero where the baseline is known and older than
    ``from_baseline``; what the asset states (``raster:bands`` or ``raster:offset``) where ``trust_asset_offset``;
    ``value`` where the baseline is known, or one of ``applied_properties`` is false from 2022-01-25 on; else zero.
    """

    value: float = Field(default=-0.1, le=0, ge=-1)
    from_baseline: str = Field(default="04.00", pattern=r"^\d{2}\.\d{2}$")
    applied_properties: tuple[str, ...] = ()
    baseline_properties: tuple[str, ...] = ("s2:processing_baseline",)
    trust_asset_offset: bool = True


class Source(_Frozen):
    """One catalogue.

    Attributes:
        name: its key in ``sources.yaml``.
        kind: "api" (STAC API), "static" (linked JSON files) or "auto" (told by the root document).
        url: endpoint or root document; None only for the generic entry.
        default_collection: searched when the user names none.
        bands: our band name -> asset names and resolution.
        scl: asset names of the scene classification, best first; empty when there is none.
        scale, nodata: of the digital numbers, where an asset states none.
        offset: when to subtract the offset of baseline 04.00.
        cloud_property: item property with the cloud cover in percent.
        signing: how hrefs are made readable.
        gdal_env: GDAL settings that reading its assets needs.
        note: one sentence for the user.
    """

    name: str
    title: str = ""
    kind: Kind = "auto"
    url: str | None = None
    default_collection: str | None = None
    bands: dict[str, BandAlias] = Field(min_length=1)
    scl: tuple[str, ...] = ()
    scale: float = Field(default=0.0001, gt=0)
    nodata: float | None = 0.0
    offset: OffsetRule = OffsetRule()
    cloud_property: str = "eo:cloud_cover"
    signing: Signing = "none"
    gdal_env: dict[str, str] = Field(default_factory=dict)
    note: str = ""

    @field_validator("url")
    @classmethod
    def _known_form(cls, url: str | None) -> str | None:
        if url is not None and "://" in url and urlsplit(url).scheme not in ("http", "https"):
            raise ValueError("give an http(s) address or a path")
        return url

    @property
    def location(self) -> str:
        """Endpoint or path of the root document.

        Raises:
            UsageError: the generic entry was named without saying which catalogue.
        """
        if self.url is None:
            raise UsageError(f"source {self.name!r} has no address: give the URL or path of a catalogue instead")
        return self.url

    def asset_names(self, band: str) -> tuple[str, ...]:
        """Asset names that ``band`` may go by; a band that the source does not list goes by its own name."""
        alias = self.bands.get(band)
        return alias.assets if alias else (band,)

    def find_asset(self, item: pystac.Item, band: str) -> str:
        """The key of the asset of ``item`` that holds ``band``.

        Raises:
            UsageError: the scene has no such band; the message lists those it has.
        """
        for name in self.asset_names(band):
            if name in item.assets:
                return name
        have = [b for b, alias in self.bands.items() if any(a in item.assets for a in alias.assets)]
        known = ", ".join(have or sorted(item.assets)[:20]) or "no assets at all"
        raise UsageError(f"scene {item.id} has no band {band!r}; it has: {known}")

    def find_scl(self, item: pystac.Item) -> str | None:
        """The key of the scene classification asset, None where the scene has none."""
        return next((name for name in self.scl if name in item.assets), None)


def load_sources(extra: Path | None = None) -> dict[str, Source]:
    """All known sources by name; those of ``extra`` (same form) are added and win over ours.

    An entry may say ``like: <name>`` to start from an earlier one and state only what differs.

    Raises:
        GeodiffError: the file is missing, not YAML, or breaks the form; the message names file and key.
    """
    from geodiff.config import catalogs_dir

    raw: dict[str, dict[str, Any]] = {}
    found: dict[str, Source] = {}
    for path in [catalogs_dir() / "sources.yaml", *([extra] if extra else [])]:
        for name, entry in _read_entries(path).items():
            raw[name] = _inherit(entry, raw, where=f"{path}: sources.{name}")
            found[name] = _validate(name, raw[name], path)
    return found


def load_source(name_or_url_or_path: str, *, extra: Path | None = None) -> Source:
    """The source called ``name``, or the one that answers at a URL, or the generic rules for a catalogue on disk.

    Args:
        name_or_url_or_path: "earth-search", "https://…", "path/to/catalog.json" or its folder, or saved scenes
            (``catalog.save_items``), which keep the rules of the source that they came from.
        extra: a user's own sources file.

    Raises:
        UsageError: neither a known name, nor a URL, nor an existing file.
        GeodiffError: a sources file is broken.
    """
    text = name_or_url_or_path.strip()
    sources = load_sources(extra)
    if text in sources:
        return sources[text]
    generic = sources["static"]
    if text.startswith(("http://", "https://")):
        _require_sound(text)
        for source in sources.values():
            if source.url and (text.rstrip("/") + "/").startswith(source.url.rstrip("/") + "/"):
                same = text.rstrip("/") == source.url.rstrip("/")
                return source if same else source.model_copy(update={"url": text, "kind": "auto"})
        return generic.model_copy(update={"name": urlsplit(public(text)).netloc, "url": text})
    if "://" in text and not text.startswith("file://"):
        raise UsageError(f"catalogue {text!r}: only http(s) addresses and local paths can be opened")
    path = Path(unquote(urlsplit(text).path) if text.startswith("file://") else text).expanduser()
    path = path / "catalog.json" if path.is_dir() else path
    if not text or not path.is_file():
        raise UsageError(f"catalogue {text!r} is neither a file nor one of {', '.join(sources)} nor an http(s) address")
    path = path.resolve()
    if (origin := _origin(path)) is not None:
        if origin in sources:
            return sources[origin].model_copy(update={"kind": "static", "url": str(path)})
        log.warning("%s holds scenes of the source %r, which is not known here: generic rules apply", path, origin)
    return generic.model_copy(update={"name": path.parent.name or "local", "kind": "static", "url": str(path)})


def _require_sound(address: str) -> None:
    """Refuse an address of which nobody can tell where its password ends, without a word of it.

    Raises:
        UsageError: it is such a one.
    """
    try:
        _, host = urlsplit(address).port, urlsplit(address).netloc
    except ValueError:  # what stands for the port is no number
        host = ""
    if not host or re.search(r"\s", host):
        if "@" not in address:
            raise UsageError(f"catalogue {address!r}: its host or port cannot be told; ports are 0 to 65535")
        why = "its host cannot be told: write / ? # and blanks of a password as %2F %3F %23 and %20"
        raise UsageError(f"the catalogue's address is malformed, {why}")


def origin_of(source: Source) -> str | None:
    """What saved scenes say of their source: its name, None where the generic rules were used."""
    generic = load_sources()["static"]
    told = {"name": generic.name, "kind": generic.kind, "url": generic.url}
    return None if source.model_copy(update=told) == generic else source.name


def _origin(path: Path) -> str | None:
    """The source of the scenes in an ItemCollection, if it states one; other files say nothing of it."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None  # whoever reads the scenes says what is wrong with the file
    origin = document.get(ORIGIN) if isinstance(document, dict) else None
    return origin if isinstance(origin, str) else None


def _read_entries(path: Path) -> dict[str, dict[str, Any]]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GeodiffError(f"cannot read the sources file {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        first = str(error).splitlines()[0]
        raise GeodiffError(f"{path} is not YAML: {first}") from error
    entries = data.get("sources") if isinstance(data, Mapping) else None
    if not isinstance(entries, Mapping) or set(data) != {"sources"}:
        raise GeodiffError(f"{path}: the file must hold one key, 'sources', with one entry per catalogue")
    for name, entry in entries.items():
        if not isinstance(entry, Mapping):
            raise GeodiffError(f"{path}: sources.{name} must be a mapping of keys to values")
    return {str(name): dict(entry) for name, entry in entries.items()}


def _inherit(entry: dict[str, Any], earlier: Mapping[str, dict[str, Any]], *, where: str) -> dict[str, Any]:
    if "like" not in entry:
        return entry
    if entry["like"] not in earlier:
        raise GeodiffError(f"{where}.like: no source {entry['like']!r} before it; there are {', '.join(earlier)}")
    return {**earlier[entry["like"]], **{k: v for k, v in entry.items() if k != "like"}}


def _validate(name: str, entry: dict[str, Any], path: Path) -> Source:
    try:
        return Source.model_validate({**entry, "name": name})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(["sources", name, *(str(part) for part in first["loc"])])
        raise GeodiffError(f"{path}: {key}: {first['msg']}") from error
