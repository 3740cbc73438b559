"""CSDI of PyPOTS (Tashiro et al. 2021) beside the motion models of geodiff, on the same gaps.

PyPOTS 1.5 installs pandas 3, which ours does not take, so it runs in an environment of its own and the two meet in
files. Three steps, with the same options, from the root of the repository:

    python tests/benchmarks/compare_csdi.py export --data omtad_west_australia.parquet --out csdi
    python -m venv csdi/venv && csdi/venv/bin/pip install "torch==2.13.0" pypots     # torch first: the CPU build
    csdi/venv/bin/python tests/benchmarks/compare_csdi.py run --out csdi
    python tests/benchmarks/compare_csdi.py score --data omtad_west_australia.parquet --out csdi --model NAME

``export`` and ``score`` need geodiff, ``run`` needs PyPOTS alone. CSDI sees a gap as a window of equal steps: the 16
fixes before and after it, east and north kilometres from the first fix shown, velocity, and elapsed time, the last of
which is known within the gap too. It is trained on ``--train`` windows of vessels that are not held out.

It is slow: one core trains 1,000 windows in a third of a minute to one minute an epoch, and fills a gap with 16 members
in four to ten seconds.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

SIDE = 16
FEATURES = ("east_km", "north_km", "east_km_h", "north_km_h", "hours")
MEMBERS = 16


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("export", "run", "score"))
    parser.add_argument("--out", type=Path, required=True, help="folder that both environments see")
    parser.add_argument("--data", type=Path, help="file of fixes")
    parser.add_argument("--gap", type=int, default=6, help="hidden fixes")
    parser.add_argument("--train", type=int, default=8000, help="windows that CSDI learns from")
    parser.add_argument("--cases", type=int, default=100, help="gaps of held-out vessels")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--model", action="append", default=[], help="motion model of geodiff; hermite is always there")
    asked = parser.parse_args()
    {"export": export, "run": run, "score": score}[asked.step](asked)


def find_cases(asked: argparse.Namespace, *, held_out: bool) -> list:
    """Gaps with ``SIDE`` fixes on both sides, of vessels held out or of the others."""
    import polars as pl

    from geodiff.tasks.evaluate_vessels_data import load_cleaned
    from geodiff.vessels.cases import Tracks, impute_cases
    from geodiff.vessels.spans import Span
    from geodiff.vessels.split import is_held_out

    table = load_cleaned([asked.data]).table
    tracks = Tracks.of(table.filter(pl.Series(is_held_out(table["vessel_id"].to_numpy()) == held_out)))
    wanted = asked.cases if held_out else asked.train
    found = impute_cases(tracks, Span(points=asked.gap), most=2 * wanted, seed=0)
    return [case for case in found if case.moving and _sides(case) == (SIDE, SIDE)][:wanted]


def _sides(case) -> tuple[int, int]:
    before = int((case.query.time_s < case.query.ask_s[0]).sum())
    return min(before, SIDE), min(len(case.query.time_s) - before, SIDE)


def window(case) -> tuple[np.ndarray, tuple[float, float]]:
    """(step, feature) with the truth inside the gap, and the centre of its plane."""
    from geodiff.sphere import to_local_km
    from geodiff.vessels.kinematics import velocity_km_s

    query = case.query
    middle = int((query.time_s < query.ask_s[0]).sum())
    known = slice(middle - SIDE, middle + SIDE)
    centre = float(query.lon_deg[middle - SIDE]), float(query.lat_deg[middle - SIDE])
    place = np.stack(to_local_km(query.lon_deg[known], query.lat_deg[known], *centre), -1)
    spot = query.lon_deg[known], query.lat_deg[known]
    speed = 3600 * velocity_km_s(spot, query.sog_kn[known], query.cog_deg[known], centre)
    truth = np.stack(to_local_km(case.truth_lon_deg, case.truth_lat_deg, *centre), -1)
    hidden = np.concatenate([truth, np.full((len(truth), 2), np.nan)], 1)
    rows = np.concatenate([place, speed], 1)
    rows = np.concatenate([rows[:SIDE], hidden, rows[SIDE:]])
    times = np.concatenate([query.time_s[known][:SIDE], query.ask_s, query.time_s[known][SIDE:]])
    return np.concatenate([rows, (times - times[0])[:, None] / 3600], 1), centre


def export(asked: argparse.Namespace) -> None:
    """Write windows to train on and windows to fill."""
    asked.out.mkdir(parents=True, exist_ok=True)
    train = np.stack([window(case)[0] for case in find_cases(asked, held_out=False)])
    test = np.stack([window(case)[0] for case in find_cases(asked, held_out=True)])
    test[:, SIDE : SIDE + asked.gap, :4] = np.nan
    mean, scale = np.nanmean(train, (0, 1)), np.nanstd(train, (0, 1))
    np.savez(
        asked.out / "windows.npz", train=(train - mean) / scale, test=(test - mean) / scale, mean=mean, scale=scale
    )
    sys.stdout.write(f"{len(train)} windows to learn from, {len(test)} to fill, of {train.shape[1]} steps\n")


def run(asked: argparse.Namespace) -> None:
    """Train CSDI in PyPOTS's environment and let it fill the gaps."""
    from pypots.imputation import CSDI

    stored = np.load(asked.out / "windows.npz")
    train, test = stored["train"].astype(np.float32), stored["test"].astype(np.float32)
    model = CSDI(
        n_steps=train.shape[1],
        n_features=len(FEATURES),
        n_layers=4,
        n_heads=4,
        n_channels=64,
        d_time_embedding=128,
        d_feature_embedding=16,
        d_diffusion_embedding=128,
        n_diffusion_steps=50,
        target_strategy="mix",
        batch_size=32,
        epochs=asked.epochs,
    )
    start = time.perf_counter()
    # Of the windows to learn from CSDI hides its own share at every step.
    model.fit({"X": train})
    trained = time.perf_counter() - start
    start = time.perf_counter()
    filled = model.predict({"X": test}, n_sampling_times=MEMBERS)["imputation"]
    sampled = time.perf_counter() - start
    values = np.asarray(filled) * stored["scale"] + stored["mean"]
    np.savez(asked.out / "filled.npz", values=values, trained_s=trained, sampled_s=sampled)
    sys.stdout.write(f"trained in {trained:.0f} s, {len(test) / sampled:.2f} gaps/s with {MEMBERS} members\n")


def score(asked: argparse.Namespace) -> None:
    """Errors of CSDI and of models of geodiff on the same gaps."""
    from geodiff.sphere import from_local_km
    from geodiff.tasks.motion_models import load_motion_model
    from geodiff.tracks import TrackAnswer

    cases = find_cases(asked, held_out=True)
    stored = np.load(asked.out / "filled.npz")
    answers = []
    for case, values in zip(cases, stored["values"], strict=True):
        place = values[:, SIDE : SIDE + asked.gap, :2]
        centre = window(case)[1]
        middle = np.median(place, 0)
        drawn = from_local_km(place[..., 0], place[..., 1], *centre)
        answers.append(TrackAnswer(*from_local_km(middle[:, 0], middle[:, 1], *centre), *drawn))
    _tell("CSDI (PyPOTS)", cases, answers, float(stored["sampled_s"]))
    for name in dict.fromkeys([*asked.model, "hermite", "kalman"]):
        model = load_motion_model(name)
        start = time.perf_counter()
        answers = model.predict([case.query for case in cases], members=MEMBERS, seed=0)
        _tell(name, cases, answers, time.perf_counter() - start)


def _tell(name: str, cases: list, answers: list, seconds: float) -> None:
    from geodiff.metrics.tracks import score_track

    found = [score_track(a, c.truth_lon_deg, c.truth_lat_deg) for a, c in zip(answers, cases, strict=True)]
    figures = {
        key: np.concatenate([getattr(each, key) for each in found]) for key in ("greedy_km", "crps_km", "best_km")
    }
    told = "  ".join(
        f"{key} {values.mean():7.3f}" if len(values) else f"{key}       -" for key, values in figures.items()
    )
    sys.stdout.write(f"{name:20s} {told}  {len(cases) / seconds:9.1f} gaps/s\n")


if __name__ == "__main__":
    main()
