"""What all benchmarks share: options, timing, and the table of name, value and bar."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Result:
    """A ratio, and the most that it may be; None where it depends on the machine alone."""

    name: str
    value: float
    bar: float | None

    @property
    def missed(self) -> bool:
        """Whether it is more than it may be."""
        return self.bar is not None and self.value > self.bar


def run(measure: Callable[[int], list[Result]]) -> None:
    """Measure with a number of repetitions and print, write or check the results."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions: about a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a bar is missed")
    options = parser.parse_args()
    results = measure(5 if options.quick else 30)
    width = max(len(result.name) for result in results)
    print(f"{'name':{width}}  {'value':>7}  {'bar':>7}")
    for result in results:
        bar = "" if result.bar is None else f"{result.bar:.3g}"
        print(f"{result.name:{width}}  {result.value:7.3g}  {bar:>7}{'  missed' if result.missed else ''}".rstrip())
    if options.json:
        options.json.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n")
    if options.check and any(result.missed for result in results):
        sys.exit(1)


def ratio(
    numerator: Callable[[], object],
    denominator: Callable[[], object],
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Shortest time of one / shortest time of the other, measured in turns: what is longer, other processes have made so.

    What runs on one thread is best measured by `time.process_time`, which does not run while the process waits for a core.
    """
    numerator(), denominator()
    times = [(seconds(numerator, clock), seconds(denominator, clock)) for _ in range(repeats)]
    return min(time for time, _ in times) / min(time for _, time in times)


def seconds(function: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Time of one call."""
    began = clock()
    function()
    return clock() - began
