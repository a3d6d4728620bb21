"""Perceivers: many tokens are read into a few latent vectors, which attend to one another, by cross-attention.

Perceiver: Jaegle et al. 2021, arXiv:2103.03206; Perceiver IO: Jaegle et al. 2022, arXiv:2107.14795. Feed-forward layers are
gated by a GELU (Shazeer 2020, arXiv:2002.05202). Normalisation comes before each layer.
"""

from typing import Self

import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor, nn

from ocean_emulators.config.base import Config
from ocean_emulators.config.bounds import Few, Width

_MOST_VALUES = 2**23  # twenty times what the published model has, and a quarter of a chunk


class LatentsConfig(Config):
    """The latent vectors into which a patch, or a window of patches, is read."""

    latents: Width = 256
    """latent vectors of each patch or window"""
    latent_width: Width = 64
    """channels of a latent vector"""
    heads: Few = 8
    """heads of the attention among latents; what is read into them or out of them is read by one"""
    head_width: Width = 64
    """channels of a head"""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.widest > _MOST_VALUES:
            raise ValueError(
                f"latents: {self.latents} of width {self.latent_width}, with {self.heads} heads of {self.head_width}, need "
                f"{self.widest:,} values for one patch or window, more than {_MOST_VALUES:,}; give fewer or narrower ones"
            )
        return self

    @property
    def widest(self) -> int:
        """Values of the widest layer of all latents: projections for the attention among them, or the feed-forward."""
        return self.latents * max(3 * self.heads * self.head_width, 8 * self.latent_width)


class Attention(nn.Module):
    """softmax(q kᵀ / √head_width) v of normalised input, by heads: of `x` to `context`, or to itself."""

    def __init__(self, width: int, heads: int, head_width: int, context_width: int | None = None) -> None:
        super().__init__()
        inner = heads * head_width
        self.head_width = head_width
        self.norm = nn.LayerNorm(width)
        self.norm_context = None if context_width is None else nn.LayerNorm(context_width)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(context_width or width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """[batch, n, width], context [batch, m, context_width] -> [batch, n, width], nothing added to `x`"""
        x = self.norm(x)
        if self.norm_context is not None:
            assert context is not None
            context = self.norm_context(context)
        else:
            context = x
        k, v = self._by_head(self.to_kv(context)).chunk(2, dim=1)
        out = F.scaled_dot_product_attention(self._by_head(self.to_q(x)), k, v)
        y: Tensor = self.to_out(out.transpose(1, 2).flatten(2))
        return y

    def _by_head(self, x: Tensor) -> Tensor:
        """[batch, n, part · head · head_width] -> [batch, part · head, n, head_width]"""
        return torch.unflatten(x, 2, (-1, self.head_width)).transpose(1, 2)


class FeedForward(nn.Module):
    """Per token: a layer of four times the width, half of it gated by the GELU of the other half, and one back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.rise = nn.Linear(width, 8 * width)
        self.fall = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[…, width] -> […, width], nothing added to `x`"""
        values, gates = self.rise(self.norm(x)).chunk(2, dim=-1)
        y: Tensor = self.fall(values * F.gelu(gates))
        return y


class CrossBlock(nn.Module):
    """Latents read a context with one head, then are transformed each by itself."""

    def __init__(self, width: int, head_width: int, context_width: int) -> None:
        super().__init__()
        self.attention = Attention(width, 1, head_width, context_width)
        self.feed_forward = FeedForward(width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """[batch, n, width], context [batch, m, context_width] -> [batch, n, width]"""
        x = x + self.attention(x, context)
        y: Tensor = x + self.feed_forward(x)
        return y


class SelfBlock(nn.Module):
    """Latents read one another, then are transformed each by itself."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads, head_width)
        self.feed_forward = FeedForward(width)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, n, width] -> [batch, n, width]"""
        x = x + self.attention(x)
        y: Tensor = x + self.feed_forward(x)
        return y


class Perceiver(nn.Module):
    """Reads tokens `depth` times, with two blocks of self-attention after each; the mean over the latents is the result."""

    def __init__(self, token_width: int, out_width: int, depth: int, config: LatentsConfig) -> None:
        super().__init__()
        width, heads, head_width = config.latent_width, config.heads, config.head_width
        self.latents = nn.Parameter(torch.randn(config.latents, width))
        self.read = nn.ModuleList(CrossBlock(width, head_width, token_width) for _ in range(depth))
        self.think = nn.ModuleList(
            nn.Sequential(*(SelfBlock(width, heads, head_width) for _ in range(2))) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, out_width)

    def forward(self, tokens: Tensor) -> Tensor:
        """[batch, n, token_width] -> [batch, out_width]"""
        x = self.latents.expand(len(tokens), -1, -1)
        for read, think in zip(self.read, self.think, strict=True):
            x = think(read(x, tokens))
        y: Tensor = self.out(self.norm(x.mean(1)))
        return y


class PerceiverIO(nn.Module):
    """Reads tokens once; after `depth` passes through one block of self-attention, queries read the latents.

    What the queries were is not added to what they read: they say where to look only.
    """

    def __init__(self, token_width: int, query_width: int, depth: int, config: LatentsConfig) -> None:
        super().__init__()
        width, heads, head_width = config.latent_width, config.heads, config.head_width
        self.latents = nn.Parameter(torch.randn(config.latents, width))
        self.read = CrossBlock(width, head_width, token_width)
        self.think = SelfBlock(width, heads, head_width)
        self.depth = depth
        self.answer = Attention(query_width, 1, head_width, width)
        self.feed_forward = FeedForward(query_width)

    def forward(self, tokens: Tensor, queries: Tensor) -> Tensor:
        """[batch, n, token_width], queries [batch, m, query_width] -> [batch, m, query_width]"""
        x = self.read(self.latents.expand(len(tokens), -1, -1), tokens)
        for _ in range(self.depth):
            x = self.think(x)
        y = self.answer(queries, x)
        answer: Tensor = y + self.feed_forward(y)
        return answer
