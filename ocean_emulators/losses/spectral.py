"""Errors of spectra: what is too smooth costs, wherever its eddies are."""

import torch
from torch import Tensor, nn

FLOOR = 1e-4
"""Amplitude below which waves are not told apart, in standard deviations of a channel: keeps the logarithm finite."""


class SpectralError(nn.Module):
    """Mean error of the logarithm of each channel's zonal amplitudes.

    With the amplitude A(k, lat) of wave k = 1 … lon/2 around a latitude, land being 0: the mean of |ln A' - ln A| over waves,
    and over latitudes by their wet area. This is the spectral regulariser of OceanNet (Chattopadhyay et al. 2023,
    arXiv:2310.00813), which takes amplitudes as they are, for logarithms: a wave of half its amplitude then counts alike
    whether it is planetary or an eddy. Amplitudes are √(|FFT / lon|² + FLOOR²), which is smooth at 0.

    Parameters
    ----------
    mask: [channel, lat, lon], where there is ocean
    wet_area: [channel, lat, lon], of the ocean in cells
    weight: [channel], a factor
    """

    mask: Tensor
    weight: Tensor

    def __init__(self, mask: Tensor, wet_area: Tensor, weight: Tensor) -> None:
        super().__init__()
        rows = wet_area.double().sum(-1)
        self.register_buffer("weight", (weight[:, None] * rows / rows.sum(-1, keepdim=True)).float(), persistent=False)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, predicted: Tensor, truth: Tensor) -> Tensor:
        """[..., channel, lat, lon] twice, normalised -> [..., channel]"""
        error = (self._log_amplitude(predicted) - self._log_amplitude(truth)).abs()
        return (error.mean(-1) * self.weight).sum(-1)

    def _log_amplitude(self, fields: Tensor) -> Tensor:
        """[..., lat, lon] -> [..., lat, wave]"""
        waves = torch.fft.rfft(torch.where(self.mask, fields, 0.0), norm="forward")[..., 1:]
        return 0.5 * (torch.view_as_real(waves).square().sum(-1) + FLOOR**2).log()
