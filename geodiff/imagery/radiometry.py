"""From digital numbers to reflectance: scale and nodata of an asset, and the offset of baseline 04.00 exactly once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import pystac

from geodiff.imagery.baseline import processing_baseline
from geodiff.imagery.sources import OffsetRule, Source
from geodiff.schema import FloatArray, GeodiffError

BRIGHTEST = 1.6
"""Reflectance hardly exceeds this even on snow; digital numbers of it hardly stay below."""

FIRST_DAY = date(2022, 1, 25)
"""On which baseline 04.00 came into use."""


MOST_NUMBER = float(np.finfo(np.float32).max)
"""Beyond this no digital number can be told, nor an offset in digital numbers."""


@dataclass(frozen=True, slots=True)
class BandRule:
    """How the numbers of one asset become reflectance: ``scale * DN + offset``, nothing where ``DN == nodata``.

    Attributes:
        scale: reflectance per digital number.
        offset: in reflectance, added after the scale.
        nodata: the digital number that stands for no data; None when there is none, NaN allowed.
        nodata_stated: whether the asset itself says so, and not the rules of its catalogue.
    """

    scale: float
    offset: float
    nodata: float | None
    nodata_stated: bool = field(default=False, compare=False)

    def apply(self, numbers: npt.NDArray[Any]) -> FloatArray:
        """Turn digital numbers of any type and shape into float32 reflectance, NaN where there is no data."""
        # The offset is brought to digital numbers first (-0.1 is -1000), so that the sum is exact in float32 and equal
        # ground gives equal reflectance before and after the change of baseline, to the last bit.
        values = numbers.astype(np.float32)
        if self.nodata is not None and not math.isnan(self.nodata):
            values[numbers == self.nodata] = np.nan
        shift = round(self.offset / self.scale, 6)
        if shift:
            values += np.float32(shift)
        inverse = round(1 / self.scale)
        if inverse and abs(inverse * self.scale - 1) < 1e-9:
            values /= np.float32(inverse)  # 1040 / 10000 is the float32 nearest to 0.104; 1040 * 0.0001 is not
        else:
            values *= np.float32(self.scale)
        return values


def band_rule(item: pystac.Item, asset_key: str, source: Source) -> BandRule:
    """Scale, offset and nodata of a reflectance asset; see ``OffsetRule`` for the order in which sources are believed.

    Args:
        item: the scene.
        asset_key: key of the asset in ``item.assets``.
        source: the catalogue's rules.

    Raises:
        GeodiffError: the asset states a scale, offset or nodata that is not a number, or a scale that is not positive
            or beyond single precision.
    """
    stated = _stated(item.assets[asset_key].extra_fields)
    where = f"scene {item.id}, asset {asset_key}"
    scale = _number(stated.get("scale"), f"{where}: scale")
    nodata = _number(stated.get("nodata"), f"{where}: nodata", finite=False)
    if scale is not None and scale <= 0:
        raise GeodiffError(f"{where}: scale {scale} is not positive; correct raster:bands of the item")
    scale = source.scale if scale is None else scale
    offset = _offset(item, _number(stated.get("offset"), f"{where}: offset"), source.offset)
    if max(1.0, abs(offset)) / scale > MOST_NUMBER:
        raise GeodiffError(f"{where}: scale {scale} is too small for an offset of {offset}; correct raster:bands")
    return BandRule(
        scale=scale,
        offset=offset,
        nodata=source.nodata if nodata is None else nodata,
        nodata_stated=nodata is not None,
    )


def _offset(item: pystac.Item, stated: float | None, rule: OffsetRule) -> float:
    flags = [_flag(item.properties[name]) for name in rule.applied_properties if name in item.properties]
    if any(flag is True for flag in flags):
        return 0.0
    baseline = processing_baseline(item, rule.baseline_properties)
    if baseline is not None and baseline < rule.from_baseline:
        return 0.0
    # Without a baseline whoever says "not applied" knows; before its day there was nothing to apply.
    refused = any(flag is False for flag in flags)
    raised = baseline is not None or (refused and _is_late(item))
    # An asset that states 0 while its item says "not applied" states the default of some writer, not a fact.
    if rule.trust_asset_offset and stated is not None and not (stated == 0 and raised and refused):
        return stated
    return rule.value if raised else 0.0


def _is_late(item: pystac.Item) -> bool:
    moment = item.datetime or item.common_metadata.start_datetime
    return moment is not None and moment.date() >= FIRST_DAY


def _flag(value: object) -> bool | None:
    return {"true": True, "false": False}.get(str(value).strip().lower())


def _stated(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What an asset says of its numbers, in any of three ways: raster extension 1 and 2, bands of STAC 1.1."""
    found: dict[str, Any] = {}
    for listed in ("raster:bands", "bands"):
        bands = fields.get(listed)
        first = bands[0] if isinstance(bands, list) and bands and isinstance(bands[0], Mapping) else {}
        for name in ("scale", "offset", "nodata"):
            found.setdefault(name, first.get(f"raster:{name}", first.get(name)))
            if found[name] is None:
                del found[name]
    for name in ("scale", "offset", "nodata"):
        value = fields.get(f"raster:{name}", fields.get(name))
        if name not in found and value is not None:
            found[name] = value
    return found


def _number(value: object, where: str, *, finite: bool = True) -> float | None:
    if value is None:
        return None
    try:
        number = float(str(value))
    except ValueError:
        number = math.inf
    if math.isinf(number) or (finite and math.isnan(number)):
        raise GeodiffError(f"{where} is {value!r}, which is not a number; correct raster:bands of the item")
    return number
