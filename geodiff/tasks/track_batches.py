"""Batches that a training on tracks learns from and is watched on, each drawn by its own number alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from geodiff.model.tracks import Fleet
from geodiff.rng import generator
from geodiff.tasks.track_data import TrackData
from geodiff.tasks.track_fleets import MIRROR, fleet_of, mirrored, named_where, pad_scenes
from geodiff.tasks.track_generation_lessons import GenerationLessons
from geodiff.tasks.train_tracks_settings import TrackTrainConfig
from geodiff.vessels.history import TrackHistory
from geodiff.vessels.velocities import KINDS
from geodiff.vessels.windows import build_windows
from geodiff.vessels.windows_draw import TrackPool

Batch = tuple[Fleet, Tensor]
"""What is seen, and the departures (batch, cells, asked, 2) that are true."""

VERSIONS = 4
"""Lessons for each window there is, at most; in each another part of it is known."""


def make_batch(pool: TrackPool, history: TrackHistory, config: TrackTrainConfig, *key: str | int) -> Batch:
    """A batch whose numbers depend on the key alone."""
    rng = generator(config.seed, "tracks", *key)
    together = rng.random() < config.scene_share
    if together:
        drawn = pool.draw_scenes(max(config.batch // config.scene_vessels, 1), config.scene_vessels, rng, config.drawn)
    else:
        drawn = pool.draw(config.batch, rng, config.drawn)
    windows = build_windows(drawn.queries, history)
    rows = np.arange(len(windows))[:, None]
    if together:
        rows = pad_scenes(np.array([query.scene for query in drawn.queries]), config.scene_vessels)
    fleet = fleet_of(windows, scenes=rows)
    truth = windows.to_payload(drawn.lon_deg, drawn.lat_deg).astype(np.float32)
    told = torch.from_numpy(rng.random(len(rows)) < config.history_share)
    named = torch.from_numpy(rng.random(len(rows)) < config.group_share)
    fleet = named_where(fleet.told_history(told), named)
    # No rule of motion tells port from starboard.
    which = torch.from_numpy(rng.random(len(rows)) < 0.5)
    return mirrored(fleet, which), torch.from_numpy(truth[rows]) * torch.where(which[:, None, None, None], MIRROR, 1.0)


def prepare_lessons(
    data: TrackData, config: TrackTrainConfig, *, tell: Callable[[str], None] | None = None
) -> GenerationLessons | None:
    """Windows to learn generation from; None where none are learned from."""
    if data.pieces is None or config.generation_share == 0:
        return None
    count = min(config.generation_windows, VERSIONS * len(data.pieces))
    if tell:
        tell(f"{count} windows are prepared to learn generation from, some 300 a second")
    return GenerationLessons.prepare(
        data.pieces,
        data.history,
        count=count,
        history_share=config.history_share,
        rng=generator(config.seed, "lessons"),
    )


def any_batch(data: TrackData, lessons: GenerationLessons | None, config: TrackTrainConfig, *key: str | int) -> Batch:
    """A batch of questions about tracks, or of whole tracks to generate, as the key decides."""
    chance = generator(config.seed, "kind of batch", *key)
    if lessons is not None and chance.random() < config.generation_share:
        return lessons.batch(config.batch, chance)
    return make_batch(data.pool, data.history, config, *key)


class Batches(IterableDataset[Batch]):
    """Endless batches from the step at which a training goes on; other ranks and workers draw others."""

    def __init__(
        self,
        data: TrackData,
        lessons: GenerationLessons | None,
        config: TrackTrainConfig,
        *,
        start: int,
        rank: int,
        world: int,
    ) -> None:
        self.data, self.lessons, self.config = data, lessons, config
        self.start, self.rank, self.world = start, rank, world

    def __iter__(self) -> Iterator[Batch]:
        worker = torch.utils.data.get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        number = self.start + first
        while True:
            yield any_batch(self.data, self.lessons, self.config, number * self.world + self.rank)
            number += step


def is_generation(fleet: Fleet) -> bool:
    """Whether whole tracks are to be generated: their stretch is of none of the three kinds."""
    return not bool(fleet.asked[..., KINDS].any())


class Held(Dataset[Batch]):
    """Fixed batches of vessels that are held out."""

    def __init__(self, data: TrackData, config: TrackTrainConfig) -> None:
        self.batches = [make_batch(data.held, data.history, config, "held", i) for i in range(config.validate_batches)]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Batch:
        return self.batches[index]
