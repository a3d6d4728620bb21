"""Samudra and Samudra 2: a ConvNeXt U-Net on the whole globe.

Samudra: Dheeshjith et al. 2025, doi:10.1029/2024GL114318. Samudra 2 is the same class with other widths, a smaller expansion,
and upsampling that is periodic in longitude.
"""

from functools import partial
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from torch import Tensor

from ocean_emulators.config.bounds import WHOLE, Count, Few, Positive, Width
from ocean_emulators.errors import UserError
from ocean_emulators.models.base import FAMILIES, BaseModel, BaseModelConfig, OceanContext
from ocean_emulators.models.layers.blocks import BLOCKS, Block, GlobeConv, Norm, Upsampling
from ocean_emulators.models.layers.unet import UNet, first_too_small, require_as_many


@FAMILIES.register("samudra")
class SamudraConfig(BaseModelConfig):
    type: Literal["samudra"] = "samudra"
    """model family"""
    widths: tuple[Width, ...] = Field((200, 250, 300, 400), min_length=1)
    """channels at each resolution, finest first"""
    width: Width | None = None
    """channels at the finest resolution: all widths are scaled to it; null leaves them as they are"""
    dilation: tuple[Count, ...] = Field((1, 2, 4, 8), min_length=1)
    """dilation of the convolutions at each resolution, in cells; its length is the number of poolings"""
    block: Block = "convnext"
    """what stands at each resolution: two wide convolutions and a pointwise one beside a skip (convnext), or
    convolution, normalisation and activation (conv)"""
    kernel_size: Few = 3
    """size of the convolutions in blocks, cells; odd"""
    expansion: Few = 4
    """channels inside a block / channels entering it"""
    norm: Norm = "batch"
    """normalisation inside blocks: batch, instance or none"""
    activation_cap: Positive = 10.0
    """upper bound of the GELU"""
    upsampling: Upsampling = "periodic_bilinear"
    """bilinear (Samudra; has a seam at 0°E) or periodic_bilinear (Samudra 2)"""
    head_kernel: Annotated[Literal[1, 3], WHOLE] = 3
    """size of the last convolution, cells"""

    @field_validator("kernel_size")
    @classmethod
    def _is_odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(f"found {value}: expected an odd number, so that a convolution has a cell in its middle")
        return value

    @model_validator(mode="after")
    def _lengths_agree(self) -> "SamudraConfig":
        require_as_many(self.widths, self.dilation)
        return self

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels at each resolution, finest first, as they are built."""
        scale = 1 if self.width is None else self.width / self.widths[0]
        return tuple(max(1, round(scale * width)) for width in self.widths)

    def check_grid(self, shape: tuple[int, int]) -> None:
        """Whether a grid (lat, lon) survives poolings, circular padding, and normalisation by a single window.

        Raises
        ------
        UserError
            With the first resolution that is too small and what would fit.
        """
        fault = first_too_small(shape, self.dilation, self.kernel_size, self.norm)
        if fault:
            why = fault.explain("cells", "grid")
            raise UserError(f"model.dilation: {list(self.dilation)} {why} or smaller dilations")

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
            config.channels,
            config.dilation,
            partial(
                BLOCKS[config.block],
                kernel_size=config.kernel_size,
                expansion=config.expansion,
                norm=config.norm,
                activation_cap=config.activation_cap,
            ),
            periodic_upsampling=config.upsampling == "periodic_bilinear",
            checkpointing=config.checkpointing,
        )
        if config.compile:
            self.unet.compile(dynamic=False)
        self.decoder = GlobeConv(config.channels[0], self.out_channels, config.head_kernel)
        self.begin_near_persistence(self.decoder)

    def network(self, x: Tensor, grid: str | None = None) -> Tensor:
        """[batch, in_channels, lat, lon] -> [batch, out_channels, lat, lon], on any grid"""
        with self.config.autocast(x):
            x = self.unet(x)
        out: Tensor = self.decoder(x.float())
        return out
