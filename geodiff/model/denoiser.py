"""The trunk: pre-norm transformer blocks over real times and real places, shared by every modality.

Clean tokens never attend to noisy ones, so the trunk runs in two calls: ``encode`` sees the clean tokens once and keeps
the keys and values of every layer; ``denoise`` runs the noisy tokens against them, as often as the sampler asks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geodiff.model.tokens import LevelEmbedding, Tokens, rotary_angles, rotate

Span = tuple[float, float]

CONDITION = 64
"""Width of what modulates the blocks."""

TIME_WAVELENGTHS_DAYS: Span = (4.0, 3000.0)
PLACE_WAVELENGTHS_M: Span = (60.0, 60_000.0)


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """What the clean tokens leave behind: per layer keys and values (batch * cells, heads, times, head), and a mask."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    valid: Tensor
    output: Tensor


def _heads(x: Tensor, heads: int) -> Tensor:
    """(..., n, width) -> (..., heads, n, width / heads)."""
    split: Tensor = x.unflatten(-1, (heads, -1)).transpose(-3, -2)
    return split


class Attention(nn.Module):
    """The projections of an attention, with normalised queries and keys (qk-norm, Henry et al. 2020)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.norm_q, self.norm_k = nn.RMSNorm(width // heads), nn.RMSNorm(width // heads)
        self.out = nn.Linear(width, width)


class TemporalAttention(Attention):
    """Attention of each cell over its dates, at real time differences."""

    def __init__(self, width: int, heads: int, wavelengths_days: Span = TIME_WAVELENGTHS_DAYS) -> None:
        super().__init__(width, heads)
        self.wavelengths_days = wavelengths_days

    def forward(
        self, x: Tensor, days: Tensor, valid: Tensor, past: tuple[Tensor, Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x (batch, times, cells, width) -> the same, and the keys and values (batch * cells, heads, times, head)."""
        batch, times, cells, _ = x.shape
        folded = x.transpose(1, 2).flatten(0, 1)
        q, k, v = (_heads(part, self.heads) for part in self.qkv(folded).chunk(3, -1))
        shortest, longest = self.wavelengths_days
        each = days[..., None].expand(-1, -1, cells) if days.dim() == 2 else days
        angles = rotary_angles(each, q.shape[-1] // 2, shortest=shortest, longest=longest)
        angles = angles.transpose(1, 2).flatten(0, 1)[:, None]
        q, k = rotate(self.norm_q(q), angles), rotate(self.norm_k(k), angles)
        # A token always sees itself: a date under cloud must not turn its whole row into NaN.
        own = valid.transpose(1, 2).flatten(0, 1)[:, None, None, :] | torch.eye(
            times, dtype=torch.bool, device=x.device
        )
        keys, values, mask = k, v, own
        if past is not None:
            keys, values = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
            mask = torch.cat([past[2][:, None, None, :].expand(-1, -1, times, -1), own.expand(-1, -1, times, -1)], -1)
        mixed = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
        mixed = self.out(mixed.transpose(1, 2).flatten(2)).unflatten(0, (batch, cells)).transpose(1, 2)
        return mixed, k, v


class SpatialAttention(Attention):
    """Attention of each frame over neighbouring cells, at real distances in metres."""

    def __init__(self, width: int, heads: int, wavelengths_m: Span = PLACE_WAVELENGTHS_M) -> None:
        super().__init__(width, heads)
        self.wavelengths_m = wavelengths_m

    def forward(self, x: Tensor, tokens: Tokens) -> Tensor:
        """x (batch, times, cells, width) -> the same."""
        if x.shape[2] == 1:
            # A lone cell sees itself alone, with weight one: its value is what comes out.
            lone: Tensor = self.out(F.linear(x, self.qkv.weight[-x.shape[-1] :]))
            return lone
        q, k, v = (part.unflatten(-1, (self.heads, -1)) for part in self.qkv(x).chunk(3, -1))
        pairs = q.shape[-1] // 4
        shortest, longest = self.wavelengths_m
        place = tokens.place_m if tokens.place_m.dim() == 4 else tokens.place_m[:, None]
        angles = torch.cat(
            [rotary_angles(place[..., axis], pairs, shortest=shortest, longest=longest) for axis in (0, 1)], -1
        )[:, :, :, None, :]
        q, k = rotate(self.norm_q(q), angles), rotate(self.norm_k(k), angles)
        # A cell repeats itself where its neighbourhood is cut by the border: it counts once.
        own = tokens.near & (tokens.neighbours == torch.arange(x.shape[2], device=x.device)[:, None])
        seen = tokens.near & tokens.valid[:, :, tokens.neighbours] | own
        # Frame by frame: the gathered neighbourhoods are ``reach`` times larger than the tokens, the peak of memory.
        frames = [_among_neighbours(q[:, t], k[:, t], v[:, t], seen[:, t], tokens) for t in range(x.shape[1])]
        mixed = torch.stack(frames, 1)
        out: Tensor = self.out(mixed.flatten(-2))
        return out


def _among_neighbours(q: Tensor, k: Tensor, v: Tensor, seen: Tensor, tokens: Tokens) -> Tensor:
    """Attention of each cell of one frame over its neighbours: (batch, cells, heads, head) -> the same."""
    shape, flat = tokens.neighbours.shape, tokens.neighbours.flatten()
    near_k, near_v = (part.index_select(1, flat).unflatten(1, shape) for part in (k, v))
    scores = torch.einsum("bshd,bsnhd->bshn", q, near_k) * q.shape[-1] ** -0.5
    weights = scores.masked_fill(~seen[:, :, None, :], float("-inf")).softmax(-1)
    return torch.einsum("bshn,bsnhd->bshd", weights, near_v)


class Block(nn.Module):
    """Temporal and spatial attention, SwiGLU (Shazeer 2020), modulated by level and class (AdaLN, Peebles 2023)."""

    def __init__(self, width: int, heads: int, condition: int, days: Span, metres: Span) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(3))
        self.modulation = nn.Linear(condition, 9 * width)
        self.temporal = TemporalAttention(width, heads, days)
        self.spatial = SpatialAttention(width, heads, metres)
        self.gate, self.up, self.down = (
            nn.Linear(width, 2 * width),
            nn.Linear(width, 2 * width),
            nn.Linear(2 * width, width),
        )
        # Gates start small, not at zero: with a few thousand steps the trunk must earn its keep from the first.
        nn.init.normal_(self.modulation.weight, std=0.02)
        with torch.no_grad():
            self.modulation.bias.zero_().view(9, width)[2::3] = 0.3

    def forward(
        self, x: Tensor, condition: Tensor, tokens: Tokens, past: tuple[Tensor, Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        shift1, scale1, gate1, shift2, scale2, gate2, shift3, scale3, gate3 = self.modulation(condition).chunk(9, -1)
        mixed, keys, values = self.temporal(self.norms[0](x) * (1 + scale1) + shift1, tokens.days, tokens.valid, past)
        x = x + gate1 * mixed
        x = x + gate2 * self.spatial(self.norms[1](x) * (1 + scale2) + shift2, tokens)
        hidden = self.norms[2](x) * (1 + scale3) + shift3
        return x + gate3 * self.down(F.silu(self.gate(hidden)) * self.up(hidden)), keys, values


class Denoiser(nn.Module):
    """The spatio-temporal denoiser: blocks over tokens of any modality.

    Args:
        width, heads, layers: of the blocks.
        condition: width of the embedded noise level, and of ``Tokens.condition``.
        wavelengths_days: shortest and longest wavelength of the rotary embedding of time.
        wavelengths_m: of place.
    """

    def __init__(
        self,
        *,
        width: int,
        heads: int,
        layers: int,
        condition: int = CONDITION,
        wavelengths_days: Span = TIME_WAVELENGTHS_DAYS,
        wavelengths_m: Span = PLACE_WAVELENGTHS_M,
    ) -> None:
        super().__init__()
        self.level = LevelEmbedding(condition)
        self.blocks = nn.ModuleList(
            Block(width, heads, condition, wavelengths_days, wavelengths_m) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def _condition(self, tokens: Tokens) -> Tensor:
        """What modulates the blocks, broadcastable to (batch, times, cells, condition)."""
        level: Tensor = self.level(tokens.level)
        return F.silu(level if tokens.condition is None else level + tokens.condition)

    def encode(self, clean: Tokens) -> Context:
        """Run the clean tokens once; ``output`` is (batch, times, cells, width)."""
        x, condition = clean.payload, self._condition(clean)
        keys, values = [], []
        for block in self.blocks:
            x, k, v = block(x, condition, clean, None)
            keys.append(k)
            values.append(v)
        valid = clean.valid.transpose(1, 2).flatten(0, 1)
        return Context(tuple(keys), tuple(values), valid, self.norm(x))

    def denoise(self, noisy: Tokens, context: Context) -> Tensor:
        """Run noisy tokens against the context; (batch, times, cells, width)."""
        out: Tensor = self.norm(self.hidden(noisy, context, len(self.blocks)))
        return out

    def hidden(self, noisy: Tokens, context: Context, layers: int) -> Tensor:
        """The noisy tokens after the first ``layers`` blocks; (batch, times, cells, width)."""
        x, condition = noisy.payload, self._condition(noisy)
        for block, keys, values in list(zip(self.blocks, context.keys, context.values, strict=True))[:layers]:
            x, _, _ = block(x, condition, noisy, (keys, values, context.valid))
        return x
