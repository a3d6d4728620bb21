"""Says what in a batch was not finite, or made its loss so: field, level and dates."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ocean_emulators.datasets.loading.train_data import Batch, Windows
from ocean_emulators.distributed import Ranks
from ocean_emulators.stepper import BatchOutput

_ABSURD = 1e6
"""standard deviations from the mean that no ocean is away"""


def first_cause(batches: Sequence[Batch], outputs: Sequence[BatchOutput], windows: Windows, ranks: Ranks) -> str | None:
    """What explains most of some micro-batches and what came of them, on any rank, which must all ask together.

    `windows` are what the batches were drawn from.
    """
    pairs = zip(batches, outputs, strict=True)
    found = [cause for batch, output in pairs for cause in _causes(batch, output.losses, windows)]
    everywhere = [cause for of_rank in ranks.gather(found) for cause in of_rank]
    return min(everywhere)[1] if everywhere else None


def _causes(batch: Batch, losses: Tensor, windows: Windows) -> Iterator[tuple[int, str]]:
    """What a message could name, each with a number, which is lower for what explains more.

    Parameters
    ----------
    batch: of one rank
    losses: [window, model step, output state, channel] of it
    windows: that it was drawn from
    """
    packing = windows.rows.packing
    for fields, channels in ((batch.prognostic, packing.prognostic), (batch.forcing, packing.forcing)):
        size = fields.detach().abs().amax((3, 4))
        absurd = (~(size < _ABSURD)).nonzero()
        if len(absurd):
            window, time, channel = absurd[0].tolist()
            name, deviations = channels[channel].name, float(size[window, time, channel])
            date = windows.date(batch.draw.indices[window], time)
            yield (
                0,
                (
                    f"the data hold a value of {name} {deviations:.0e} standard deviations from the mean on {date} "
                    f"(grid {batch.grid}): the loss"
                ),
            )
    bad = (~torch.isfinite(losses)).nonzero()
    if len(bad):
        window, step, _, channel = min(bad.tolist(), key=lambda index: index[1])
        index, now, needs = batch.draw.indices[window], windows.needs.past, windows.needs
        first, last = windows.date(index, now), windows.date(index, now + (step + 1) * needs.output_states)
        name = packing.prognostic[channel].name
        where = f"at model step {step + 1} from the states of {first} (to {last}, grid {batch.grid})"
        yield 1, f"the loss of {name} {where}"
