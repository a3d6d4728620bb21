"""Samudra and Samudra 2: a ConvNeXt U-Net on the whole globe.

Samudra: Dheeshjith et al. 2025, doi:10.1029/2024GL114318. Samudra 2 is the same class with other widths, a smaller expansion,
and upsampling that is periodic in longitude.
"""

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ocean_emulators.errors import UserError
from ocean_emulators.models.base import BaseModel, BaseModelConfig, OceanContext
from ocean_emulators.models.blocks import GlobeConv, Norm, Upsampling
from ocean_emulators.models.unet import UNet


class SamudraConfig(BaseModelConfig):
    type: Literal["samudra"] = "samudra"
    """model family"""
    width: int | tuple[int, ...] = (200, 250, 300, 400)
    """channels at each resolution, finest first; one number means the same at every resolution"""
    dilation: tuple[int, ...] = Field((1, 2, 4, 8), min_length=1)
    """dilation of the 3×3 convolutions at each resolution, in cells; its length is the number of poolings"""
    expansion: int = Field(4, ge=1)
    """channels inside a block / channels entering it"""
    norm: Norm = "batch"
    """normalisation inside blocks: batch, instance or none"""
    activation_cap: float = Field(10.0, gt=0)
    """upper bound of the GELU"""
    upsampling: Upsampling = "periodic_bilinear"
    """bilinear (Samudra; has a seam at 0°E) or periodic_bilinear (Samudra 2)"""
    head_kernel: Literal[1, 3] = 3
    """size of the last convolution, cells"""

    @model_validator(mode="after")
    def _lengths_agree(self) -> "SamudraConfig":
        if isinstance(self.width, tuple) and len(self.width) != len(self.dilation):
            raise ValueError(
                f"width has {len(self.width)} resolutions and dilation {len(self.dilation)}: give as many of each, "
                "or one number as width"
            )
        if min((*self.widths, *self.dilation)) < 1:
            raise ValueError("width and dilation must be at least 1")
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels at each resolution, finest first."""
        return self.width if isinstance(self.width, tuple) else (self.width,) * len(self.dilation)

    def check_grid(self, shape: tuple[int, int]) -> None:
        """Whether a grid (lat, lon) survives poolings and circular padding.

        Raises
        ------
        UserError
            With the first resolution that is too small and what would fit.
        """
        sizes = [(shape[0] >> level, shape[1] >> level) for level in range(len(self.dilation) + 1)]
        dilations = (*self.dilation, self.dilation[-1])
        for level, ((n_lat, n_lon), dilation) in enumerate(zip(sizes, dilations, strict=True)):
            if n_lat < 2 or n_lon < max(2, dilation):
                raise UserError(
                    f"model.dilation: {list(self.dilation)} needs at least 2 × {max(2, dilation)} cells after "
                    f"{level} pooling(s), but the grid of {shape[0]} × {shape[1]} has {n_lat} × {n_lon} there; "
                    "use fewer resolutions (shorter width and dilation) or smaller dilations"
                )

    def build(self, *oceans: OceanContext) -> "Samudra":
        """The model, with fresh weights, for resolutions of an ocean."""
        for ocean in oceans:
            self.check_grid(ocean.grid_shape)
        return Samudra(self, *oceans)


class Samudra(BaseModel):
    """The U-Net and a convolution that reads the channels out."""

    def __init__(self, config: SamudraConfig, *oceans: OceanContext) -> None:
        super().__init__(config, *oceans)
        self.unet = UNet(
            self.in_channels,
            config.widths,
            config.dilation,
            config.expansion,
            config.norm,
            config.activation_cap,
            periodic_upsampling=config.upsampling == "periodic_bilinear",
            checkpointing=config.checkpointing,
        )
        if config.compile:
            self.unet.compile()
        self.decoder = GlobeConv(config.widths[0], self.out_channels, config.head_kernel)
        if config.prediction == "change":  # begin near persistence
            with torch.no_grad():
                self.decoder.weight.mul_(0.1)
                self.decoder.bias.zero_()  # type: ignore[union-attr]

    def network(self, x: Tensor, resolution: int = 0) -> Tensor:
        """[batch, in_channels, lat, lon] -> [batch, out_channels, lat, lon], on any grid"""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            x = self.unet(x)
        out: Tensor = self.decoder(x.float())
        return out
