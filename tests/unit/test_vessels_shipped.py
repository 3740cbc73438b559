"""The weights that come with the package: whole, calibrated, and honest about what they were trained on."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from geodiff.model.checkpoint import digest
from geodiff.sphere import distance_km, move
from geodiff.tasks.motion_models import load_motion_model, shipped_models
from geodiff.tracks import TrackQuery
from geodiff.vessels.split import is_held_out

SHIPPED = sorted(shipped_models())


def test_there_is_a_model_for_ais():
    assert "ais" in SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_weights_are_those_of_their_card_small_and_calibrated(name):
    path = shipped_models()[name]
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["sha256"] == digest(path)
    assert path.stat().st_size < 20e6
    model = load_motion_model(name)
    assert model.levels == (0.5, 0.9)
    assert {source["name"] for source in card["data"]} == set(card["terms"])
    assert "omtad" not in json.dumps(card["data"])
    assert card["trust"]


def test_a_model_is_used_without_the_packages_of_training():
    code = "import sys; from geodiff.tasks.motion_models import load_motion_model; load_motion_model('ais'); "
    found = subprocess.run([sys.executable, "-c", code + "print('lightning' in sys.modules)"], capture_output=True)
    assert found.stdout.decode().strip() == "False", found.stderr.decode()


def test_strangers_are_strangers_and_held_out_vessels_were_not_trained_on():
    model = load_motion_model("ais")
    ids = np.arange(366_000_000, 366_020_000)
    assert model.trained_on(ids[is_held_out(ids)]).mean() < 0.001


def test_a_bend_is_filled_better_than_by_a_straight_line():
    """A vessel that turns in the gap: what any model of motion must know."""
    time = 1.6e9 + 60.0 * np.arange(121)
    angle = np.clip((time - time[45]) / 1800.0, 0, 1) * np.pi / 2
    speed = 12 * 1.852 / 3600
    east, north = np.cumsum(speed * 60 * np.cos(angle)), np.cumsum(speed * 60 * np.sin(angle))
    lon, lat = move(-75.0, 36.0, np.degrees(np.arctan2(east, north)), np.hypot(east, north))
    known = np.r_[0:45, 76:121]
    course = (90 - np.degrees(angle[known])) % 360
    query = TrackQuery(time[known], lon[known], lat[known], np.full(90, 12.0), course, time[50:72:3], 70, 1)
    answer = load_motion_model("ais").predict([query], members=16, seed=0)[0]
    truth = lon[50:72:3], lat[50:72:3]
    share = (query.ask_s - time[44]) / (time[76] - time[44])
    straight = lon[44] + share * (lon[76] - lon[44]), lat[44] + share * (lat[76] - lat[44])
    error = distance_km(answer.lon_deg, answer.lat_deg, *truth).mean()
    assert error < 0.3 * distance_km(*straight, *truth).mean()


def test_the_weights_see_what_they_were_trained_on():
    """Answers to one question, as these weights gave them: a feature that is made otherwise moves them."""
    time = 1.6e9 + 60.0 * np.r_[0:30, 120:130]
    lon, lat = np.hstack([_sailed(30, 5.0, 54.0, 90.0), _sailed(10, 5.4, 54.2, 20.0)])
    course = np.repeat([90.0, 20.0], [30, 10])
    query = TrackQuery(time, lon, lat, np.full(40, 12.0), course, np.array([1.6e9 + 3600.0]), 70, 5)
    answer = load_motion_model("ais").predict([query], members=16, seed=0)[0]
    np.testing.assert_allclose((answer.lon_deg[0], answer.lat_deg[0]), (5.28819, 54.03424), atol=1e-4)
    np.testing.assert_allclose(answer.ellipse_km[0, 0, :2], (2.052, 1.415), rtol=0.01)


def _sailed(fixes, lon, lat, course):
    return move(lon, lat, course, 12 * 1.852 / 60 * np.arange(fixes))
