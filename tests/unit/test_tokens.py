"""Embeddings of time, place and noise level."""

from __future__ import annotations

import math

import pytest
import torch

from geodiff.model.tokens import LevelEmbedding, fourier_features, rotary_angles, rotate


def _score(q: torch.Tensor, k: torch.Tensor, here: float, there: float) -> float:
    angles = [
        rotary_angles(torch.tensor(day, dtype=torch.float64), 4, shortest=4, longest=3000) for day in (here, there)
    ]
    return float(rotate(q, angles[0]) @ rotate(k, angles[1]))


def test_scores_depend_on_differences_of_days_alone() -> None:
    q, k = torch.randn(8, dtype=torch.float64), torch.randn(8, dtype=torch.float64)
    near = _score(q, k, 0.0, 17.3)
    assert _score(q, k, 1000.0, 1017.3) == pytest.approx(near, abs=1e-9)
    assert _score(q, k, -400.5, -383.2) == pytest.approx(near, abs=1e-9)
    assert abs(_score(q, k, 0.0, 18.3) - near) > 1e-6
    # The past is not the future.
    assert abs(_score(q, k, 17.3, 0.0) - near) > 1e-6


def test_a_rotation_keeps_the_length_and_no_distance_is_no_rotation() -> None:
    x = torch.randn(5, 8)
    angles = rotary_angles(torch.arange(5.0), 4, shortest=4, longest=3000)
    torch.testing.assert_close(rotate(x, angles).norm(dim=-1), x.norm(dim=-1))
    torch.testing.assert_close(rotate(x, torch.zeros(5, 4)), x)


def test_the_shortest_and_longest_wavelength_are_the_first_and_last_pair() -> None:
    angles = rotary_angles(torch.tensor(4.0), 3, shortest=4.0, longest=400.0)
    torch.testing.assert_close(angles, 2 * math.pi * torch.tensor([1.0, 0.1, 0.01]))


def test_one_pair_of_channels_is_enough() -> None:
    assert rotary_angles(torch.tensor([1.0, 2.0]), 1, shortest=4.0, longest=400.0).shape == (2, 1)


def test_fourier_features_have_the_given_frequencies() -> None:
    value = torch.tensor([0.0, 0.25])
    features = fourier_features(value, 2)
    assert features.shape == (2, 4)
    torch.testing.assert_close(features[0], torch.tensor([0.0, 0.0, 1.0, 1.0]))
    half = math.sqrt(0.5)
    torch.testing.assert_close(features[1], torch.tensor([half, 1.0, half, 0.0]), atol=1e-6, rtol=0)


def test_levels_are_told_apart_and_neighbours_are_alike() -> None:
    torch.manual_seed(0)
    embed = LevelEmbedding(16)
    levels = torch.linspace(0, 1, 101)
    out = embed(levels)
    assert out.shape == (101, 16)
    steps = (out[1:] - out[:-1]).norm(dim=-1)
    assert (steps > 1e-5).all()
    assert steps.max() < 0.1 * (out - out.mean(0)).norm(dim=-1).max() * 5
    distance = torch.cdist(out, out) + torch.eye(101)
    assert distance.min() > 1e-5


def test_levels_of_any_shape_are_embedded_one_by_one() -> None:
    embed = LevelEmbedding(16)
    level = torch.rand(2, 3, 5)
    torch.testing.assert_close(embed(level)[1, 2, 4], embed(level[1, 2, 4]), atol=1e-6, rtol=1e-5)
