"""Neural emulators of ocean models: prepare, train, roll out, score, compare and rebuild them."""

import warnings

# Wanted: it lets any reader open a store with one request. Zarr says at every write that other libraries may ignore it.
warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
