"""From a packed store to batches of normalised fields on the device."""
