"""Whatever predicts: the emulator, and the baselines that it must beat."""
