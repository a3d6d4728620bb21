"""Work that is cut into pieces: in order, few at a time, within a limit."""

import pickle
import threading
import time

import pytest

from ocean_emulators.errors import UserError
from ocean_emulators.parallel import GIB, Opened, Resources, open_pool, require_room

SMALL = 2**20
NOTHING = Opened(lambda: "nothing")


class Counter:
    """Counts how many pieces are worked on at the same time."""

    def __init__(self) -> None:
        self.lock, self.now, self.most, self.begun = threading.Lock(), 0, 0, 0

    def __call__(self, opened: str, item: int) -> int:
        with self.lock:
            self.now, self.begun = self.now + 1, self.begun + 1
            self.most = max(self.most, self.now)
        time.sleep(0.002 * (item % 3))
        with self.lock:
            self.now -= 1
        return item**2


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_order_from_as_many_workers_as_are_asked_for(workers: int) -> None:
    counter = Counter()
    with open_pool(Resources(memory_gib=64, workers=workers), NOTHING, SMALL, "a piece") as pool:
        assert list(pool.map(counter, range(40))) == [i**2 for i in range(40)]
    assert counter.most == workers


def test_memory_bounds_how_many_work() -> None:
    counter = Counter()
    with open_pool(Resources(memory_gib=64, workers=8), NOTHING, int(25 * GIB), "a piece") as pool:
        list(pool.map(counter, range(40)))
    assert counter.most <= 2


def test_no_piece_is_taken_before_there_is_room_for_it() -> None:
    taken: list[int] = []

    def items() -> object:
        for i in range(20):
            taken.append(i)
            yield i

    with open_pool(Resources(memory_gib=64, workers=2), NOTHING, SMALL, "a piece") as pool:
        results = pool.map(Counter(), items())
        next(results)
        assert len(taken) <= 3
        list(results)


def test_a_failure_ends_the_work() -> None:
    def fail(opened: str, item: int) -> int:
        if item == 3:
            raise UserError("piece 3 is broken")
        return counter(opened, item)

    counter = Counter()
    with (
        pytest.raises(UserError, match="piece 3 is broken"),
        open_pool(Resources(memory_gib=64, workers=2), NOTHING, SMALL, "a piece") as pool,
    ):
        list(pool.map(fail, range(1000)))
    assert counter.begun < 10


def test_what_does_not_fit_is_refused_with_what_it_would_take() -> None:
    with pytest.raises(UserError, match=r"prepare.memory_gib: 2 GiB can't hold a piece, which takes [89]\.\d\d GiB"):
        require_room(Resources(memory_gib=2), int(8 * GIB), "a piece")


def test_what_is_needed_is_opened_once_and_not_before() -> None:
    made: list[int] = []

    def how() -> str:
        time.sleep(0.01)
        made.append(1)
        return "opened"

    opened = Opened(how)
    with open_pool(Resources(memory_gib=64, workers=3), opened, SMALL, "a piece") as pool:
        assert not made
        assert list(pool.map(lambda state, item: (state, item), range(9))) == [("opened", i) for i in range(9)]
    assert len(made) == 1


def test_what_is_open_here_is_not_opened_again_and_does_not_travel() -> None:
    opened = Opened(list, here=[7])
    assert opened.get() == [7]
    assert pickle.loads(pickle.dumps(opened)).get() == []
