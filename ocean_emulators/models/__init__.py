"""Emulators: a common base (`base`), and the families on it (`families`).

- Samudra: `samudra`, of `unet` and `blocks`; released weights are read by `published` (`weights`, `layout`).
- FOMO: `fomo`, with an encoder and a decoder from `conservative` (`regridding`) or from `perceiver_encoder` and
  `perceiver_decoder` (`perceiver`, `patches`, `embeddings`, `chunks`).
- What a call costs is found by `cost`; `checkpointing` trades memory for it in training, `winograd` saves it in inference.
"""
