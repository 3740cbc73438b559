"""The classical models: exact on the motions they assume, pure functions of each query, honest in their covariances."""

from dataclasses import replace

import numpy as np
import pytest
from filterpy.kalman import KalmanFilter

from geodiff.schema import UsageError
from geodiff.sphere import KM_S_PER_KN, course_deg, distance_km, move, to_local_km
from geodiff.tasks.motion_models import BASELINES, load_motion_model
from geodiff.tracks import TrackQuery
from geodiff.vessels import kalman

SPEED_KN = 12.0


def straight(known, asked, *, lon=179.9, lat=55.0, course=60.0, reported=True):
    """A great circle across the date line at constant speed, and where it is at the asked times."""

    def at(seconds):
        return move(lon, lat, course, SPEED_KN * KM_S_PER_KN * seconds)

    t, ask = np.asarray(known, float), np.asarray(asked, float)
    place = at(t)
    cog = course_deg(*place, *at(t + 60)) if reported else np.full(len(t), np.nan)
    sog = np.full(len(t), SPEED_KN if reported else np.nan)
    return TrackQuery(t, *place, sog, cog, ask, vessel_id=7), at(ask)


TIMES = ([600, 1300, 2000, 9000, 9600, 10_000], [-600, 0, 1000, 3000, 5000, 7000, 12_000])


@pytest.mark.parametrize("name", ["linear", "hermite", "dead_reckoning", "kalman", "constant_turn"])
@pytest.mark.parametrize("reported", [True, False])
def test_straight_motion_is_found_before_between_and_after(name, reported):
    query, truth = straight(*TIMES, reported=reported)
    answer = load_motion_model(name).predict([query], members=0, seed=0)[0]
    # A great circle's course changes by itself, which a turning vessel takes for a turn; the smoother trusts its fixes
    # no more than they deserve.
    off = {"constant_turn": 0.05, "kalman": 0.01}.get(name, 1e-5)
    assert distance_km(answer.lon_deg, answer.lat_deg, *truth).max() < off


@pytest.mark.parametrize("asked", [[400.0, 900.0], [-600.0, -100.0]])
def test_a_circle_is_found_by_the_constant_turn_alone(asked):
    radius, rate = 2.0, np.radians(0.1)
    centre = move(5.0, 50.0, 90.0, radius)

    def at(t):
        return move(*centre, (270 + np.degrees(rate) * t) % 360, radius)

    t, ask = np.arange(0.0, 300, 60), np.array(asked)
    cog, sog = np.degrees(rate) * t % 360, np.full(len(t), radius * rate / KM_S_PER_KN)
    query = TrackQuery(t, *at(t), sog, cog, ask)
    error = {name: _error(name, query, at(ask)) for name in BASELINES}
    assert error["constant_turn"].max() < 0.01
    assert min(e.max() for name, e in error.items() if name != "constant_turn") > 0.5


def _error(name, query, truth):
    answer = load_motion_model(name).predict([query], members=0, seed=0)[0]
    return distance_km(answer.lon_deg, answer.lat_deg, *truth)


@pytest.mark.parametrize("name", list(BASELINES))
def test_an_answer_does_not_depend_on_who_is_asked_along(name):
    rng = np.random.default_rng(4)
    queries = []
    for _ in range(12):
        t = np.sort(rng.choice(5000, rng.integers(2, 30), replace=False)) * 1.0
        pick = rng.permutation(len(t))
        known, asked = np.sort(t[pick[: len(t) // 2 or 1]]), np.sort(t[pick[len(t) // 2 or 1 :]])
        query, _ = straight(known, asked, lon=float(rng.uniform(-180, 180)), lat=float(rng.uniform(-70, 70)))
        noise = rng.normal(0, 0.01, (2, len(known)))
        queries.append(
            replace(query, lon_deg=query.lon_deg + noise[0], lat_deg=query.lat_deg + noise[1], vessel_id=int(t[0]))
        )
    model = load_motion_model(name)
    together = model.predict(queries, members=3, seed=5)
    for k in rng.permutation(len(queries)):
        alone = model.predict([queries[k]], members=3, seed=5)[0]
        for field in ("lon_deg", "lat_deg", "member_lon_deg", "member_lat_deg", "ellipse_km"):
            np.testing.assert_allclose(getattr(alone, field), getattr(together[k], field), rtol=0, atol=1e-9)
    assert model.predict([], members=3, seed=5) == []


def test_one_fix_alone_is_reckoned_from():
    query, truth = straight([0.0], [-3600, 3600])
    for name in BASELINES:
        assert _error(name, query, truth).max() < 0.05, name


@pytest.mark.parametrize("name", ["dead_reckoning", "constant_turn", "kalman"])
@pytest.mark.parametrize("fixes", [1, 2])
def test_a_speed_without_any_course_is_no_motion(name, fixes):
    """Neither told nor sailed: it could be any way, and north is as wrong as others."""
    time, lon, lat = 60.0 * np.arange(fixes), np.full(fixes, 10.0), np.full(fixes, 50.0)
    speed, nobody = np.full(fixes, 10.0), np.full(fixes, np.nan)
    query = TrackQuery(time, lon, lat, speed, nobody, time[-1:] + 3600.0)
    answer = load_motion_model(name).predict([query], members=0, seed=0)[0]
    assert distance_km(answer.lon_deg, answer.lat_deg, 10.0, 50.0)[0] < 0.01


def test_a_query_without_any_fix_is_refused():
    empty = np.empty(0)
    query = TrackQuery(empty, empty, empty, empty, empty, np.array([1.0]))
    for name in BASELINES:
        with pytest.raises(ValueError, match="no known fix"):
            load_motion_model(name).predict([query], members=0, seed=0)


def test_an_unknown_model_is_named_with_the_known_ones():
    with pytest.raises(UsageError, match=r"hermit: no such.*hermite"):
        load_motion_model("hermit")


def test_the_smoother_is_filterpys(monkeypatch):
    """One density, so that both filter the same; ours carries one covariance for both axes."""
    density = 10.0
    monkeypatch.setattr(kalman, "DENSITIES", (density,))
    query, _ = straight(*TIMES)
    rng = np.random.default_rng(0)
    query = replace(query, lat_deg=query.lat_deg + rng.normal(0, 1e-3, len(query.time_s)))
    answer = kalman.Kalman().predict([query], members=0, seed=0)[0]
    mean, variance = _filterpy(query, density)
    centre = query.lon_deg[0], query.lat_deg[0]
    np.testing.assert_allclose(np.stack(to_local_km(answer.lon_deg, answer.lat_deg, *centre), -1), mean, atol=1e-4)
    radius = np.sqrt(-2 * np.log(0.1) * variance)
    np.testing.assert_allclose(answer.ellipse_km[1, :, 0], radius, rtol=1e-4)


def _filterpy(query, density):
    from geodiff.vessels.kinematics import velocity_km_s

    centre = query.lon_deg[0], query.lat_deg[0]
    place = np.stack(to_local_km(query.lon_deg, query.lat_deg, *centre), -1)
    moved = 3600 * velocity_km_s((query.lon_deg, query.lat_deg), query.sog_kn, query.cog_deg, centre)
    seen = dict(zip(query.time_s, np.concatenate([place, moved], 1), strict=True))
    times = np.sort(np.concatenate([query.time_s, query.ask_s]))
    kf = KalmanFilter(4, 4)
    kf.H = np.eye(4)
    kf.R = np.diag([kalman.POSITION_KM**2] * 2 + [kalman.VELOCITY_KM_H**2] * 2)
    kf.P = np.diag([1e6, 1e6, 900.0, 900.0])
    means, covs, moves, noises = [], [], [], []
    for h, t in zip(np.diff(times, prepend=times[0]) / 3600, times, strict=True):
        step, noise = np.eye(4), np.zeros((4, 4))
        step[0, 2] = step[1, 3] = h
        for axis in (0, 1):
            noise[np.ix_([axis, axis + 2], [axis, axis + 2])] = density * np.array(
                [[h**3 / 3, h**2 / 2], [h**2 / 2, h]]
            )
        kf.predict(F=step, Q=noise)
        kf.update(seen.get(t))
        for kept, value in zip((means, covs, moves, noises), (kf.x.copy(), kf.P.copy(), step, noise), strict=True):
            kept.append(value)
    # filterpy takes the transition and the noise of the step after k at place k + 1.
    smoothed, cov, _, _ = kf.rts_smoother(np.array(means), np.array(covs), moves, noises)
    asked = np.isin(times, query.ask_s)
    return smoothed[asked, :2, 0], cov[asked, 0, 0]


def test_the_smoothers_samples_have_its_mean_and_its_spread():
    query, _ = straight(*TIMES)
    answer = kalman.Kalman().predict([query], members=4000, seed=0)[0]
    east, north = to_local_km(answer.member_lon_deg, answer.member_lat_deg, answer.lon_deg, answer.lat_deg)
    sigma = answer.ellipse_km[0, :, 0] / np.sqrt(2 * np.log(2))
    for axis in (east, north):
        assert (np.abs(axis.mean(0)) < 5 * sigma / np.sqrt(4000)).all()
        np.testing.assert_allclose(axis.std(0), sigma, rtol=0.06)
    inside = np.hypot(east, north) <= answer.ellipse_km[1, :, 0]
    np.testing.assert_allclose(inside.mean(0), 0.9, atol=0.02)
