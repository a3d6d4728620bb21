"""FOMO: encoder, processor and decoder on a latent grid that all resolutions share (`model`).

The encoder and the decoder come from `conservative` (`regridding`), or from `perceiver_encoder` and `perceiver_decoder`
(`perceiver`, `patches`, `embeddings`, `chunks`).
"""

from ocean_emulators.models.fomo.model import Fomo, FomoConfig

__all__ = ["Fomo", "FomoConfig"]
