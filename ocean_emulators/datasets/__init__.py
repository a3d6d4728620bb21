"""From an ocean model's output to normalised fields on the device.

`source` → `preparation` → `store` → `statistics` → `loading`: where the output lies and what of it is used, how it becomes
packed training stores, how these are read and written, what fields are normalised by, and how batches are made.
"""

from ocean_emulators.exports import exports

__getattr__ = exports(
    __name__,
    {"TrainData": "loading.train_data", "InferenceDataset": "loading.inference_dataset", "PreparedGrid": "prepared"},
)
