"""What association may not depend on, and what its scores and GOSPA must obey, whatever the data."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import linear_sum_assignment

from geodiff.metrics.association import association_score
from geodiff.metrics.gospa import gospa, gospa_pairs
from geodiff.schema import GeodiffError
from geodiff.testing.tracks import make_fleet
from geodiff.tracks import TIME, TRACK_ID
from geodiff.vessels.associate import AssociateSettings, associate, associate_batches
from geodiff.vessels.associate_link import Grid, best_cover
from geodiff.vessels.associate_motion import Mode

POINTS = st.integers(0, 5).flatmap(
    lambda n: hnp.arrays(np.float64, (n, 2), elements=st.floats(-20, 20, allow_nan=False, width=32))
)
CUTOFF = 7.0


@settings(max_examples=50)
@given(POINTS, POINTS, POINTS, st.sampled_from([1.0, 2.0]))
def test_gospa_is_a_metric(x, y, z, p):
    def distance(a, b):
        return gospa(a, b, cutoff=CUTOFF, p=p).distance

    if len(x):
        assert distance(x, np.vstack([x, x[:1]])) == pytest.approx(CUTOFF / 2 ** (1 / p))  # one too many
    assert distance(x, x) == 0
    assert distance(x, y) == pytest.approx(distance(y, x))
    assert distance(x, z) <= distance(x, y) + distance(y, z) + 1e-6
    if distance(x, y) == 0:
        assert sorted(map(tuple, x)) == sorted(map(tuple, y))


@given(POINTS.filter(lambda x: len(x) <= 4), POINTS.filter(lambda x: len(x) <= 4), st.sampled_from([1.0, 2.0]))
def test_gospa_is_the_best_of_all_assignments(x, y, p):
    """Definition 1 of the paper by brute force, for alpha 2."""
    few, many = (x, y) if len(x) <= len(y) else (y, x)
    best = min(
        sum(min(np.linalg.norm(few[i] - many[j]), CUTOFF) ** p for i, j in enumerate(chosen))
        for chosen in permutations(range(len(many)), len(few))
    )
    total = best + CUTOFF**p / 2 * (len(many) - len(few))
    assert gospa(x, y, cutoff=CUTOFF, p=p).total == pytest.approx(total, abs=1e-6)


@given(POINTS, POINTS, st.randoms(use_true_random=False))
def test_gospa_adds_up_and_does_not_see_order(x, y, rng):
    found, pairs = gospa_pairs(x, y, cutoff=CUTOFF)
    assert found.pairs + found.misses == len(x)
    assert found.pairs + found.falses == len(y)
    assert found.total == pytest.approx(found.localisation + found.missed + found.false)
    assert found.missed == CUTOFF**2 / 2 * found.misses
    assert (np.linalg.norm(x[pairs[:, 0]] - y[pairs[:, 1]], axis=1) < CUTOFF).all()
    order = list(range(len(y)))
    rng.shuffle(order)
    assert gospa(x, y[order], cutoff=CUTOFF).distance == pytest.approx(found.distance)


def test_gospa_by_hand():
    truth, found = np.array([[0.0, 0.0], [10.0, 0.0]]), np.array([[3.0, 4.0], [100.0, 0.0], [10.0, 0.0]])
    one = gospa(truth, found, cutoff=8.0, p=2)
    assert (one.localisation, one.missed, one.false) == (25.0, 0.0, 32.0)
    assert one.distance == pytest.approx(57**0.5)
    assert one.localisation_error == pytest.approx((25 / 2) ** 0.5)
    # Beyond the cutoff a pair is a miss and a false alarm, and costs c**p in all.
    far = gospa(truth[:1], found[1:2], cutoff=8.0)
    assert (far.misses, far.falses, far.total) == (1, 1, 64.0)
    both = one + far
    assert both.distance == pytest.approx(((57 + 64) / 2) ** 0.5)


def test_gospa_refuses_what_it_cannot_mean():
    points = np.zeros((1, 2))
    with pytest.raises(GeodiffError, match="cutoff above 0"):
        gospa(points, points, cutoff=0.0)
    with pytest.raises(GeodiffError, match="finite"):
        gospa(points, points * np.nan, cutoff=1.0)
    with pytest.raises(GeodiffError, match="do not add up"):
        gospa(points, points, cutoff=1.0) + gospa(points, points, cutoff=1.0, p=1.0)


LABELS = st.lists(st.tuples(st.integers(-1, 4), st.integers(-1, 5)), min_size=1, max_size=40).filter(
    lambda rows: any(vessel >= 0 for vessel, _ in rows)
)


@settings(max_examples=50)
@given(LABELS)
def test_scores_of_association_are_bounded_and_see_no_names(rows):
    vessel, track = np.array(rows).T
    score = association_score(vessel, track)
    for share in (score.purity, score.completeness, score.idf1, score.pure_tracks, score.single_tracks):
        assert 0 <= share <= 1
    assert score.idf1 <= 2 * score.completeness  # no match holds more of a vessel than its best track
    assert score == association_score(np.where(vessel >= 0, 7 - vessel, -1), np.where(track >= 0, 90 - track, -1))
    table = np.array([[((vessel == v) & (track == t)).sum() for t in range(6)] for v in range(5)])
    matched = table[linear_sum_assignment(-table)].sum()
    assert score.idf1 == pytest.approx(2 * matched / ((vessel >= 0).sum() + (track >= 0).sum()))
    assert score.purity == pytest.approx(table.max(axis=0).sum() / max((track >= 0).sum(), 1))
    assert score.completeness == pytest.approx(table.max(axis=1).sum() / (vessel >= 0).sum())
    held = [vessel[track == each].tolist() for each in set(track[track >= 0].tolist())]
    pure = [min(each) >= 0 and len(set(each)) == 1 for each in held]
    assert score.pure_tracks == pytest.approx(sum(pure) / max(len(held), 1))
    assert score.single_tracks == pytest.approx(sum(len(each) == 1 for each in held) / max(len(held), 1))


def test_trivial_answers_do_not_win():
    vessel = np.repeat([0, 1], 50)
    each = association_score(vessel, np.arange(100))
    one = association_score(vessel, np.zeros(100, np.int64))
    assert (each.purity, each.completeness, each.single_tracks) == (1.0, 0.02, 1.0)
    assert (one.purity, one.completeness) == (0.5, 1.0)
    assert max(each.idf1, one.idf1) <= 0.5
    true = association_score(vessel, vessel)
    assert (true.purity, true.completeness, true.idf1, true.mota, true.switches, true.fragments) == (1, 1, 1, 1, 0, 0)


def test_scores_by_hand():
    #         two vessels, one plot of clutter in a track, one plot missed, one switch back and forth
    vessel = np.array([0, 1, 0, 1, 0, 1, -1, 0])
    track_ = np.array([5, 6, 5, 6, 8, 6, 6, -1])
    score = association_score(vessel, track_)
    assert (score.missed, score.false, score.switches, score.fragments) == (1, 1, 1, 1)
    assert score.purity == 6 / 7
    assert score.completeness == 5 / 7
    assert score.mota == pytest.approx(1 - 3 / 7)
    assert score.idf1 == pytest.approx(2 * 5 / 14)


EDGES = st.dictionaries(
    st.tuples(st.integers(0, 5), st.integers(0, 5)).filter(lambda e: e[0] < e[1]), st.floats(0.01, 50), min_size=1
)


@given(EDGES)
def test_the_cover_is_the_best_there_is(edges):
    i, j = np.array(list(edges)).T
    evidence = np.array(list(edges.values()))
    taken = best_cover(i, j, evidence, 6)
    assert len(set(i[taken])) == len(set(j[taken])) == taken.sum()
    dense = np.zeros((6, 6))
    dense[i, j] = evidence
    assert evidence[taken].sum() == pytest.approx(dense[linear_sum_assignment(-dense)].sum())


@settings(max_examples=400, deadline=None)
@given(
    st.floats(-180, 180),
    st.one_of(st.floats(-90, 90), st.floats(80, 90)),
    st.floats(0, 360),
    st.sampled_from([50.0, 5e3, 2e5, 9e6]),
)
@example(0.0, 89.0, 84.0, 2e5)
def test_the_cells_around_hold_all_that_is_within_a_cell_size(lon, lat, course, size):
    from geodiff.sphere import move

    lon2, lat2 = move(lon, lat, course, 0.9 * size / 1000)
    place = [
        6_371_008.8 * np.array([[np.cos(b) * np.cos(a), np.cos(b) * np.sin(a), np.sin(b)]])
        for a, b in (np.radians([lon, lat]), np.radians([float(lon2), float(lat2)]))
    ]
    grid = Grid(size)
    names = [int(name[0]) for name in grid.around(place[0])]
    assert int(grid.name(*grid.cells(place[1]))[0]) in names
    known = [name for name in names if name >= 0]
    assert len(set(known)) == len(known)  # no pair is looked at twice


@given(st.floats(1e-4, 1), st.floats(50, 5000), st.floats(0.01, 1e5))
def test_the_motion_is_a_motion(noise, memory, ahead):
    mode = Mode(1.0, noise, memory)
    pp, pv, vv = (float(each) for each in mode.covariance(np.array(ahead)))
    assert pp >= 0
    assert pp * vv - pv**2 >= -1e-6 * pp * vv
    assert pp <= noise * ahead**3 / 3 * 1.02  # forgetting never spreads faster than white acceleration
    half = [float(each) for each in mode.covariance(np.array(ahead / 2))]
    assert half[0] <= pp
    assert half[2] <= vv


def _sets(found):
    return sorted(sorted(rows) for rows in found.drop_nulls(TRACK_ID).group_by(TRACK_ID).agg("row")["row"].to_list())


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 3), st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_no_track(seed, rng):
    # Whole half minutes, so that many plots are simultaneous.
    fixes = make_fleet(seed, 8, 1.0, defects={}, region=(4.0, 52.0, 4.05, 52.03)).fixes
    fixes = fixes.with_columns(pl.col(TIME).dt.truncate("30s"))
    order = list(range(len(fixes)))
    rng.shuffle(order)
    assert _sets(associate(fixes[order])) == _sets(associate(fixes))


@settings(max_examples=6, deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=8), st.sampled_from([100, 333, 20_000]))
def test_the_cut_of_a_stream_into_batches_changes_nothing(sizes, block):
    fixes = make_fleet(5, 8, 1.0, defects={}).fixes.sort(TIME)
    rules = AssociateSettings(block_rows=block, lag_s=300.0)
    ends = np.minimum(np.append(np.cumsum(sizes), len(fixes)), len(fixes))
    batches = [fixes[start:end] for start, end in zip(np.append(0, ends[:-1]), ends, strict=True)]
    parts, whole = pl.concat(associate_batches(batches, rules)), associate(fixes, rules)
    assert dict(zip(parts["row"], parts[TRACK_ID], strict=True)) == dict(
        zip(whole["row"], whole[TRACK_ID], strict=True)
    )


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.floats(10.0, 400.0), st.floats(1.0, 25.0), st.sampled_from([100, 20_000]))
def test_a_lone_vessel_at_rest_is_hardly_ever_two(seed, interval_s, noise_m, block):
    rng = np.random.default_rng(seed)
    seconds = 1.6e9 + interval_s * (np.arange(100) + rng.uniform(-0.1, 0.1, 100))
    north, east = rng.normal(0, noise_m / 111_200, (2, 100))
    fixes = pl.DataFrame(
        {
            TIME: pl.Series((seconds * 1e6).astype("i8")).cast(pl.Datetime("us", "UTC")),
            "lon_deg": 10 + east,
            "lat_deg": north,
            "sog_kn": rng.choice([0.0, 0.1], 100),
            "cog_deg": rng.uniform(0, 360, 100),
        }
    )
    found = associate(fixes, AssociateSettings(block_rows=block))
    assert found.group_by(TRACK_ID).len()["len"].max() >= 90
