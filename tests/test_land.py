"""What stands on land in the raw data never reaches a model."""

import itertools
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ocean_emulators.config.base import parse
from ocean_emulators.datasets.loading.packing import Packing
from ocean_emulators.datasets.preparation.job import prepare
from ocean_emulators.datasets.statistics.compute import compute_statistics
from ocean_emulators.datasets.store.packed_store import open_store, store_path
from ocean_emulators.experiment import Experiment
from ocean_emulators.models.base import OceanContext
from ocean_emulators.models.families import parse_model
from tests import fomos, tiny

MODELS = (
    {**tiny.experiment()["model"], "norm": "batch", "bathymetry": True},
    {"type": "fomo", **fomos.CONSERVATIVE},
    fomos.small().dump(),
)


def predicted(raw: Path, folder: Path) -> list[Tensor]:
    """What models of all families make of the first state of a source, normalised by its own statistics."""
    experiment = parse(Experiment, tiny.experiment(raw), "tiny")
    prepare(experiment.data, folder)
    store = open_store(store_path(folder, "x1"))
    statistics = compute_statistics(store, experiment.data.periods.train)
    packing, outputs = Packing.of(store, statistics), []
    fields = packing.unpack(torch.as_tensor(store.stored(0, 2)[0]))
    n = len(packing.prognostic)
    for tree in MODELS:
        torch.manual_seed(0)
        model = parse_model(tree, "test").build(OceanContext.of(packing, statistics, store.grid)).eval()
        with torch.no_grad():
            outputs.append(model(fields[None, :1, :n], fields[None, :, n:]))
        assert (outputs[-1][..., ~packing.prognostic_mask] == 0).all()
    return outputs


@pytest.fixture(scope="module")
def expected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Tensor]:
    """With NaN on land, as in the published data."""
    return predicted(source, tmp_path_factory.mktemp("land") / "prepared")


@given(st.lists(st.sampled_from([[-9999.0], [1e20], [37.5, -1e-3, 4.0], [np.nan, 0.0]]), min_size=8), st.integers(0, 9))
@settings(deadline=None, max_examples=3)
def test_land_never_changes_the_output(expected: list[Tensor], values: list[list[float]], seed: int) -> None:
    """Values of a field that knows no land, or a mixture of zeros and NaN; other ones in each variable."""
    dataset, rng = tiny.dataset(), np.random.default_rng(seed)
    fields = [field for field in dataset.data_vars.values() if field.ndim == 3]
    for field, on_land in zip(fields, itertools.cycle(values), strict=False):
        land = np.broadcast_to(rng.choice(on_land, size=field.shape[1:]), field.shape)
        dataset[str(field.name)] = field.copy(data=np.where(np.isnan(field), land, field).astype("f4"))
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "tiny.zarr"
        dataset.to_zarr(raw, zarr_format=2)
        for output, before in zip(predicted(raw, Path(folder) / "prepared"), expected, strict=True):
            assert torch.equal(output, before)
