"""FOMO: encoder, processor and decoder on a latent grid that all resolutions share, so that one set of weights knows them all.

The preset `fomo_published` has the size and structure of the published "samudra-multi": each patch of 3° × 5° is read by a
Perceiver, the U-Net of Samudra steps the latent grid, and a Perceiver IO is asked for each cell. `fomo_small` takes means over
wet area instead, and its decoder sees the input once more; see `conservative.py`.
"""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal

from pydantic import Field, model_validator
from torch import Tensor

from ocean_emulators.config.base import Config
from ocean_emulators.config.bounds import Count, Few, Positive, Width
from ocean_emulators.errors import UserError
from ocean_emulators.models.base import FAMILIES, BaseModel, BaseModelConfig, OceanContext
from ocean_emulators.models.fomo.conservative import (
    ConservativeEncoder,
    ConservativeEncoderConfig,
    ResidualDecoder,
    ResidualDecoderConfig,
)
from ocean_emulators.models.fomo.patches import PatchedGrid, cut
from ocean_emulators.models.fomo.perceiver_decoder import PerceiverDecoder, PerceiverDecoderConfig
from ocean_emulators.models.fomo.perceiver_encoder import PerceiverEncoder, PerceiverEncoderConfig
from ocean_emulators.models.fomo.regridding import Axes
from ocean_emulators.models.layers.activation_checkpointing import Checkpointing
from ocean_emulators.models.layers.blocks import ConvNeXtBlock, Norm
from ocean_emulators.models.layers.unet import UNet, first_too_small, require_as_many

_KERNEL_SIZE = 3


class ProcessorConfig(Config):
    """The U-Net on the latent grid."""

    widths: tuple[Annotated[Width, Field(ge=4, multiple_of=4)], ...] = Field((380, 480, 520), min_length=1)
    """channels at each resolution, finest first, multiples of 4; the first is what the decoder is given"""
    dilation: tuple[Count, ...] = (1, 1, 1)
    """dilation of the 3×3 convolutions at each resolution, in patches; as many as widths"""
    expansion: Few = 2
    """channels inside a block / channels entering it"""
    norm: Norm = "instance"
    """normalisation inside blocks: batch, instance or none"""
    activation_cap: Positive = 10.0
    """upper bound of the GELU"""

    @model_validator(mode="after")
    def _lengths_agree(self) -> "ProcessorConfig":
        require_as_many(self.widths, self.dilation)
        return self

    def build(self, in_channels: int, shape: tuple[int, int], checkpointing: Checkpointing = "none") -> UNet:
        """The U-Net for a latent grid of some shape, (lat, lon).

        Raises
        ------
        UserError
            If the grid does not survive its poolings and circular padding.
        """
        fault = first_too_small(shape, self.dilation, _KERNEL_SIZE, self.norm)
        if fault:
            why = fault.explain("patches", "latent grid")
            raise UserError(
                f"model.processor.dilation: {list(self.dilation)} {why}, smaller dilations, or a smaller model.patch_extent"
            )
        return UNet(
            in_channels,
            self.widths,
            self.dilation,
            partial(ConvNeXtBlock, expansion=self.expansion, norm=self.norm, activation_cap=self.activation_cap),
            periodic_upsampling=True,
            checkpointing=checkpointing,
        )


EncoderConfig = Annotated[PerceiverEncoderConfig | ConservativeEncoderConfig, Field(discriminator="type")]
DecoderConfig = Annotated[PerceiverDecoderConfig | ResidualDecoderConfig, Field(discriminator="type")]


@FAMILIES.register("fomo")
class FomoConfig(BaseModelConfig):
    type: Literal["fomo"] = "fomo"
    """model family"""
    patch_extent: tuple[Annotated[float, Field(ge=0.01, le=180)], Annotated[float, Field(ge=0.01, le=360)]] = (3.0, 5.0)
    """latitude and longitude that a cell of the latent grid spans, degrees; every resolution is cut into such patches"""
    encoder: EncoderConfig = PerceiverEncoderConfig()
    """from a grid to the latent grid"""
    processor: ProcessorConfig = ProcessorConfig()
    """what steps the latent grid"""
    decoder: DecoderConfig = PerceiverDecoderConfig()
    """from the latent grid to a grid"""

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

    config: FomoConfig

    def __init__(self, config: FomoConfig, *oceans: OceanContext) -> None:
        super().__init__(config, *oceans)
        axes, kinds = Axes.of(oceans[0]), (config.encoder.type, config.decoder.type)
        # A Perceiver reads whole cells: its patches divide every grid. Others need not.
        patched = cut(oceans, config.patch_extent) if "perceiver" in kinds else []
        latent = axes.joined(patched[0].patch) if patched else axes.latent(config.patch_extent)
        self.encoder = self._build_encoder(config.encoder, oceans, patched, latent)
        self.processor = config.processor.build(self.encoder.out_channels, latent.shape, config.checkpointing)
        self.decoder = self._build_decoder(config.decoder, oceans, patched, latent)
        if config.compile:
            self.processor.compile(dynamic=False)
        self.begin_near_persistence(self.decoder.head)

    def _build_encoder(
        self, config: EncoderConfig, oceans: Sequence[OceanContext], patched: Sequence[PatchedGrid], latent: Axes
    ) -> PerceiverEncoder | ConservativeEncoder:
        if isinstance(config, PerceiverEncoderConfig):
            return config.build(self.in_channels, patched)
        return config.build(self.in_channels, self.channel_of_input(), oceans, latent, self.config.checkpointing)

    def _build_decoder(
        self, config: DecoderConfig, oceans: Sequence[OceanContext], patched: Sequence[PatchedGrid], latent: Axes
    ) -> PerceiverDecoder | ResidualDecoder:
        width = self.config.processor.widths[0]
        if isinstance(config, PerceiverDecoderConfig):
            return config.build(width, self.out_channels, patched)
        return config.build(self.in_channels, width, self.out_channels, oceans, latent, self.config.checkpointing)

    def network(self, x: Tensor, grid: str) -> Tensor:
        """[batch, in_channels, lat, lon] -> [batch, out_channels, lat, lon], on any grid that it was built for"""
        with self.config.autocast(x):
            latent = self.processor(self.encoder(x, grid))
            out: Tensor = self.decoder(latent, x, grid)
        return out
