"""The files of a run over tracks: parts and resumption, GeoParquet, the CF store, the STAC item."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import geopandas as gpd
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pystac
import pytest
import shapely
import xarray as xr

from geodiff.outputs import track_store as module
from geodiff.outputs.atomic import explained
from geodiff.outputs.ledger import work_folder
from geodiff.outputs.published import find_item
from geodiff.outputs.track_columns import MEMBERS, answer_columns, quantile_columns, standard_frame
from geodiff.outputs.track_item import (
    TrackInput,
    TrackRecord,
    build_track_item,
    fixes_by_input,
    publish_tracks,
)
from geodiff.outputs.track_layer import count_tracks, summarise_tracks
from geodiff.outputs.track_parquet import provenance_of
from geodiff.outputs.track_store import TrackStore
from geodiff.outputs.track_zarr import read_track_zarr, write_track_zarr
from geodiff.schema import GeodiffError
from geodiff.sphere import distance_km, move, wrap_longitude
from geodiff.testing.tracks import make_fleet
from geodiff.tracks import STATES, TrackAnswer

START = datetime(2024, 5, 1, tzinfo=UTC)


def track(name: str, lon: Sequence[float], lat: Sequence[float], states: Sequence[str] | None = None) -> pl.DataFrame:
    """A track with a fix every minute."""
    times = [START + timedelta(minutes=minute) for minute in range(len(lon))]
    columns = {
        "track_id": [name] * len(lon),
        "state": list(states or ["observed"] * len(lon)),
        "time": times,
        "lon_deg": list(lon),
        "lat_deg": list(lat),
        "vessel_id": [int(name[0])] * len(lon),
    }
    return pl.DataFrame(columns).with_columns(pl.col("time").cast(pl.Datetime("us", "UTC")))


def store_of(folder: Path, *parts: pl.DataFrame) -> TrackStore:
    store = TrackStore(folder, "run")
    store.open()
    for number, part in enumerate(parts):
        store.write_part(f"p{number}", part)
    return store


def bytes_of(store: TrackStore) -> dict[str, bytes]:
    paths = sorted(path for path in store.folder.rglob("*") if path.is_file())
    return {str(path.relative_to(store.folder)): path.read_bytes() for path in paths}


EAST = track("1/a", [10.0, 10.1, 10.2], [50.0, 50.1, 50.2], ["observed", "imputed", "rejected"])
FIJI = track("2/a", [179.8, -179.9, -179.7], [-17.0, -17.2, -17.3])
STILL = track("3/a", [5.0, 5.0, 5.0], [1.0, 1.0, 1.0])


def test_tracks_are_lines_with_what_they_are_made_of(tmp_path: Path) -> None:
    store = store_of(tmp_path, EAST, pl.concat([FIJI, STILL]))
    store.finalize(["p0", "p1"])
    tracks = gpd.read_parquet(store.tracks_path).set_index("track_id")
    assert list(tracks.geometry.geom_type) == ["LineString", "MultiLineString", "Point"]
    east = tracks.loc["1/a"]
    # A rejected fix is counted and drawn by no line.
    assert (east.fixes, east.observed, east.imputed, east.rejected) == (2, 1, 1, 1)
    assert east.geometry.coords[-1] == (10.1, 50.1)
    assert east.end == START + timedelta(minutes=1)
    assert east.length_km == pytest.approx(float(distance_km(10.0, 50.0, 10.1, 50.1)))
    fiji = tracks.loc["2/a"]
    assert (fiji.west_deg, fiji.east_deg) == pytest.approx((179.8, -179.7))
    ends = [line.coords[k] for line in fiji.geometry.geoms for k in (0, -1)]
    middle = -17.0 - 0.2 * 0.2 / 0.3
    np.testing.assert_allclose(ends, [(179.8, -17.0), (180, middle), (-180, middle), (-179.7, -17.3)])
    # The box by which GeoParquet is filtered misses nothing on either side.
    near = gpd.read_parquet(store.tracks_path, bbox=(-179.8, -18, -179.6, -17))
    assert list(near.track_id) == ["2/a"]
    assert list(gpd.read_parquet(store.tracks_path, bbox=(0, 0, 20, 60)).track_id) == ["1/a", "3/a"]


def test_geoparquet_says_what_it_is(tmp_path: Path) -> None:
    store = store_of(tmp_path, EAST)
    store.finalize(["p0"], provenance={"model": "none"})
    # Tracks may be lines, lines in pieces or points, and which of these there are must be exact, or none be named.
    for path, kinds in ((store.fixes_path, ["Point"]), (store.tracks_path, [])):
        geo = json.loads(pq.read_schema(path).metadata[b"geo"])
        assert geo["version"] == "1.1.0"
        column = geo["columns"][geo["primary_column"]]
        assert (column["encoding"], column["geometry_types"]) == ("WKB", kinds)
        # Lines are without rejected fixes and cut at 180 degrees: the box of the fixes is not theirs.
        assert column.get("bbox") == ([10.0, 50.0, 10.2, 50.2] if path == store.fixes_path else None)
        assert column["crs"]["id"] == {"authority": "EPSG", "code": 4326}
        assert provenance_of(path) == {"geodiff:run_id": "run", "model": "none"}
    fixes = gpd.read_parquet(store.fixes_path)
    assert str(fixes.time.dtype) == "datetime64[us, UTC]"
    assert fixes.geometry.x.tolist() == [10.0, 10.1, 10.2]
    assert pq.ParquetFile(store.fixes_path).schema_arrow.field("track_id").type == "string"


def test_the_store_is_cf_and_opens_in_xarray(tmp_path: Path) -> None:
    members = np.arange(18, dtype=np.float64).reshape(6, 3)
    both = pl.concat([EAST, FIJI]).with_columns(pl.Series(name, members, pl.Array(pl.Float64, 3)) for name in MEMBERS)
    both = both.with_columns(pl.Series("sog_kn", [1.5, None, 2, 3, 4, 5], pl.Float32), nav_status=pl.lit(5))
    store = store_of(tmp_path, both)
    store.finalize(["p0"])
    data = xr.open_zarr(store.zarr_path, consolidated=True)
    assert data.attrs["featureType"] == "trajectory"
    assert data.attrs["Conventions"].startswith("CF-1.")
    assert data.rowSize.attrs["sample_dimension"] == "obs"
    assert data.rowSize.values.tolist() == [3, 3]
    assert data.track_id.attrs["cf_role"] == "trajectory_id"
    assert data.time.values[0] == np.datetime64("2024-05-01")
    meanings = data.state.attrs["flag_meanings"].split()
    assert [meanings[code] for code in data.state.values] == both["state"].to_list()
    assert meanings == list(STATES)
    assert data.sog_kn.attrs["standard_name"] == "platform_speed_wrt_ground"
    assert np.isnan(data.sog_kn.values[1])
    assert data.nav_status.attrs["flag_meanings"].split()[5] == "moored"
    assert set(data.coords) >= {"time", "lon_deg", "lat_deg"}
    assert data.member_lon_deg.dims == ("obs", "member")
    np.testing.assert_allclose(data.member_lon_deg.values, members, atol=1e-7)
    assert (data.row.isnull()).all()


def test_identities_of_anonymous_tracks_survive_xarray(tmp_path: Path) -> None:
    """Numbers above 2^53: masked, they would become real numbers and run together."""
    ids = [5_325_732_746_796_090_708, 5_325_732_746_796_090_709, 5_325_732_746_796_090_710]
    store = store_of(tmp_path, EAST.with_columns(pl.Series("vessel_id", ids)))
    store.finalize(["p0"])
    assert xr.open_zarr(store.zarr_path, consolidated=True).vessel_id.values.tolist() == ids


def test_fixes_of_no_track_come_last_and_in_one_piece(tmp_path: Path) -> None:
    loose = EAST.with_columns(track_id=pl.lit(None, pl.String))
    store = store_of(tmp_path, pl.concat([FIJI, loose]), pl.concat([loose, STILL]))
    store.finalize(["p0", "p1"])
    data = xr.open_zarr(store.zarr_path)
    assert data.track_id.values.tolist() == ["2/a", "3/a", ""]
    assert data.rowSize.values.tolist() == [3, 3, 6]
    assert read_track_zarr(store.zarr_path)["track_id"].to_list() == ["2/a"] * 3 + ["3/a"] * 3 + [None] * 6
    assert count_tracks(store.tracks_path).tracks == 2


def test_a_table_in_order_ends_with_the_fixes_of_no_track() -> None:
    loose = EAST.with_columns(track_id=pl.lit(None, pl.String))
    assert standard_frame(pl.concat([loose, FIJI]))["track_id"].to_list() == ["2/a"] * 3 + [None] * 3


def test_the_ship_type_of_a_track_is_the_last_that_was_told() -> None:
    typed = FIJI.with_columns(ship_type=pl.Series([60, 70, None], dtype=pl.Int16))
    assert summarise_tracks(standard_frame(typed))["ship_type"].to_pylist() == [70]


@pytest.mark.parametrize(("reach", "box"), [(100, (-100.0, 100.0)), (175, (-175.0, 175.0)), (185, (-180.0, 180.0))])
def test_a_track_lies_between_its_ends_until_it_has_gone_round_the_world(reach: int, box: tuple[float, float]) -> None:
    lon = [float(wrap_longitude(each)) for each in range(-reach, reach + 1, 5)]
    (row,) = summarise_tracks(standard_frame(track("1/a", lon, [0.0] * len(lon)))).to_pylist()
    assert (row["west_deg"], row["east_deg"]) == pytest.approx(box)


def test_a_run_that_is_cut_short_keeps_its_parts_and_ends_the_same(tmp_path: Path) -> None:
    whole = store_of(tmp_path / "whole", EAST, FIJI)
    whole.finalize(["p0", "p1"])
    store = store_of(tmp_path / "cut", EAST)
    with pytest.raises(GeodiffError, match="1 of 2 parts are not written"):
        store.finalize(["p0", "p1"])
    assert not any(path.exists() for path in store.files)
    again = TrackStore(store.folder, "run")
    again.open()
    assert again.done() == {"p0"}
    again.write_part("p1", FIJI)
    again.finalize(["p0", "p1"])
    assert bytes_of(again) == bytes_of(whole)
    before = {path: path.stat().st_mtime_ns for path in again.files}
    again.finalize(["p0", "p1"])
    assert {path: path.stat().st_mtime_ns for path in again.files} == before
    assert not work_folder(again.stem).exists()


@pytest.mark.parametrize("where", ["TrackZarrWriter", "sync"])
def test_a_kill_while_finishing_leaves_no_half_file(tmp_path: Path, where: str) -> None:
    """The process ends without any clean-up in the midst of ``finalize``."""
    store_of(tmp_path, EAST, FIJI)
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom geodiff.outputs import track_store as module\n"
        f"real, calls = module.{where}, []\n"
        "def stop(*args, **options):\n"
        "    calls.append(1)\n"
        f"    if len(calls) == {2 if where != 'TrackZarrWriter' else 1}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(*args, **options)\n"
        f"module.{where} = stop\n"
        "module.TrackStore(Path(sys.argv[1]), 'run').finalize(['p0', 'p1'])\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert ended.returncode == -signal.SIGKILL
    store = TrackStore(tmp_path, "run")
    assert not store.is_final()
    for path in (store.fixes_path, store.tracks_path):
        if path.exists():
            gpd.read_parquet(path)  # whole
    assert not store.zarr_path.exists()
    store.finalize(["p0", "p1"])
    assert len(read_track_zarr(store.zarr_path)) == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.parquet", "run.zarr", "run_tracks.parquet"]


def test_what_does_not_fit_is_refused_in_plain_words(tmp_path: Path) -> None:
    store = store_of(tmp_path, EAST)
    with pytest.raises(GeodiffError, match="no column state"):
        store.write_part("x", EAST.drop("state"))
    with pytest.raises(GeodiffError, match="state such as 'guessed'"):
        store.write_part("x", EAST.with_columns(state=pl.lit("guessed")))
    with pytest.raises(GeodiffError, match="first at 999"):
        store.write_part("x", EAST.with_columns(lon_deg=pl.lit(999.0)))
    with pytest.raises(GeodiffError, match="3 of 3 fixes have no time"):
        store.write_part("x", EAST.with_columns(time=pl.lit(None, pl.Datetime("us", "UTC"))))
    with pytest.raises(GeodiffError, match="'nested' has type List"):
        store.write_part("x", EAST.with_columns(nested=pl.lit([1])))
    with pytest.raises(GeodiffError, match=r"types of geodiff\.tracks"):
        store.write_part("x", EAST.with_columns(vessel_id=pl.lit("EVER GIVEN")))
    with pytest.raises(GeodiffError, match="not fit for a file name"):
        store.write_part("../x", EAST)
    with pytest.raises(GeodiffError, match="not fit for a file name"):
        TrackStore(tmp_path, "a/b").open()
    assert store.done() == {"p0"}


def test_a_track_lies_in_one_part(tmp_path: Path) -> None:
    store = store_of(tmp_path, EAST, EAST)
    with pytest.raises(GeodiffError, match="'1/a' lies in part p1 and in one before"):
        store.finalize(["p0", "p1"])
    assert not any(path.exists() for path in store.files)


def test_parts_with_other_columns_are_united_and_other_types_refused(tmp_path: Path) -> None:
    scored = FIJI.with_columns(p_value=pl.lit(0.5))
    store = store_of(tmp_path, EAST, scored)
    store.finalize(["p0", "p1"])
    assert gpd.read_parquet(store.fixes_path).p_value.isna().tolist() == [True] * 3 + [False] * 3
    other = store_of(tmp_path / "other", scored, EAST.with_columns(p_value=pl.lit("high")))
    with pytest.raises(GeodiffError, match="'p_value' is Float64 in part p0 and String in part p1"):
        other.finalize(["p0", "p1"])


def test_a_damaged_part_is_noticed_and_written_again(tmp_path: Path) -> None:
    store = store_of(tmp_path, EAST, FIJI)
    part = work_folder(store.stem) / "parts" / "p1.parquet"
    part.write_bytes(part.read_bytes()[:-50])
    with pytest.raises(GeodiffError, match="1 parts such as p1 are damaged"):
        store.finalize(["p0", "p1"])
    assert store.done() == {"p0"}
    store.write_part("p1", FIJI)
    store.finalize(["p0", "p1"])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("how", ["write_parquet", "write_ipc", "write_csv"])
def test_a_full_disk_is_told_whoever_writes(tmp_path: Path, how: str) -> None:
    with pytest.raises(GeodiffError, match=r"disk full .* run the same command again"), explained(tmp_path):
        getattr(EAST, how)("/dev/full")
    with pytest.raises(pl.exceptions.ComputeError, match="nothing of a disk"), explained(tmp_path):
        raise pl.exceptions.ComputeError("nothing of a disk")


def test_an_empty_run_is_written_and_not_catalogued(tmp_path: Path) -> None:
    store = store_of(tmp_path, EAST.clear())
    store.finalize(["p0"])
    assert len(gpd.read_parquet(store.fixes_path)) == 0
    assert read_track_zarr(store.zarr_path).schema == standard_frame(EAST.clear()).schema
    with pytest.raises(GeodiffError, match="nothing to publish"):
        build_track_item(store, TrackRecord("clean"))


def test_a_store_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GeodiffError, match="not a store of tracks"):
        read_track_zarr(tmp_path)
    xr.Dataset({"a": ("x", [1, 2])}).to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    with pytest.raises(GeodiffError, match="not a store of tracks"):
        read_track_zarr(tmp_path / "a.zarr")
    path = write_track_zarr(EAST, tmp_path / "t.zarr")
    with pytest.raises(GeodiffError, match="exists"):
        write_track_zarr(EAST, path)
    import zarr

    zarr.open_group(path)["rowSize"][0] = 2
    with pytest.raises(GeodiffError, match="damaged"):
        read_track_zarr(path)


def test_chunks_and_shards_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from geodiff.outputs import track_zarr

    monkeypatch.setattr(track_zarr, "_CHUNK", 4)
    monkeypatch.setattr(track_zarr, "_SHARD", 8)
    long = pl.concat([track(f"{k}/x", np.linspace(0, k, 7), np.linspace(0, 1, 7)) for k in range(1, 6)])
    store = store_of(tmp_path, long.head(14), long.slice(14))
    store.finalize(["p0", "p1"])
    assert read_track_zarr(store.zarr_path).equals(standard_frame(long))


def test_ensemble_columns_hold_the_members_on_both_sides_of_180() -> None:
    rng = np.random.default_rng(2)
    lon, lat = np.array([179.99, 10.0]), np.array([-17.0, 89.0])
    course, reach = rng.uniform(0, 360, (2000, 2)), np.abs(rng.normal(0, 5, (2000, 2)))
    member_lon, member_lat = move(lon, lat, course, reach)
    ellipses = np.broadcast_to([[5.0, 3.0, 40.0]], (2, 2, 3))
    columns = answer_columns(TrackAnswer(lon, lat, member_lon, member_lat, ellipses), (0.5, 0.9), members=True)
    table = pl.DataFrame(columns)
    assert set(quantile_columns()) < set(table.columns)
    assert table["ellipse90_course_deg"].to_list() == [40.0, 40.0]
    east = wrap_longitude(member_lon[:, 0] - lon[0])
    for level in (5, 25, 75, 95):
        share = (east <= wrap_longitude(table[f"lon_q{level:02d}_deg"][0] - lon[0])).mean()
        assert share == pytest.approx(level / 100, abs=0.002)
        # Members move along longitude as well, so at high latitude "north of" is not "of higher latitude" exactly.
        assert (member_lat[:, 0] <= table[f"lat_q{level:02d}_deg"][0]).mean() == pytest.approx(level / 100, abs=0.01)
    assert table["member_lon_deg"].dtype == pl.Array(pl.Float64, 2000)
    assert set(answer_columns(TrackAnswer(lon, lat), ())) == {"lon_deg", "lat_deg"}


RECORD = TrackRecord(
    "impute",
    inputs=(TrackInput("https://example.com/day.csv", "ab" * 32, {"read": 9, "kept": 6, "refused": {"latitude": 3}}),),
    model="tracks-small",
    ensemble=16,
    configuration={"gap_h": 3},
    created=datetime(2026, 1, 2, tzinfo=UTC),
)


def validate(document: dict[str, object]) -> None:
    """Check against the schemas of the STAC core that come with pystac; nothing is fetched."""
    jsonschema = pytest.importorskip("jsonschema")
    referencing = pytest.importorskip("referencing")
    from pystac.validation.local_validator import get_local_schema_cache

    kind = {"Feature": "item", "Collection": "collection", "Catalog": "catalog"}[str(document["type"])]
    schemas = get_local_schema_cache()
    resources = [(uri, referencing.Resource.from_contents(schema)) for uri, schema in schemas.items()]
    schema = schemas[f"https://schemas.stacspec.org/v1.1.0/{kind}-spec/json-schema/{kind}.json"]
    check = jsonschema.Draft7Validator(schema, registry=referencing.Registry().with_resources(resources))
    assert [error.message for error in check.iter_errors(document)] == []


def test_the_item_is_the_commit_and_says_where_when_and_of_what(tmp_path: Path) -> None:
    store = store_of(tmp_path / "fiji", FIJI, track("4/a", [178.0, 178.5], [-18.0, -18.5]))
    with pytest.raises(GeodiffError, match="not finished"):
        build_track_item(store, RECORD)
    store.finalize(["p0", "p1"])
    assert find_item(tmp_path, "run") is None
    picture = store.folder / "run.png"
    picture.touch()
    path = publish_tracks(tmp_path, build_track_item(store, RECORD, picture=picture), collection="fiji")
    document = json.loads(path.read_text())
    for one in (path, tmp_path / "catalog.json", path.parent / "collection.json"):
        validate(json.loads(one.read_text()))
    assert document["bbox"] == pytest.approx([178.0, -18.5, -179.7, -17.0])
    assert document["geometry"]["type"] == "MultiPolygon"
    hull = shapely.geometry.shape(document["geometry"])
    assert hull.is_valid
    assert hull.bounds == pytest.approx((-180, -18.5, 180, -17.0))
    assert hull.covers(shapely.Point(-179.9, -17.2))
    properties = document["properties"]
    assert properties["start_datetime"] == "2024-05-01T00:00:00Z"
    assert properties["end_datetime"] == "2024-05-01T00:02:00Z"
    assert properties["geodiff:counts"]["tracks"] == 2
    assert properties["geodiff:counts"]["observed"] == 5
    assert properties["geodiff:inputs"][0]["file:checksum"] == "1220" + "ab" * 32
    assert properties["geodiff:configuration"] == {"gap_h": 3}
    assert document["assets"]["fixes"]["href"] == "./run.parquet"
    assert document["assets"]["tracks"]["table:row_count"] == 2
    assert document["assets"]["map"]["roles"] == ["overview"]
    extent = json.loads((path.parent / "collection.json").read_text())["extent"]["spatial"]["bbox"][0]
    assert extent == pytest.approx([178.0, -18.5, -179.7, -17.0])
    found = find_item(tmp_path, "run")
    assert found is not None
    table = gpd.read_parquet(found.assets["fixes"].get_absolute_href())
    assert len(table) == 5
    assert len(list(pystac.Catalog.from_file(str(tmp_path / "catalog.json")).get_items(recursive=True))) == 1
    # A run whose data are cut off or gone is not there.
    store.fixes_path.write_bytes(store.fixes_path.read_bytes()[:-1])
    assert find_item(tmp_path, "run") is None
    store.fixes_path.unlink()
    assert find_item(tmp_path, "run") is None


@pytest.mark.parametrize("days", [(1, 2), (2, 1)])
def test_of_two_runs_over_one_file_the_last_made_counts(days: tuple[int, int], tmp_path: Path) -> None:
    for name, day in zip("ab", days, strict=True):
        store = TrackStore(tmp_path / "runs", name)
        store.open()
        store.write_part("p0", FIJI)
        store.finalize(["p0"])
        record = dataclasses.replace(RECORD, created=datetime(2026, 1, day, tzinfo=UTC))
        publish_tracks(tmp_path, build_track_item(store, record), collection="runs")
    found = fixes_by_input(tmp_path, "runs", RECORD.configuration)
    assert {name: path.name for name, path in found.items()} == {"day.csv": f"{'ab'[days.index(2)]}.parquet"}


def test_a_synthetic_fleet_goes_through(tmp_path: Path) -> None:
    fleet = make_fleet(3, 6, 1.0, defects={}).fixes.with_columns(
        (pl.col("vessel_id").cast(pl.String) + "/20220301T000000").alias("track_id"), state=pl.lit("observed")
    )
    store = store_of(tmp_path, fleet)
    steps: list[tuple[int, int]] = []
    store.finalize(["p0"], progress=lambda done, steps_: steps.append((done, steps_)))
    assert steps == [(1, 2), (2, 2)]
    counts = count_tracks(store.tracks_path)
    assert counts.tracks == counts.vessels == fleet["vessel_id"].n_unique()
    assert counts.states["observed"] == len(fleet)
    table = read_track_zarr(store.zarr_path)
    assert table.select(fleet.columns).sort("row").equals(fleet.sort("row"))
    assert module.standard_frame(fleet).equals(table)


@pytest.mark.parametrize("kind", [pl.Int8, pl.UInt8, pl.Int16, pl.UInt16, pl.Int32, pl.UInt32])
def test_a_column_of_somebody_else_may_hold_any_value_of_its_type(kind: pl.DataType, tmp_path: Path) -> None:
    ends = pl.select(low=kind.min(), high=kind.max()).row(0)
    values = pl.Series("mine", ([*ends, None, 7] * len(EAST))[: len(EAST)], dtype=kind)
    path = write_track_zarr(EAST.with_columns(values), tmp_path / "t.zarr")
    found = read_track_zarr(path)
    assert found.schema["mine"] == kind
    assert found.sort("time")["mine"].to_list() == EAST.with_columns(values).sort("time")["mine"].to_list()
    with xr.open_zarr(path) as opened:
        assert np.nanmax(opened["mine"].to_numpy()) == values.max()


@pytest.mark.parametrize("name", ["speed (m/s)", "rowSize", "__mine", "..", "zarr.json"])
def test_a_column_whose_name_no_array_can_have_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(GeodiffError, match="no array of a Zarr store can have this name"):
        store_of(tmp_path / "run", EAST.with_columns(pl.lit(1.0).alias(name)))
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(GeodiffError, match="no array of a Zarr store can have this name"):
        write_track_zarr(EAST.with_columns(pl.lit(1.0).alias(name)), tmp_path / "t.zarr")
    assert not list(tmp_path.iterdir())


def test_a_store_goes_to_netcdf_with_its_provenance(tmp_path: Path) -> None:
    told = {"geodiff:run_id": "abc", "settings": {"step_s": 300.0, "files": ["a", "b"]}}
    path = write_track_zarr(EAST, tmp_path / "t.zarr", provenance=told)
    with xr.open_zarr(path) as opened:
        opened.load().to_netcdf(tmp_path / "t.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "t.nc", engine="h5netcdf") as back:
        assert json.loads(back.attrs["geodiff:provenance"]) == told
        assert back["lon_deg"].shape == (len(EAST),)
