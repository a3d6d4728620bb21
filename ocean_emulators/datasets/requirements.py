"""What a model reads and writes in one call: the one place where forcing and states are aligned."""

from dataclasses import dataclass


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

    def future(self, calls: int) -> int:
        """How many states after the last given one are needed for a number of calls and their truth."""
        last_forcing = (calls - 1) * self.output_states + max(self.forcing_times, default=0)
        return max(calls * self.output_states, last_forcing)

    def length(self, calls: int) -> int:
        """Number of consecutive states in a window for a number of calls."""
        return self.past + 1 + self.future(calls)

    def reach(self, steps: int) -> int:
        """How many states after the last given one a rollout of so many steps reads, truth and forcing together."""
        return max(steps, self.future(-(-steps // self.output_states)))

    def longest_rollout(self, n_times: int) -> int:
        """Number of steps that fit into so many times, from the first possible start on."""
        after_start = n_times - self.past - 1
        return max((steps for steps in range(after_start + 1) if self.reach(steps) <= after_start), default=0)

    def forcing_offsets(self, call: int) -> list[int]:
        """The times of a call's forcing, counted from the last state given to the first call."""
        return [call * self.output_states + offset for offset in self.forcing_times]
