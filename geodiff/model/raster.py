"""Images as tensors: moved, upsampled, repeated in blocks, and the neighbours of their cells."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def upsample(image: Tensor, scale: int) -> Tensor:
    """Bicubic, (batch, band, y, x) -> (batch, band, scale*y, scale*x)."""
    result: Tensor = F.interpolate(image, scale_factor=scale, mode="bicubic", align_corners=False)
    return result


def in_blocks(image: Tensor, step: int) -> Tensor:
    """Each pixel of (..., y, x) as a block of ``step`` by ``step``."""
    return image.repeat_interleave(step, -2).repeat_interleave(step, -1)


def shift_image(image: Tensor, shift_px: Tensor) -> Tensor:
    """Sample images at x + shift, bilinearly: brings content that lies ``shift_px`` (down, right) off back home.

    Args:
        image: (n, channels, y, x).
        shift_px: (n, 2).
    """
    rows, cols = image.shape[-2:]
    identity = torch.eye(2, 3, device=image.device, dtype=image.dtype).expand(len(image), 2, 3)
    grid = F.affine_grid(identity, list(image.shape), align_corners=False)
    size = torch.tensor([cols, rows], device=image.device, dtype=image.dtype)
    return F.grid_sample(
        image, grid + (2 * shift_px.flip(-1) / size)[:, None, None, :], padding_mode="border", align_corners=False
    )


def grid_neighbours(rows: int, cols: int, reach: int) -> tuple[Tensor, Tensor]:
    """Indices of the (2 reach + 1)^2 neighbours of each cell of a raster, and which of them lie inside it."""
    row, col = torch.meshgrid(torch.arange(rows), torch.arange(cols), indexing="ij")
    step = torch.arange(-reach, reach + 1)
    down, right = (part.flatten() for part in torch.meshgrid(step, step, indexing="ij"))
    r, c = row.flatten()[:, None] + down, col.flatten()[:, None] + right
    near = (r >= 0) & (r < rows) & (c >= 0) & (c < cols)
    return r.clamp(0, rows - 1) * cols + c.clamp(0, cols - 1), near
