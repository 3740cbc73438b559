"""Maps of tracks: what is drawn, what is left out and said, both sides of 180°, and names that are no markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import polars as pl
import pytest
import shapely
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from geodiff.outputs.track_chart import (
    COLOURS,
    coastline_lines,
    degree_label,
    ellipse_outlines,
    framed,
    graticule,
    read_coastline,
)
from geodiff.outputs.track_columns import answer_columns
from geodiff.outputs.track_drawing import CLASSES, drawing_of
from geodiff.outputs.track_html import embedded, write_page
from geodiff.outputs.track_maps import draw_tracks, state_lines
from geodiff.outputs.track_simplify import mercator_latitude, mercator_y, significance_km
from geodiff.outputs.track_store import TrackStore
from geodiff.outputs.track_thinning import Limits
from geodiff.schema import GeodiffError
from geodiff.sphere import distance_km, from_local_km
from geodiff.tracks import TrackAnswer

HOSTILE = "</script><img src=x onerror=alert(1)>&\u2028"
START = datetime(2024, 1, 1, tzinfo=UTC)


def scene(lon0: float = -75.0, lat0: float = 36.0, *, vessels: int = 2, members: int = 5) -> pl.DataFrame:
    """Each vessel: 40 fixes observed, 20 imputed, 20 observed, 20 forecast, and 3 rejected."""
    frames = []
    for number in range(vessels):
        state = np.repeat(["observed", "imputed", "observed", "forecast"], [40, 20, 20, 20])
        minutes = np.arange(state.size)
        east, north = 0.4 * minutes - 20, 3 * np.sin(minutes / 15.0) + 8.0 * number
        lon, lat = from_local_km(east, north, lon0, lat0)
        model = state != "observed"
        offset = np.linspace(-2, 2, members)[:, None] * model
        member_lon, member_lat = from_local_km(east + 0 * offset, north + offset, lon0, lat0)
        ellipses = np.stack([np.column_stack([model * 2.0 * s, model * 1.0 * s, 90.0 + 0 * east]) for s in (1, 2)])
        columns = answer_columns(TrackAnswer(lon, lat, member_lon, member_lat, ellipses), (0.5, 0.9), members=True)
        table = pl.DataFrame(
            {
                "track_id": [f"{number}/20240101T000000"] * state.size,
                "vessel_id": [366000000 + number] * state.size,
                "name": [HOSTILE if number == 0 else "EVER GIVEN"] * state.size,
                "ship_type": [70] * state.size,
                "state": state,
                "time": [START + timedelta(minutes=int(minute)) for minute in minutes],
                "sog_kn": np.where(model, np.nan, 12.0).astype(np.float32),
                **columns,
            }
        )
        extra = [name for name in columns if name not in ("lon_deg", "lat_deg")]
        table = table.with_columns(pl.when(pl.Series(model)).then(pl.col(name)).alias(name) for name in extra)
        far = pl.col("lat_deg") + 1.0
        frames += [table, table.head(3).with_columns(state=pl.lit("rejected"), lat_deg=far)]
    return pl.concat(frames)


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    return scene()


def test_a_drawing_counts_what_it_shows(table: pl.DataFrame) -> None:
    drawing = drawing_of(table)
    assert (drawing.counts["fixes"], drawing.counts["tracks"], drawing.counts["dots"]) == (200, 2, 6)
    assert drawing.counts["shown"] == drawing.points["x"].size < 200
    assert drawing.account.startswith(f"{drawing.points['x'].size} of 200 fixes of 2 tracks drawn; those left out lie")
    assert "within 10 m" in drawing.account
    # The region that counts is that of good fixes: rejected ones lie a degree off.
    assert drawing.extent[3] < mercator_y(36.5)
    assert {CLASSES[code] for code in drawing.dots["state"]} == {"rejected"}
    whole = drawing_of(table.with_columns(track_id=pl.lit(None, pl.String)))
    assert {CLASSES[code] for code in whole.dots["state"]} == {"rejected", "no track"}
    with pytest.raises(GeodiffError, match="nothing to draw"):
        drawing_of(table.clear())
    with pytest.raises(GeodiffError, match="no column state"):
        drawing_of(table.drop("state"))


def test_a_drawing_keeps_to_its_limits_and_says_so(table: pl.DataFrame) -> None:
    many = pl.concat([scene(lon0=-75.0 + k, vessels=2).with_columns(pl.col("track_id") + f"/{k}") for k in range(5)])
    drawing = drawing_of(many, Limits(points=90, dots=7, member_points=60, ellipses=12))
    assert drawing.points["x"].size <= 90
    assert drawing.dots["x"].size == 7
    assert 0 < drawing.members["x"].size <= 60
    assert drawing.ellipses["x"].size <= 12
    for said in ("23 single points left out", "of the members of ensembles shown"):
        assert said in drawing.account
    few = drawing_of(many, Limits(points=17))
    assert few.counts["tracks_out"] == 8
    assert "8 short tracks left out" in few.account
    assert np.unique(few.points["track"]).size == 2
    # What the sentence promises holds for every fix.
    tolerance = drawing.counts["tolerance_km"]
    good = many.filter(pl.col("state") != "rejected").sort("track_id", "time")
    for number, name in enumerate(drawing.tracks["track_id"]):
        own, shown = good.filter(pl.col("track_id") == name), drawing.points["track"] == number
        at = own["time"].dt.epoch("us").to_numpy() / 1e6
        x, y = (np.interp(at, drawing.points["time_s"][shown], drawing.points[axis][shown]) for axis in "xy")
        off = distance_km(x, mercator_latitude(y), own["lon_deg"].to_numpy(), own["lat_deg"].to_numpy())
        assert off.max() <= tolerance * 1.02


def test_tables_may_come_in_pieces_and_from_files(tmp_path: Path, table: pl.DataFrame) -> None:
    store = TrackStore(tmp_path, "run")
    store.open()
    pieces = table.partition_by("track_id")
    for number, piece in enumerate(pieces):
        store.write_part(f"p{number}", piece)
    store.finalize(["p0", "p1"])
    whole = drawing_of(table)
    for source in (iter(pieces), store.zarr_path):
        drawing = drawing_of(source)
        assert drawing.account == whole.account
        for name, kind in (("points", "x"), ("members", "x"), ("ellipses", "major_km"), ("dots", "y")):
            found, wanted = (np.sort(getattr(one, name)[kind]) for one in (drawing, whole))
            np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert drawing_of(store.fixes_path).members["x"].size == 0
    assert drawing_of(store.fixes_path).account == whole.account
    with pytest.raises(GeodiffError, match="cannot be read as fixes"):
        drawing_of(tmp_path / "none.parquet")


def test_members_are_tied_to_the_fixes_around_them(table: pl.DataFrame) -> None:
    drawing = drawing_of(table, Limits())
    members = drawing.members
    for run in np.unique(members["run"]):
        for member in range(5):
            line = (members["run"] == run) & (members["member"] == member)
            times = members["time_s"][line]
            assert (np.diff(times) > 0).all()
            minute = (times - START.timestamp()) / 60
            # A gap from 39 to 60, or the end from 79 on: it leaves from the last observed fix.
            assert minute[0] in (39, 79)
            assert minute[-1] == (60 if minute[0] == 39 else 99)
    assert {CLASSES[code] for code in members["state"]} == {"imputed", "forecast"}


def test_steps_have_the_state_of_what_was_not_observed(table: pl.DataFrame) -> None:
    points = drawing_of(table.filter(pl.col("track_id").str.starts_with("0"))).points
    lines = {state: state_lines(points, code) for code, state in enumerate(CLASSES)}
    assert {state: len(found) for state, found in lines.items() if found} == {
        "observed": 2,
        "imputed": 1,
        "forecast": 1,
    }
    np.testing.assert_array_equal(lines["observed"][0][-1], lines["imputed"][0][0])
    np.testing.assert_array_equal(lines["imputed"][0][-1], lines["observed"][1][0])
    assert sum(len(line) - 1 for found in lines.values() for line in found) == points["x"].size - 1


def test_180_degrees_is_a_place_like_any_other() -> None:
    here, there = drawing_of(scene(lon0=10.0, lat0=-17.0)), drawing_of(scene(lon0=180.0, lat0=-17.0))
    for table in ("points", "members", "ellipses", "dots"):
        found, wanted = getattr(there, table)["x"], getattr(here, table)["x"]
        np.testing.assert_allclose(found - there.extent[0], wanted - here.extent[0], atol=1e-6)
    assert there.extent[2] - there.extent[0] < 1.0


@pytest.mark.parametrize("lon0", [-75.0, 180.0])
def test_a_map_shows_every_state_in_its_colour(tmp_path: Path, lon0: float) -> None:
    path = draw_tracks(scene(lon0=lon0), tmp_path / "map.png", title=r"5 $ & \alpha_{" + HOSTILE)
    image = imread(path)[..., :3]
    for state in ("observed", "imputed", "forecast"):
        near = np.abs(image - np.array(to_rgb(COLOURS[state]))).max(axis=-1) < 0.02
        assert near.sum() > 150, state
    # A chosen extent is found on whichever sheet the drawing lies.
    corner = (lon0 - 0.5, 35.5, lon0 + 0.5 - 360.0 * (lon0 > 179), 36.5)
    closer = imread(draw_tracks(scene(lon0=lon0), path, extent=corner))[..., :3]
    assert (np.abs(closer - np.array(to_rgb(COLOURS["observed"]))).max(axis=-1) < 0.02).sum() > 150
    assert [one.name for one in tmp_path.iterdir()] == ["map.png"]


def test_one_fix_and_thousands_of_vessels_make_a_map(tmp_path: Path, table: pl.DataFrame) -> None:
    one = draw_tracks(table.head(1), tmp_path / "one.png")
    assert imread(one).shape[0] > 500
    rng = np.random.default_rng(1)
    rows, vessels = 6000, 3000
    crowd = pl.DataFrame(
        {
            "track_id": (np.arange(rows) % vessels).astype(str),
            "state": ["observed"] * rows,
            "lon_deg": rng.uniform(-10, 10, rows),
            "lat_deg": rng.uniform(40, 50, rows),
            "time": pl.Series(np.arange(rows) * 10**9, dtype=pl.Int64).cast(pl.Datetime("us", "UTC")),
        }
    )
    drawing = drawing_of(crowd)
    assert drawing.counts["tracks"] == vessels
    assert imread(draw_tracks(drawing, tmp_path / "crowd.png")).shape[0] > 500


def test_a_coastline_is_cut_to_the_chart_and_moved_across_180(tmp_path: Path) -> None:
    land = [shapely.box(178, -18, 179.5, -17), shapely.box(-179.5, -18, -178, -17), shapely.box(0, 0, 5, 5)]
    path = tmp_path / "land.gpkg"
    gpd.GeoDataFrame(geometry=land, crs="EPSG:4326").to_file(path)
    frame = (177.0, float(mercator_y(-20)), 183.0, float(mercator_y(-15)))
    lines = np.concatenate(coastline_lines(path, frame))
    assert lines[:, 0].min() == pytest.approx(178)
    assert lines[:, 0].max() == pytest.approx(182)
    np.testing.assert_allclose(mercator_latitude([lines[:, 1].min(), lines[:, 1].max()]), [-18, -17])
    draw_tracks(scene(lon0=180.0, lat0=-17.0), tmp_path / "map.png", coastline=path)
    with pytest.raises(GeodiffError, match=r"coastline .* cannot be read"):
        coastline_lines(tmp_path / "none.shp", frame)


@pytest.mark.parametrize("name", ["land.geojson", "land.gpkg", "land.shp", "land.fgb", "land.zip", "folder"])
def test_coastlines_of_all_kinds_that_are_named_are_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    land = gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 5, 5)], crs="EPSG:4326")
    if path.suffix in (".zip", ""):
        folder = tmp_path / "folder"
        folder.mkdir()
        land.to_file(folder / "land.shp")
        shutil.make_archive(str(tmp_path / "land"), "zip", folder)
    else:
        land.to_file(path)
    assert read_coastline(path).geometry.iloc[0].equals(land.geometry.iloc[0])


def test_a_damaged_archive_of_a_coastline_is_named(tmp_path: Path) -> None:
    path = tmp_path / "land.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("land.geojson", '{"type": "FeatureCollection"}' + " 0123456789" * 500)
    whole = bytearray(path.read_bytes())
    whole[45:75] = bytes(byte ^ 0xFF for byte in whole[45:75])
    path.write_bytes(whole)
    with pytest.raises(GeodiffError, match=r"coastline .*land\.zip: "):
        read_coastline(path)


VIRTUAL = (
    '<OGRVRTDataSource><OGRVRTLayer name="secret"><SrcDataSource>{}</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>'
)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("coast.geojson", VIRTUAL),
        ("coast.geojson", "{{}}" + VIRTUAL),
        ("coast.csv", "  " + VIRTUAL),
        ("coast.csv", "x" + VIRTUAL),
        ("coast.zip", VIRTUAL),
        ("coast.json", '{{"type": "gdal_streamed_alg", "command_line": "gdal vector convert {} streamed_dataset"}}'),
        ("coast.shp", '<?xml version="1.0"?><kml/>'),
    ],
)
def test_a_coastline_in_the_guise_of_another_kind_reads_no_other_file(tmp_path: Path, name: str, text: str) -> None:
    secret = tmp_path / "secret.gpkg"
    gpd.GeoDataFrame(geometry=[shapely.box(0, 0, 5, 5)], crs="EPSG:4326").to_file(secret, layer="secret")
    path = tmp_path / name
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("coast.geojson", text.format(secret))
    else:
        path.write_text(text.format(secret))
    with pytest.raises(GeodiffError, match=r"coastline .* cannot be read \(it is none of GeoJSON, "):
        read_coastline(path)


def test_ellipses_keep_size_and_course_at_any_latitude() -> None:
    table = {
        "x": np.array([10.0]), "y": mercator_y([60.0]), "lat_deg": np.array([60.0]), "major_km": np.array([2.0]),
        "minor_km": np.array([1.0]), "course_deg": np.array([90.0]),
    }  # fmt: skip
    (outline,) = ellipse_outlines(table)
    reach = distance_km(10.0, 60.0, outline[:, 0], mercator_latitude(outline[:, 1]))
    assert (reach.max(), reach.min()) == pytest.approx((2.0, 1.0), rel=0.01)
    farthest = outline[np.argmax(reach)]
    assert farthest[1] == pytest.approx(table["y"][0], abs=1e-6)


@pytest.mark.parametrize(
    ("value", "letters", "label"),
    [(12.5, "EW", "12°30′E"), (181.0, "EW", "179°W"), (180.0, "EW", "180°"), (-33.0, "NS", "33°S"), (0, "NS", "0°")],
)
def test_degrees_read_as_on_a_chart(value: float, letters: str, label: str) -> None:
    assert degree_label(value, letters) == label


def test_graticules_are_round_and_few() -> None:
    for low, high in ((-75.3, -74.1), (0.001, 0.004), (-180, 180)):
        ticks = graticule(low, high)
        assert 2 <= ticks.size <= 7
        assert ((ticks >= low - 1e-9) & (ticks <= high + 1e-9)).all()
    left, bottom, right, top = framed((1.0, 2.0, 1.0, 2.0))
    assert right - left == pytest.approx(top - bottom)
    assert top - bottom > 0.01


def data_of(page: str) -> dict[str, dict[str, object]]:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_the_page_is_one_file_that_asks_for_nothing(tmp_path: Path, table: pl.DataFrame) -> None:
    path = write_page(table, tmp_path / "page.html", title=HOSTILE)
    page = path.read_text()
    assert not re.search(r"https?:|//cdn|<link|@import|\burl\(|src=(?!x)|fetch\(|XMLHttp|eval\(|innerHTML", page)
    assert len(re.findall(r"<script", page)) == len(re.findall(r"</script", page)) == 2
    assert "<img" not in page
    assert "onerror" in page  # as text
    data = data_of(page)
    assert data["tracks"]["name"][0] == HOSTILE
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    assert policy[1].startswith("default-src 'none'")
    for kind, tag in (("script", r"<script>(.*?)</script>"), ("style", r"<style>(.*?)</style>")):
        body = re.search(tag, page, re.DOTALL)
        assert body
        digest = base64.b64encode(hashlib.sha256(body[1].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy[1]
    assert drawing_of(table).account in page


def test_the_page_holds_what_is_drawn(tmp_path: Path, table: pl.DataFrame) -> None:
    drawing = drawing_of(table)
    data = data_of(write_page(drawing, tmp_path / "page.html").read_text())
    points = data["points"]

    def unpack(name: str, kind: str) -> np.ndarray:
        return np.frombuffer(base64.b64decode(str(points[name])), kind)

    np.testing.assert_allclose(unpack("x", "<i4") * 2e-7 + data["origin"][0], drawing.points["x"], atol=1e-7)
    np.testing.assert_allclose(unpack("time", "<u4") + data["start"], drawing.points["time_s"], atol=0.5)
    speed = unpack("speed", "<u2")
    np.testing.assert_array_equal(speed == 65535, ~np.isfinite(drawing.points["sog_kn"]))
    assert (speed[speed < 65535] == 120).all()


def test_the_page_counts_what_there_is_and_not_what_is_drawn(tmp_path: Path, table: pl.DataFrame) -> None:
    few = drawing_of(table, Limits(points=20, dots=2))
    data = data_of(write_page(few, tmp_path / "page.html").read_text())
    counts = dict(zip(data["classes"], data["counts"], strict=True))
    assert {name: count for name, count in counts.items() if count} == dict(table["state"].value_counts().iter_rows())


@pytest.mark.filterwarnings("error")
def test_a_vessel_that_circles_the_pole_is_drawn_where_it_was(tmp_path: Path) -> None:
    minutes = np.arange(600)
    lon = (6.0 * minutes) % 360.0 - 180.0  # ten times about the pole
    lat = 89.0 - 0.5 * np.sin(minutes / 50.0)
    winding = pl.DataFrame(
        {
            "track_id": ["round"] * 600 + ["straight"] * 2,
            "vessel_id": [1] * 600 + [2] * 2,
            "state": ["observed"] * 602,
            "time": [START + timedelta(minutes=int(minute)) for minute in (*minutes, 0, 9)],
            "lon_deg": np.append(lon, [10.0, 11.0]),
            "lat_deg": np.append(lat, [80.0, 80.5]),
        }
    )
    drawing = drawing_of(winding)
    data = data_of(write_page(winding, tmp_path / "map.html").read_text())
    names = data["tracks"]["id"]
    points: Any = data["points"]
    x, track = (np.frombuffer(base64.b64decode(points[name]), "<i4") for name in ("x", "track"))
    shown = x * 2e-7 + data["origin"][0]
    np.testing.assert_allclose((shown - drawing.points["x"] + 180.0) % 360.0, 180.0, atol=1e-6)
    assert [names[k] for k in track] == [drawing.tracks["track_id"][int(k)] for k in drawing.points["track"]]
    assert (track[drawing.points["track"] == drawing.points["track"][-1]] < 2).all()  # a whole track keeps its number
    # No line leads back over the chart.
    assert (np.abs(np.diff(shown))[np.diff(track) == 0] <= 180.0).all()
    assert data["extent"][2] - data["extent"][0] < 420.0


def flagged_scene(table: pl.DataFrame) -> pl.DataFrame:
    """Five observed fixes flagged, each for a reason of its own; the rejected ones have a rule."""
    number = pl.int_range(pl.len())
    flagged = (pl.col("state") == "observed") & (number < 5)
    said = pl.when(flagged).then(pl.format("course: {}", number) + HOSTILE)
    rule = pl.when(pl.col("state") == "rejected").then(pl.lit("jump"))
    return table.with_columns(anomalous=flagged, reason=pl.coalesce(said, rule))


def test_flagged_fixes_are_ringed_and_say_why(tmp_path: Path, table: pl.DataFrame) -> None:
    scored = flagged_scene(table)
    drawing = drawing_of(scored)
    assert drawing.counts["fixes"] == drawing_of(table).counts["fixes"]
    dots = drawing.dots
    told = {(CLASSES[s], drawing.reasons[r]) for s, r in zip(dots["state"], dots["reason"], strict=True)}
    assert told == {("rejected", "jump")} | {("anomalous", f"course: {k}{HOSTILE}") for k in range(5)}
    ringed = dots["state"] == CLASSES.index("anomalous")
    assert set(zip(dots["x"][ringed], dots["y"][ringed], strict=True)) == {
        (lon, float(mercator_y(lat))) for lon, lat in scored.filter("anomalous").select("lon_deg", "lat_deg").rows()
    }
    page = write_page(scored, tmp_path / "page.html").read_text()
    data = data_of(page)
    reason = np.frombuffer(base64.b64decode(str(data["dots"]["reason"])), "<i4")
    state = np.frombuffer(base64.b64decode(str(data["dots"]["state"])), "<i1")
    assert {(CLASSES[s], data["reasons"][r]) for s, r in zip(state, reason, strict=True)} == told
    assert "<img" not in page
    dark = np.array(to_rgb(COLOURS["anomalous"]))
    with_rings, without = (
        (np.abs(imread(draw_tracks(one, tmp_path / f"{k}.png"))[..., :3] - dark).max(axis=-1) < 0.02).sum()
        for k, one in enumerate((scored, scored.drop("anomalous")))
    )
    assert with_rings > without + 100
    # A column of somebody else's with the name says nothing.
    assert drawing_of(scored.with_columns(anomalous=pl.lit("yes"))).counts["dots"] == 6


def test_json_in_a_page_cannot_leave_its_element() -> None:
    text = embedded({"name": "</ScRiPt><!--&\u2028\u2029"})
    assert not re.search(r"[<>&\u2028\u2029]", text)
    assert json.loads(text)["name"] == "</ScRiPt><!--&\u2028\u2029"


@pytest.mark.slow
def test_a_browser_runs_the_page(tmp_path: Path, table: pl.DataFrame) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine")
    path = write_page(table, tmp_path / "page.html", title=HOSTILE)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", "--dump-dom"]
    done = subprocess.run([browser, *options, path.as_uri()], capture_output=True, text=True, timeout=120)
    assert re.search(r"<span>observed</span><span class=\"number\">120</span>", done.stdout)
    assert "2024-01-01 01:39:00 UTC" in done.stdout
    assert "<img" not in done.stdout


def test_hostile_shapes_do_not_take_quadratic_time() -> None:
    """A spiral that Douglas-Peucker would peel off point by point."""
    n = 20_000
    angle = np.linspace(0, 400 * np.pi, n)
    reach = np.linspace(0.001, 1.0, n) ** 0.5
    weight = significance_km(
        reach * np.cos(angle), reach * np.sin(angle), np.arange(n, dtype=float), np.zeros(n, np.int64), floor_km=0.001
    )
    assert np.isinf(weight[[0, -1]]).all()
    zigzag = np.where(np.arange(n) % 2, 1.0, -1.0) * np.linspace(1e-3, 1, n)
    weight = significance_km(
        np.arange(n) * 1e-4, zigzag, np.arange(n, dtype=float), np.zeros(n, np.int64), floor_km=0.001
    )
    assert (weight > 0).mean() > 0.9


@pytest.mark.parametrize("lat", [0.0, 60.0, 80.0])
def test_what_leaving_out_a_fix_costs_is_told_in_kilometres_on_the_ground(lat: float) -> None:
    """A hundredth of a degree to the north of the way: a chart draws it the larger the farther north it is."""
    northings = mercator_y(np.array([lat, lat + 0.01, lat]))
    weight = significance_km(
        np.array([0.0, 0.5, 1.0]), northings, np.arange(3.0), np.zeros(3, np.int64), floor_km=0.001
    )
    assert weight[1] == pytest.approx(1.112, rel=0.005)
