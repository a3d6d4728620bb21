"""Which times a model reads and predicts: the one place that aligns forcing with states, and that counts starts."""

from collections.abc import Sequence
from dataclasses import dataclass

from ocean_emulators.errors import UserError


@dataclass(frozen=True)
class DataRequirements:
    """Times counted in the model's steps from the last state that it is given."""

    input_states: int
    output_states: int
    forcing_times: tuple[int, ...]
    """such as (0, 1): forcing at the time of the last given state and of the first predicted one"""

    @property
    def past(self) -> int:
        """How many states before the last given one are needed."""
        return max(self.input_states - 1, -min(self.forcing_times, default=0), 0)

    def future(self, model_steps: int) -> int:
        """How many states after the last given one are needed for a number of model steps and their truth."""
        last_forcing = (model_steps - 1) * self.output_states + max(self.forcing_times, default=0)
        return max(model_steps * self.output_states, last_forcing)

    def length(self, model_steps: int) -> int:
        """Number of consecutive states in a window for a number of model steps."""
        return self.past + 1 + self.future(model_steps)

    def reach(self, steps: int) -> int:
        """How many states after the last given one a rollout of so many steps reads, truth and forcing together."""
        return max(steps, self.future(-(-steps // self.output_states)))

    def longest_rollout(self, n_times: int) -> int:
        """Number of steps that fit into so many times, from the first possible start on."""
        after_start = n_times - self.past - 1
        return max((steps for steps in range(after_start + 1) if self.reach(steps) <= after_start), default=0)

    def window_starts(
        self, times: range, what: str, model_steps: int, strides: Sequence[int] = (1,)
    ) -> list[tuple[int, int]]:
        """Windows for rollouts of a number of model steps that lie within a period: the first time and the stride of each.

        The states of a window lie a stride of time steps of the data apart; windows of the first stride come first.

        Raises
        ------
        UserError
            If the period, `what` in messages, is shorter than one window.
        """
        spans = [(stride, (self.length(model_steps) - 1) * stride + 1) for stride in strides]
        longest = max(span for _, span in spans)
        if len(times) < longest:
            raise UserError(
                f"data.periods.{what}: holds {len(times)} times, but a rollout of {model_steps} model step(s) "
                f"(train.rollout_steps) needs {longest}; lengthen the period or shorten the rollout"
            )
        return [(first, stride) for stride, span in spans for first in range(times.start, times.stop - span + 1)]

    def forecast_starts(self, times: range, steps: int, every: int = 1) -> range:
        """Times of the last given state, `every` so many, from which all that `steps` steps read lies within a period."""
        return range(times.start + self.past, times.stop - self.reach(steps), every)

    def forcing_offsets(self, model_step: int) -> list[int]:
        """The times of a model step's forcing (the first is 0), counted from the last state given to the first."""
        return [model_step * self.output_states + offset for offset in self.forcing_times]
