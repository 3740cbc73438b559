"""Attention of asked times over historic paths: which of the ways that vessels took from here is this one's."""

from __future__ import annotations

import torch
from torch import Tensor, nn

HEADS, INNER = 4, 32


class PathAttention(nn.Module):
    """Each asked time weighs the paths by where they lead, how like they are to the known fixes, and itself.

    What comes out holds the weighted departures themselves: with weights that are learned it is a kernel regression
    (Nadaraya 1964), which a network need not learn from the features of many paths. A weight without a path says that
    none of them tells.

    Args:
        path_width: features of a path at an asked time: departures, and last whether it is known there.
        likeness_width: features of a path as a whole.
        width: of tokens.
    """

    def __init__(self, path_width: int, likeness_width: int, width: int) -> None:
        super().__init__()
        self.path, self.likeness = nn.Linear(path_width, INNER), nn.Linear(likeness_width, INNER, bias=False)
        self.query, self.key_value = nn.Linear(width, INNER), nn.Linear(INNER, 2 * INNER)
        self.none = nn.Parameter(torch.zeros(HEADS))
        self.out = nn.Linear(INNER + (path_width - 1) * HEADS, width)
        # A trunk that was trained without paths begins as it was.
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, asked: Tensor, paths: Tensor, likeness: Tensor) -> Tensor:
        """What the paths add to the asked tokens.

        Args:
            asked: (batch, cells, asked, width).
            paths: (batch, cells, paths, asked, path_width); of any number of paths, none included.
            likeness: (batch, cells, paths, likeness_width).

        Returns:
            (batch, cells, asked, width).
        """
        each = nn.functional.silu(self.path(paths) + self.likeness(likeness)[..., None, :])
        key, value = (part.unflatten(-1, (HEADS, -1)) for part in self.key_value(each).chunk(2, -1))
        query = self.query(asked).unflatten(-1, (HEADS, -1))
        score = torch.einsum("bcmhd,bckmhd->bcmhk", query, key) * key.shape[-1] ** -0.5
        known = (paths[..., -1] > 0).transpose(2, 3)[..., None, :]
        score = score.masked_fill(~known, float("-inf"))
        none = self.none[:, None].expand(*score.shape[:-1], 1)
        weight = torch.cat([none, score], -1).softmax(-1)[..., 1:]
        told = torch.einsum("bcmhk,bckmhd->bcmhd", weight, value)
        way = torch.einsum("bcmhk,bckmd->bcmhd", weight, paths[..., :-1])
        out: Tensor = self.out(torch.cat([told.flatten(-2), way.flatten(-2)], -1))
        return out
