"""FOMO: encoder, processor and decoder on a latent grid that all resolutions share, so that one set of weights knows them all.

The preset `fomo_published` has the size and structure of the published "samudra-multi": each patch of 3° × 5° is read by a
Perceiver, the U-Net of Samudra steps the latent grid, and a Perceiver IO is asked for each cell.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ocean_emulators.config import Config
from ocean_emulators.errors import UserError
from ocean_emulators.models.base import BaseModel, BaseModelConfig, OceanContext
from ocean_emulators.models.blocks import Norm
from ocean_emulators.models.patches import cut
from ocean_emulators.models.perceiver_decoder import PerceiverDecoderConfig
from ocean_emulators.models.perceiver_encoder import PerceiverEncoderConfig
from ocean_emulators.models.unet import UNet


class ProcessorConfig(Config):
    """The U-Net on the latent grid."""

    width: tuple[Annotated[int, Field(ge=4, multiple_of=4)], ...] = Field((380, 480, 520), min_length=1)
    """channels at each resolution, finest first, multiples of 4; the first is what the decoder is given"""
    dilation: tuple[Annotated[int, Field(ge=1)], ...] = (1, 1, 1)
    """dilation of the 3×3 convolutions at each resolution, in patches; as many as widths"""
    expansion: int = Field(2, ge=1)
    """channels inside a block / channels entering it"""
    norm: Norm = "instance"
    """normalisation inside blocks: batch, instance or none"""
    activation_cap: float = Field(10.0, gt=0)
    """upper bound of the GELU"""

    @model_validator(mode="after")
    def _lengths_agree(self) -> "ProcessorConfig":
        if len(self.width) != len(self.dilation):
            raise ValueError(
                f"width has {len(self.width)} resolutions and dilation {len(self.dilation)}: give as many of each"
            )
        return self

    def build(self, in_channels: int, shape: tuple[int, int]) -> UNet:
        """The U-Net for a latent grid of some shape, (lat, lon).

        Raises
        ------
        UserError
            If the grid does not survive its poolings and circular padding.
        """
        for level, dilation in enumerate((*self.dilation, self.dilation[-1])):
            n_lat, n_lon = shape[0] >> level, shape[1] >> level
            if n_lat < 2 or n_lon < max(2, dilation):
                raise UserError(
                    f"model.processor.dilation: {list(self.dilation)} needs at least 2 × {max(2, dilation)} patches after "
                    f"{level} pooling(s), but the latent grid of {shape[0]} × {shape[1]} has {n_lat} × {n_lon} there; use "
                    "fewer resolutions (shorter width and dilation), smaller dilations, or a smaller model.patch_extent"
                )
        return UNet(
            in_channels,
            self.width,
            self.dilation,
            self.expansion,
            self.norm,
            self.activation_cap,
            periodic_upsampling=True,
        )


class FomoConfig(BaseModelConfig):
    type: Literal["fomo"] = "fomo"
    """model family"""
    patch_extent: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (3.0, 5.0)
    """latitude and longitude that a cell of the latent grid spans, degrees; every resolution is cut into such patches"""
    encoder: PerceiverEncoderConfig = PerceiverEncoderConfig()
    """from a grid to the latent grid"""
    processor: ProcessorConfig = ProcessorConfig()
    """what steps the latent grid"""
    decoder: PerceiverDecoderConfig = PerceiverDecoderConfig()
    """from the latent grid to a grid"""

    def activations_per_cell(self, in_channels: int) -> float:
        """Rough estimate of the values kept for back-propagation in one call, per cell of a grid of 1°.

        Encoder and decoder work in chunks that are computed again on the way back: what enters and leaves them is kept.
        """
        widths, total = [self.encoder.width, *self.processor.width], 0.0
        for level, (cin, cout) in enumerate(zip(widths, self.processor.width, strict=False)):
            total += (8 * self.processor.expansion * (cin + cout) + 6 * cout) / 4**level
        return 3 * in_channels + total / (self.patch_extent[0] * self.patch_extent[1])

    def build(self, *oceans: OceanContext) -> "Fomo":
        """The model, with fresh weights, for resolutions of an ocean.

        Raises
        ------
        UserError
            If patches or windows don't divide a grid, or too few patches are left for the processor.
        """
        return Fomo(self, *oceans)


class Fomo(BaseModel):
    """What the encoder makes of a grid is stepped on the latent grid, and read out on the same grid."""

    def __init__(self, config: FomoConfig, *oceans: OceanContext) -> None:
        super().__init__(config, *oceans)
        grids = cut(oceans, config.patch_extent)
        self.encoder = config.encoder.build(self.in_channels, grids)
        self.processor = config.processor.build(config.encoder.width, grids[0].latent_shape)
        self.decoder = config.decoder.build(config.processor.width[0], self.out_channels, grids)
        if config.prediction == "change":  # begin near persistence
            with torch.no_grad():
                self.decoder.head.weight.mul_(0.1)
                self.decoder.head.bias.zero_()

    def network(self, x: Tensor, resolution: int = 0) -> Tensor:
        """[batch, in_channels, lat, lon] -> [batch, out_channels, lat, lon], on any grid that it was built for"""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            latent = self.processor(self.encoder(x, resolution))
            out: Tensor = self.decoder(latent, x, resolution)
        return out
