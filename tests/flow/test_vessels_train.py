"""Training on tracks: from files to calibrated weights, resumed to the same weights, held-out vessels left alone."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from geodiff.config import catalogs_dir, read_yaml
from geodiff.metrics.ensemble import spatial_median
from geodiff.model.track_objectives import track_denoising_loss, track_ensemble_loss
from geodiff.model.tracks import TrackDenoiser
from geodiff.schema import GeodiffError, UsageError
from geodiff.sphere import move
from geodiff.tasks.evaluate_vessels import load_contenders
from geodiff.tasks.evaluate_vessels_data import draw_cases, load_cleaned
from geodiff.tasks.evaluate_vessels_settings import VesselSettings
from geodiff.tasks.track_batches import make_batch
from geodiff.tasks.track_calibration import classes_of, mahalanobis, scatter
from geodiff.tasks.track_data import split_tracks
from geodiff.tasks.track_denoiser import DenoiserMotion
from geodiff.tasks.track_fleets import track_config
from geodiff.tasks.train_loop import Export
from geodiff.tasks.train_tracks import TrackTraining, train_tracks
from geodiff.tasks.train_tracks_calibrate import calibrate_tracks
from geodiff.tasks.train_tracks_settings import TrackTrainConfig
from geodiff.tasks.train_tracks_start import load_track_data, start_track_training
from geodiff.testing.tracks import make_fleet
from geodiff.vessels.clean import clean_fixes
from geodiff.vessels.history import TrackHistory
from geodiff.vessels.split import is_for_calibration, is_held_out, vessel_digest
from geodiff.vessels.windows_draw import DrawSettings, TrackPool

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning advises about workers and folders

SMALL = {
    "batch": 8,
    "width": 16,
    "heads": 2,
    "layers": 1,
    "steps": 6,
    "validate_every": 3,
    "validate_batches": 1,
    "checkpoint_every": 2,
    "longest_s": 3600.0,
    "scene_share": 0.5,
    "generation_windows": 60,
    "calibration_windows": 400,
    "threads": 1,
}


def config(**changes):
    return TrackTrainConfig.parse({**SMALL, **changes}, where="test")


@pytest.fixture(scope="module")
def fleet():
    return make_fleet(3, vessels=60, hours=4).fixes


@pytest.fixture(scope="module")
def data(fleet):
    return split_tracks({"fleet": clean_fixes(fleet)})


def kill_at_step_5(training, batch, batch_idx):
    if training.global_step == 5:
        raise SystemError("killed")


def weights_of(path):
    return DenoiserMotion.load(path).net.state_dict()


def test_held_out_vessels_are_in_nothing_that_trains(fleet, data):
    ids = fleet["vessel_id"].drop_nulls().unique().to_numpy()
    assert is_held_out(ids).any(), "the fleet is too small for this test"
    told = data.history
    seen = np.unique(np.concatenate([data.pool.vessel_id, told.vessel_id[~told.private]]))
    assert not is_held_out(seen).any()
    assert not is_for_calibration(seen).any()
    assert is_for_calibration(np.unique(data.held.vessel_id)).all()
    assert is_for_calibration(np.unique(told.vessel_id[told.private])).all()


def test_the_end_of_a_long_period_is_in_nothing_that_trains(fleet):
    """The same four hours every tenth day of a hundred days: those of the last tenth are left to tests."""
    table = clean_fixes(fleet)
    days = [
        table.with_columns(
            pl.col("time") + pl.duration(days=10 * number),
            pl.format("{}|{}", "track_id", pl.lit(number)).alias("track_id"),
        )
        for number in range(11)
    ]
    told = split_tracks({"long": pl.concat(days)})
    middle = table["time"].dt.epoch("s").median()
    tables = (each["time"].dt.epoch("s").to_numpy() for each in (told.aside, told.learned))
    for seen in (told.pool.time_s, told.held.time_s, told.history.time_s, *tables):
        assert set(np.rint((seen - middle) / (10 * 86_400)).tolist()) - {9.0} == set(range(9))


def test_what_is_mirrored_is_answered_in_the_mirror():
    """Vessels that turn to starboard all the time: where they were and where they will be lies on one side."""
    angle = np.arange(240) * 0.04
    tracks = []
    for vessel in range(1, 9):
        lon, lat = move(4.0 + vessel, 50.0, np.degrees(angle), 10.0)
        time = pl.Series(1_600_000_000_000_000 + 60_000_000 * np.arange(240)).cast(pl.Datetime("us", "UTC"))
        motion = {"sog_kn": np.full(240, 13.0), "cog_deg": (np.degrees(angle) + 90) % 360}
        table = {
            "vessel_id": [vessel] * 240,
            "track_id": [str(vessel)] * 240,
            "time": time,
            "lon_deg": lon,
            "lat_deg": lat,
        }
        tracks.append(pl.DataFrame({**table, **motion, "ship_type": [70] * 240, "state": ["observed"] * 240}))
    joined = pl.concat(tracks)
    settings = config(batch=128, scene_share=0.0, longest_s=1800.0, shortest_s=900.0)
    fleet, departure = make_batch(TrackPool(joined), TrackHistory.from_table(joined), settings, 0)
    ahead = (
        (fleet.kind[:, 0] == 2)
        & (fleet.known_valid[:, 0].sum(1) > 3)
        & fleet.known[:, 0, :, 2:4].abs().sum((1, 2)).gt(0)
    )
    was = (fleet.known[:, 0, :, 1] * fleet.known_valid[:, 0]).sum(1)
    will_be = (departure[:, 0, :, 1] * fleet.asked_valid[:, 0]).sum(1)
    clear = ahead & (was.abs() > 0.1) & (will_be.abs() > 0.1)
    assert clear.sum() > 10
    assert {1.0, -1.0} == set(was[clear].sign().tolist())
    assert (was.sign() == will_be.sign())[clear].float().mean() > 0.9


def test_a_fold_holds_out_other_vessels_and_is_asked_about_them(fleet, tmp_path):
    path = tmp_path / "fleet.parquet"
    fleet.write_parquet(path)
    weights = start_track_training([path], tmp_path / "out", config(fold=4))
    ids = fleet["vessel_id"].drop_nulls().unique().to_numpy()
    told = DenoiserMotion.load(weights).trained_on(ids)
    assert not told[is_held_out(ids, 4)].any()
    assert told[is_held_out(ids)].any()
    cleaned, models = load_cleaned([path]), load_contenders([str(weights)])
    drawn = draw_cases(cleaned, models, VesselSettings(task="impute", lengths="10min"))
    assert {case.query.vessel_id for case in drawn.cases} <= set(ids[is_held_out(ids, 4)].tolist())
    assert set(drawn.split) == {"vessel"}
    assert drawn.notes["held_out"] == drawn.notes["vessels"]
    assert drawn.notes["fold"] == 4
    card = json.loads(weights.with_suffix(".json").read_text())
    card["training"]["fold"] = 5
    weights.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(GeodiffError, match="asked about: choose --split unseen"):
        draw_cases(cleaned, load_contenders([str(weights)]), VesselSettings(task="impute", lengths="10min"))


def test_a_killed_training_ends_with_the_same_weights(data, tmp_path, monkeypatch):
    whole = train_tracks(data, tmp_path / "whole", config())
    with monkeypatch.context() as killed:
        killed.setattr(TrackTraining, "on_train_batch_start", kill_at_step_5)
        with pytest.raises(SystemError, match="killed"):
            train_tracks(data, tmp_path / "parts", config())
    parts = train_tracks(data, tmp_path / "parts", config())
    for name, value in weights_of(whole).items():
        torch.testing.assert_close(weights_of(parts)[name], value, msg=name)
    with pytest.raises(GeodiffError, match="trained with another width"):
        train_tracks(data, tmp_path / "parts", config(width=24))
    with pytest.raises(GeodiffError, match="trained with another start_from"):
        train_tracks(data, tmp_path / "parts", config(), start_from=whole)


def test_a_kill_in_the_last_validation_costs_no_weights(data, tmp_path, monkeypatch):
    whole = train_tracks(data, tmp_path / "whole", config())
    export = Export.on_validation_end

    def killed(self, trainer, module):
        if module.global_step == 6:
            raise SystemError("killed")
        export(self, trainer, module)

    with monkeypatch.context() as patch:
        patch.setattr(Export, "on_validation_end", killed)
        with pytest.raises(SystemError, match="killed"):
            train_tracks(data, tmp_path / "parts", config())
    parts = train_tracks(data, tmp_path / "parts", config())
    assert parts.read_bytes() == whole.read_bytes()
    assert [each["step"] for each in json.loads(parts.with_suffix(".json").read_text())["history"]] == [3, 6]


def test_a_training_that_diverges_leaves_the_weights_from_before(data, tmp_path, monkeypatch):
    step = TrackTraining.training_step

    def diverging(training, batch, batch_idx):
        return step(training, batch, batch_idx) * (float("nan") if training.global_step == 4 else 1.0)

    monkeypatch.setattr(TrackTraining, "training_step", diverging)
    with pytest.raises(GeodiffError, match=r"diverged at step 5: .* the weights of step 3 stay"):
        train_tracks(data, tmp_path, config())
    assert all(value.isfinite().all() for value in weights_of(tmp_path / "tracks.safetensors").values())


def test_among_several_processes_every_weight_has_a_gradient(data, monkeypatch):
    settings = config(scene_share=0.0, generation_share=0.0)
    module = TrackTraining(TrackDenoiser(track_config(width=16, heads=2, layers=1)), settings, data, None)
    monkeypatch.setattr(module, "log", lambda *args: None)

    def gradients(processes):
        monkeypatch.setattr(TrackTraining, "trainer", SimpleNamespace(world_size=processes), raising=False)
        module.net.zero_grad(set_to_none=True)
        chance = torch.Generator().manual_seed(0)
        batch = make_batch(data.pool, data.history, settings, 0)
        module.told(track_denoising_loss(module.net, *batch, pure=0.5, lowest=0.1, generator=chance)).backward()
        return {name: weight.grad for name, weight in module.net.named_parameters()}

    alone, many = gradients(1), gradients(2)
    assert any(value is None for value in alone.values()), "lone vessels have no neighbours to attend to"
    for name, value in many.items():
        torch.testing.assert_close(value, torch.zeros_like(value) if alone[name] is None else alone[name], msg=name)


def test_a_validation_without_gaps_or_forecasts_tells_the_others_alone(data):
    for left in ("gap", "forecast"):
        module = TrackTraining(TrackDenoiser(track_config(width=16, heads=2, layers=1)), config(), data, None)
        fleet, departure = make_batch(data.held, data.history, config(), "held", 0)
        kind = torch.full_like(fleet.kind, 2 if left == "gap" else 1)
        module.validation_step((fleet.replaced(kind=kind), departure), 0)
        found = module.found()
        assert not any(name.startswith(left) for name in found)
        assert len(found) == 4
        assert np.isfinite(list(found.values())).all()


def test_files_of_one_name_are_all_trained_on(fleet, tmp_path):
    ids = fleet["vessel_id"].drop_nulls().unique().sort()
    paths = [tmp_path / str(year) / "ais.parquet" for year in (2020, 2021)]
    for path, some in zip(paths, (ids[::2], ids[1::2]), strict=True):
        path.parent.mkdir()
        fleet.filter(pl.col("vessel_id").is_in(some.implode())).write_parquet(path)
    told = load_track_data(paths)
    assert [each["name"] for each in told.notes["data"]] == ["ais", "ais (2)"]
    assert all(each["vessels"] > 10 for each in told.notes["data"])


def test_vessels_that_calibrate_are_told_even_where_some_were_known(data, fleet, tmp_path):
    ids = fleet["vessel_id"].drop_nulls().unique().sort()
    few = split_tracks({"few": clean_fixes(fleet.filter(pl.col("vessel_id").is_in(ids[: len(ids) // 2].implode())))})
    weights = train_tracks(few, tmp_path, config())
    before = DenoiserMotion.load(weights).trained_on(ids.to_numpy())
    calibrate_tracks(weights, data, drawn=DrawSettings(longest_s=3600.0), windows=300)
    after = DenoiserMotion.load(weights).trained_on(ids.to_numpy())
    told = np.isin(ids.to_numpy(), pl.concat([data.aside, data.learned])["vessel_id"].to_numpy())
    assert before.any()
    assert (before & told).any()
    assert (after == (before | told)).all()


def test_from_a_file_to_calibrated_weights(fleet, tmp_path):
    path = tmp_path / "fleet.parquet"
    fleet.write_parquet(path)
    lines = []
    weights = start_track_training([path], tmp_path / "out", config(), tell=lines.append)
    card = json.loads(weights.with_suffix(".json").read_text())
    model = DenoiserMotion.load(weights)
    assert model.levels == (0.5, 0.9)
    assert card["data"][0]["name"] == "fleet"
    assert "rows read" in lines[0]
    trained = fleet["vessel_id"].drop_nulls().unique().to_numpy()
    told = model.trained_on(trained)
    assert not told[is_held_out(trained)].any()
    assert told.any()


def test_no_minutes_calibrate_weights_on_other_data_as_they_are(data, tmp_path):
    first = train_tracks(data, tmp_path / "a", config())
    with pytest.raises(UsageError, match="--start-from"):
        train_tracks(data, tmp_path / "b", config(minutes=0))
    again = train_tracks(data, tmp_path / "b", config(minutes=0), start_from=first)
    assert again.read_bytes() == first.read_bytes()
    calibrate_tracks(again, data, drawn=DrawSettings(longest_s=3600.0), windows=300)
    before, after = (json.loads(each.with_suffix(".json").read_text()) for each in (first, again))
    assert after["calibrated_on"] == before["data"]
    assert DenoiserMotion.load(again).levels == (0.5, 0.9)
    for name in ("vessels", "training", "data", "sha256"):
        assert after[name] == before[name]
    # Weights that were calibrated with other classes of lead can be made to fit; none of the vessels is strange to it.
    after["track_calibration"]["lead_edges_s"] = after["track_calibration"]["lead_edges_s"][1:]
    again.with_suffix(".json").write_text(json.dumps(after))
    with pytest.raises(GeodiffError, match="calibrate the weights again"):
        DenoiserMotion.load(again)
    with pytest.raises(UsageError, match="holds out fold 0"):
        train_tracks(data, tmp_path / "c", config(minutes=0, fold=1), start_from=again)
    third = train_tracks(data, tmp_path / "c", config(minutes=0), start_from=again)
    calibrate_tracks(third, data, drawn=DrawSettings(longest_s=3600.0), windows=300)
    assert DenoiserMotion.load(third).levels == (0.5, 0.9)


def test_vessels_that_calibrated_are_asked_about_no_more(data, tmp_path):
    weights = train_tracks(data, tmp_path, config())
    moved = {name: getattr(data, name).with_columns(pl.col("vessel_id") + 100_000_000) for name in ("aside", "learned")}
    shown = moved["learned"]["vessel_id"].unique().to_numpy()
    assert not DenoiserMotion.load(weights).trained_on(shown).any()
    calibrate_tracks(weights, replace(data, **moved), drawn=DrawSettings(longest_s=3600.0), windows=300)
    model = DenoiserMotion.load(weights)
    assert model.trained_on(shown).all()
    assert model.trained_on(moved["aside"]["vessel_id"].unique().to_numpy()).all()
    assert model.trained_on(data.learned["vessel_id"].unique().to_numpy()).all()


def test_tuned_weights_have_seen_the_vessels_of_both_trainings(data, tmp_path):
    first = train_tracks(data, tmp_path / "a", config())
    other = replace(data, notes={**data.notes, "vessels": vessel_digest([7, 8])})
    tuned = DenoiserMotion.load(train_tracks(other, tmp_path / "b", config(), start_from=first))
    assert tuned.trained_on([7, 8, 9]).tolist() == [True, True, False]
    seen = np.unique(data.history.vessel_id)
    assert (tuned.trained_on(seen) == DenoiserMotion.load(first).trained_on(seen)).all()


def test_regions_hold_what_they_promise_on_other_draws_of_the_same_vessels(data, tmp_path):
    weights = train_tracks(data, tmp_path, config())
    drawn = DrawSettings(longest_s=3600.0)
    calibrate_tracks(weights, data, drawn=drawn, windows=1600)
    model = DenoiserMotion.load(weights)
    draws = data.held.draw(400, np.random.default_rng(5), drawn)
    found = model.sample(draws.queries, members=16, seed=9)
    place = found.windows.to_km(model.calibration.spread(found.members, found.windows))
    middle = spatial_median(place)
    truth = found.windows.to_km(found.windows.to_payload(draws.lon_deg, draws.lat_deg))
    distance = mahalanobis(truth, middle, scatter(place, middle))
    kind, state, lead = classes_of(found.windows)
    reach = model.calibration.reach[:, kind, state, lead]
    shown = found.windows.asked_valid
    for level, each in zip(model.levels, reach, strict=True):
        assert abs((distance <= each)[shown].mean() - level) < 0.08


def test_vessels_learned_from_calibrate_too_unless_others_contradict_them(data, tmp_path):
    weights = train_tracks(data, tmp_path, config())
    drawn = DrawSettings(longest_s=3600.0)

    def told(learned):
        calibrate_tracks(weights, replace(data, learned=learned), drawn=drawn, windows=1200)
        return json.loads(weights.with_suffix(".json").read_text())

    both = told(data.learned)
    assert both["calibrated_with"] == {
        "aside": data.aside["vessel_id"].n_unique(),
        "others": data.learned["vessel_id"].n_unique(),
    }
    alone = told(data.aside)["track_calibration"]
    # Vessels that do as they are foretold, as if known by heart: their regions hold next to nobody else.
    steady = clean_fixes(make_fleet(9, vessels=40, hours=4, behaviours=("moored",), defects={}).fixes)
    learned = data.learned["vessel_id"].unique().sort()
    steady = steady.with_columns(pl.col("vessel_id").rank("dense").cast(pl.Int64).alias("vessel_id") % len(learned))
    steady = steady.with_columns(pl.Series("vessel_id", learned.to_numpy()[steady["vessel_id"].to_numpy()]))
    apart = told(steady)
    assert apart["calibrated_with"]["others"] == 0
    assert np.min(apart["held_aside_by_learned"]) < 0.4
    reach, other = (np.array(each["reach"]) for each in (apart["track_calibration"], alone))
    assert np.median(reach / other) == pytest.approx(1.0, abs=0.15)


def test_a_card_with_impossible_calibration_is_refused(data, tmp_path):
    weights = train_tracks(data, tmp_path, config(steps=2))
    calibrate_tracks(weights, data, drawn=DrawSettings(longest_s=3600.0), windows=400)
    path = weights.with_suffix(".json")
    card = json.loads(path.read_text())
    card["track_calibration"]["reach"][0][0][0][0] = -1.0
    path.write_text(json.dumps(card))
    with pytest.raises(GeodiffError, match="impossible values"):
        DenoiserMotion.load(weights)


def test_too_few_vessels_are_refused_in_words(fleet):
    most = fleet["vessel_id"].drop_nulls().value_counts(sort=True)["vessel_id"][0]
    few = fleet.filter(pl.col("vessel_id") == most)
    with pytest.raises(GeodiffError, match="give more vessels"):
        split_tracks({"one": clean_fixes(few)})


@pytest.mark.parametrize("name", ["tracks_cpu", "tracks_hourly", "tracks_gpu", "tracks_tune"])
def test_configurations_that_come_with_the_package_are_understood(name):
    settings = TrackTrainConfig.parse(read_yaml(catalogs_dir() / "training" / f"{name}.yaml"), where=name)
    assert settings.width % settings.heads == 0


@pytest.mark.slow
def test_the_large_configuration_takes_a_step(data):
    settings = TrackTrainConfig.parse(
        {**read_yaml(catalogs_dir() / "training" / "tracks_gpu.yaml"), "batch": 4}, where="gpu"
    )
    net = TrackDenoiser(track_config(width=settings.width, heads=settings.heads, layers=settings.layers))
    batch = make_batch(data.pool, data.history, config(scene_share=0.0, batch=4), 0)
    loss = track_ensemble_loss(net, *batch, passes=2, members=2, generator=torch.Generator().manual_seed(0))
    loss.backward()
    assert torch.isfinite(loss)
    assert 40e6 < sum(p.numel() for p in net.parameters()) < 100e6
