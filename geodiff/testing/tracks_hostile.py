"""Bytes that nobody should send, and what readers of fixes must make of them: tables that add up, or one line of error.

Fuzzers feed the ``TARGETS``, starting from ``seeds()``; a target that returns is content, any exception is a finding.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import zipfile
from collections.abc import Callable
from functools import reduce
from operator import xor
from pathlib import Path
from typing import Any, Final

import polars as pl
import zstandard

from geodiff.schema import GeodiffError
from geodiff.testing.nmea import checksum, message, position, tagged
from geodiff.vessels.nmea import NmeaReader
from geodiff.vessels.nmea_bytes import LineSource
from geodiff.vessels.radar import RadarSensor
from geodiff.vessels.radar_autoferry import read_autoferry, read_autoferry_truth
from geodiff.vessels.read import open_fixes

HEAD: Final = "MMSI,BaseDateTime,LAT,LON,SOG,COG,Heading,VesselName,IMO,VesselType,Status,Length\n"
ROWS: Final = [
    f'{219000001 + n % 3},2020-01-01T00:{n:02d}:00,55.0{n:02d},10.5,{n}.1,80.0,511,"A, {n}",IMO9{n:06d},70,0,90\n'
    for n in range(20)
]
TABLE: Final = (HEAD + "".join(ROWS)).encode()
"""A sound table of the layout ``noaa``."""

SENSOR: Final = RadarSensor(10.39, 63.43)
SPLIT: Final = b"\n---8<---\n"
"""Between a column map and its table."""

_CHECKED = re.compile(rb"([!$\\])([^!$\\*\r\n]*)\*[0-9A-Fa-f]{2}")


def packed_tables() -> list[bytes]:
    """The sound table in every form that is told by its bytes: text, Parquet, gzip, zstd, zip."""
    parquet, archive = io.BytesIO(), io.BytesIO()
    pl.read_csv(TABLE).write_parquet(parquet)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.csv", TABLE)
    return [TABLE, parquet.getvalue(), gzip.compress(TABLE), zstandard.compress(TABLE), archive.getvalue()]


def read_or_refuse(path: Path, rows: int = 500_000, **options: Any) -> None:
    """Read a file as its bytes say.

    Args:
        path: of the file.
        rows: of a batch.
        options: of ``open_fixes``.

    Raises:
        AssertionError: what was read does not add up, or an error takes more than one line.
    """
    try:
        reader = open_fixes(path, **options)
        batches = list(reader.batches(rows=rows))
    except GeodiffError as error:
        _check_line(error)
        return
    counts = reader.counts
    assert sum(batch.height for batch in batches) == counts.kept
    skipped = sum(reader.skipped.values()) if isinstance(reader, NmeaReader) else 0
    assert counts.read == counts.kept + sum(counts.refused.values()) + skipped
    for batch in batches:
        _check_fixes(batch)


def _check_line(error: GeodiffError) -> None:
    assert len(str(error).splitlines()) == 1, repr(str(error))


def _check_fixes(batch: pl.DataFrame) -> None:
    assert batch.select("time", "lon_deg", "lat_deg", "row", "source").null_count().sum_horizontal().item() == 0
    outside = ~pl.col("lat_deg").is_between(-90, 90) | ~pl.col("lon_deg").is_between(-180, 180)
    assert batch.filter(outside | ~pl.col("cog_deg").is_between(0, 360, closed="left")).is_empty()


def fuzz_table(data: bytes, folder: Path) -> None:
    """Any file, told by its bytes."""
    path = folder / "a"
    path.write_bytes(data)
    read_or_refuse(path)


def fuzz_nmea(data: bytes, folder: Path) -> None:
    """A recording of sentences. The first byte says how it is cut into blocks, and whether checksums are put right."""
    flags, raw = data[0] if data else 0, data[1:]
    raw = raw if flags & 1 else _CHECKED.sub(_checked, raw)
    block = 1 << 20 if flags & 2 else 256
    reader = NmeaReader(LineSource(io.BytesIO(raw), block))
    try:
        batches = list(reader.batches())
    except GeodiffError as error:
        _check_line(error)
        return
    counts = reader.counts
    assert sum(batch.height for batch in batches) == counts.kept
    assert counts.read == counts.kept + sum(counts.refused.values()) + sum(reader.skipped.values())
    for batch in batches:
        _check_fixes(batch)


def _checked(found: re.Match[bytes]) -> bytes:
    return b"%s%s*%02X" % (found[1], found[2], reduce(xor, found[2], 0))


def fuzz_radar(data: bytes, folder: Path) -> None:
    """Plots in ranges or metres, and the harbour scenarios in JSON."""
    path = folder / "a"
    path.write_bytes(data)
    read_or_refuse(path, sensor=SENSOR)
    for read in (read_autoferry, read_autoferry_truth):
        try:
            fixes = read(path)
        except GeodiffError as error:
            _check_line(error)
        else:
            _check_fixes(fixes)


def fuzz_map(data: bytes, folder: Path) -> None:
    """A column map of a user, and behind ``SPLIT`` the table that it is for."""
    told, _, table = data.partition(SPLIT)
    (folder / "map.yaml").write_bytes(told)
    (folder / "a").write_bytes(table)
    read_or_refuse(folder / "a", layout=folder / "map.yaml")


TARGETS: Final[dict[str, Callable[[bytes, Path], None]]] = {
    "table": fuzz_table,
    "nmea": fuzz_nmea,
    "radar": fuzz_radar,
    "map": fuzz_map,
}
"""What is fuzzed: takes bytes and a folder for its files."""


def seeds() -> dict[str, list[bytes]]:
    """Sound inputs of each target."""
    others = [
        "# Timestamp,Type of mobile,MMSI,Latitude,Longitude,Navigational status,ROT,SOG,COG,Heading,IMO,Callsign,Name,"
        "Ship type,Cargo type,Width,Length,Type of position fixing device,Draught,Destination,ETA,Data source type\n"
        "31/12/2015 23:59:59,Class A,257385000,57.12,8.64,Under way using engine,,10.2,55.9,52,9,LA,N,Cargo,,12,90,GPS,"
        "5,HAMBURG,,AIS\n",
        "mmsi;date_time_utc;lon;lat;sog;cog;true_heading;nav_status;message_nr\n"
        '257000001;"2020-01-01 00:00:01";10,5;59,1;3,2;100,1;511;0;1\n',
        "MMSI,SHIP_ID,TIMESTAMP,LON,LAT,SPEED,COURSE\n219000001,7,2020-01-01T00:00:00,10.5,55.1,32,80\n",
    ]
    return {
        "table": [*packed_tables(), *(text.encode() for text in others)],
        "nmea": [bytes([flags]) + text.encode() for flags in (0, 3) for text in _recordings()],
        "radar": [text.encode() for text in _plots()],
        "map": [told.encode() + SPLIT + TABLE[:600] for told in _maps()],
    }


def _recordings() -> list[str]:
    voyage = message(
        msg_type=5, mmsi=244_660_274, shipname="A", callsign="B", ship_type=70, to_bow=50, to_stern=10, draught=4.2
    )
    clock = "GPZDA,120000.00,01,01,2020,00,00"
    single = [position(msg_type=kind) for kind in (1, 3, 4, 9, 18, 19, 21, 27)]
    return [
        "".join(tagged(line, c=1_700_000_000 + n, s="r1") + "\n" for n, line in enumerate(single)),
        "".join(f"2020-01-01T00:00:{n:02d}Z {line}\n" for n, line in enumerate([*voyage, *single])),
        "".join(tagged(line, g=f"{n}-{len(voyage)}-77", c=1_700_000_000) + "\n" for n, line in enumerate(voyage, 1)),
        f"${clock}*{checksum(clock)}\n" + voyage[1] + "\n" + voyage[0] + "\n" + single[0] + "\n",
        f"$PGHP,1,2020,1,1,0,0,0,0,338,2,,1,0D*1E\n{single[0]}\n{single[1]},r1,1577836800\n",
    ]


def _plots() -> list[str]:
    scan = {"sensorID": 2, "ownshipPosition": [1.0, 2.0], "time": 1.6e9, "measurement": [[3.0, 4.0], [5.0, 6.0]]}
    truth = [{"targetID": 1, "position": [1.0, 2.0, 0.0], "time": 1.6e9}]
    return [
        "time,range_m,bearing_deg\n2020-01-01T00:00:00Z,1200.5,45.2\n2020-01-01T00:00:03Z,1190.0,45.9\n",
        "time,north_m,east_m\n2020-01-01T00:00:00Z,1200.5,-45.2\n2020-01-01T00:00:03Z,1190.0,-45.9\n",
        json.dumps([scan, {**scan, "measurement": [3.0, 4.0]}]),
        json.dumps([truth]),
    ]


def _maps() -> list[str]:
    plain = "{vessel_id: MMSI, time: BaseDateTime, lon_deg: LON, lat_deg: LAT"
    return [
        f"columns: {plain}, sog_kn: {{column: SOG, scale: 1.9}}, name: VesselName}}\n",
        f"name: x\nkind: ais\ncolumns: {plain}, ship_type: {{column: VesselType, values: {{a: 70}}, nulls: [0]}}}}\n"
        "apart: [{column: Status, values: [9], reason: base station}]\nnulls: ['', '-']\ndelimiter: ','\n",
        "columns:\n  time: {column: BaseDateTime, formats: ['%Y-%m-%dT%H:%M:%S'], timezone: Europe/Oslo}\n"
        "  vessel_id: {column: [IMO, MMSI], kind: text, join: [VesselName]}\n  lon_deg: LON\n  lat_deg: LAT\n"
        "  length_m: {column: Length, plus: SOG}\n  rot_deg_min: {column: COG, ais_rot: true}\nstatic_rows: true\n",
    ]
