"""The queue, with a clock that is handed in."""

import math
from dataclasses import dataclass

import numpy as np
import pytest

from detector.errors import ResourceExhausted
from serving.queue import RequestQueue


@dataclass(eq=False)
class Item:
    count: int = 1
    since_s: float = 0.0
    deadline_s: float = math.inf
    caller: str = ""
    whole: "Item | None" = None
    start: int = 0

    def part(self, start: int, stop: int) -> "Item":
        return Item(stop - start, whole=self, start=start)


def spans(batch: list[Item]) -> list[tuple[Item, int, int]]:
    """Of whom a batch has which images."""
    return [(item.whole or item, item.start, item.start + item.count) for item in batch]


def queue(*, max_batch: int = 4, batch_wait_s: float = 0.0, max_queue: int = 100) -> RequestQueue[Item]:
    return RequestQueue(max_batch=max_batch, batch_wait_s=batch_wait_s, max_queue=max_queue)


def filled(counts: list[int], **config: float) -> tuple[RequestQueue[Item], list[Item]]:
    found = queue(**config)  # type: ignore[arg-type]
    items = [Item(count) for count in counts]
    for item in items:
        found.put(item)
    return found, items


@pytest.mark.parametrize(
    ("counts", "batches"),
    [
        pytest.param([1], [[1]], id="alone"),
        pytest.param([1] * 4, [[1] * 4], id="full"),
        pytest.param([1] * 9, [[1] * 4, [1] * 4, [1]], id="more than a batch"),
        pytest.param([3, 2, 1, 1], [[3], [2, 1, 1]], id="only as a whole"),
        pytest.param([3, 2, 1], [[3], [2, 1]], id="nobody overtakes"),
        pytest.param([4, 4], [[4], [4]], id="each a batch"),
    ],
)
def test_batches_are_first_come_first_served(counts: list[int], batches: list[list[int]]) -> None:
    waiting, items = filled(counts)
    taken = []
    while waiting:
        taken.append(waiting.take(0.0)[0])
    assert [[item.count for item in batch] for batch in taken] == batches
    assert [item for batch in taken for item in batch] == items
    assert waiting.images == 0


@pytest.mark.parametrize(
    ("counts", "batches"),
    [
        pytest.param([9], [[(0, 4)], [(0, 4)], [(0, 1)]], id="alone"),
        pytest.param([9, 1, 1], [[(0, 4)], [(1, 1), (2, 1), (0, 2)], [(0, 3)]], id="before others"),
        pytest.param([1, 9, 1], [[(0, 1), (1, 3)], [(2, 1), (1, 3)], [(1, 3)]], id="between others"),
        pytest.param([9, 3, 4], [[(0, 4)], [(1, 3)], [(2, 4)], [(0, 4)], [(0, 1)]], id="others only as a whole"),
        pytest.param([6, 6, 1], [[(0, 4)], [(1, 4)], [(2, 1), (0, 2), (1, 1)], [(1, 1)]], id="two of them"),
    ],
)
def test_what_is_larger_than_a_batch_takes_turns(counts: list[int], batches: list[list[tuple[int, int]]]) -> None:
    waiting, items = filled(counts)
    taken = []
    while waiting:
        taken.append(spans(waiting.take(0.0)[0]))
    assert [[(items.index(item), stop - start) for item, start, stop in batch] for batch in taken] == batches
    for item in items:  # each of its images once, in order
        own = [span for batch in taken for span in batch if span[0] is item]
        assert [start for _, start, _ in own] == [0, *(stop for _, _, stop in own[:-1])]
        assert own[-1][2] == item.count
    assert waiting.images == 0


def test_one_image_waits_for_one_part_of_a_thousand() -> None:
    waiting, (large,) = filled([1000], max_batch=32, max_queue=2000)
    waiting.take(0.0)
    waiting.put(small := Item())
    assert spans(waiting.take(0.0)[0]) == [(small, 0, 1), (large, 32, 63)]


def test_a_thousand_images_are_not_starved_by_single_ones() -> None:
    """With every batch come as many new ones as half a batch holds."""
    waiting, (large,) = filled([1000], max_batch=32, max_queue=2000)
    batches = 0
    while waiting.left(large):
        for _ in range(16):
            waiting.put(Item())
        waiting.take(0.0)
        batches += 1
    assert batches <= 1000 // 16 + 1


def test_an_empty_queue_has_no_batch_and_nothing_to_wait_for() -> None:
    waiting = queue()
    assert waiting.take(5.0) == ([], [])
    assert waiting.take(5.0, flush=True) == ([], [])
    assert waiting.wait_s(5.0) is None


def test_the_wait_counts_from_the_first_request() -> None:
    waiting = queue(batch_wait_s=1.0)
    first, second = Item(since_s=10.0), Item(since_s=10.75)
    waiting.put(first)
    waiting.put(second)
    assert waiting.wait_s(10.75) == 0.25
    assert waiting.take(10.875) == ([], [])
    assert waiting.take(11.0) == ([first, second], [])


def test_after_a_batch_the_wait_counts_from_the_next_first() -> None:
    waiting = queue(batch_wait_s=1.0)
    items = [Item(since_s=index / 8) for index in range(5)]
    for item in items:
        waiting.put(item)
    assert waiting.take(0.5)[0] == items[:4]
    assert waiting.wait_s(0.5) == 1.0
    assert waiting.take(1.25) == ([], [])
    assert waiting.take(1.5)[0] == items[4:]


def test_a_full_batch_does_not_wait() -> None:
    waiting, items = filled([2, 2], batch_wait_s=100.0)
    assert waiting.wait_s(0.0) == 0.0
    assert waiting.take(0.0)[0] == items


def test_flush_does_not_wait() -> None:
    waiting, items = filled([1], batch_wait_s=100.0)
    assert waiting.take(0.0) == ([], [])
    assert waiting.take(0.0, flush=True)[0] == items


def test_the_bound_is_in_images() -> None:
    waiting, _ = filled([2, 2], max_queue=5)
    waiting.admit(1)
    with pytest.raises(ResourceExhausted, match="expected room for 2 images, found 4 of 5 waiting"):
        waiting.put(Item(2))
    assert (len(waiting), waiting.images) == (2, 4)
    waiting.put(Item(1))
    assert waiting.images == 5


def test_one_that_is_larger_than_the_queue_leaves_the_others_their_room() -> None:
    waiting, (large,) = filled([50], max_queue=5)
    for start in range(0, 20, 4):
        waiting.put(small := Item(5))
        with pytest.raises(ResourceExhausted, match=r"expected room for 1 images, found \d+ of 5 waiting"):
            waiting.put(Item(1))
        waiting.remove(small)
        assert spans(waiting.take(0.0)[0]) == [(large, start, start + 4)]
        assert waiting.images == 46 - start


def test_of_those_larger_than_the_queue_one_is_let_in_where_there_is_room() -> None:
    waiting, (first,) = filled([5], max_queue=5)
    with pytest.raises(ResourceExhausted):
        waiting.put(Item(6))
    waiting.remove(first)
    waiting.put(Item(4))
    waiting.put(large := Item(6))
    with pytest.raises(ResourceExhausted):
        waiting.put(Item(6))
    waiting.put(Item(1))
    waiting.remove(large)
    with pytest.raises(ResourceExhausted):
        waiting.put(Item(6))


def test_when_the_large_one_has_gone_the_bound_is_for_all() -> None:
    waiting, (large,) = filled([50], max_queue=5)
    assert waiting.remove(large)
    waiting.put(Item(5))
    with pytest.raises(ResourceExhausted):
        waiting.put(Item(1))


def test_a_caller_that_leaves_gives_up_its_place_and_its_room() -> None:
    waiting, (first, second, third) = filled([2, 2, 1], max_queue=5)
    assert waiting.remove(second)
    assert not waiting.remove(second)
    waiting.put(fourth := Item(2))
    assert waiting.take(0.0)[0] == [first, third]
    assert waiting.take(0.0)[0] == [fourth]
    assert not waiting.remove(first)


def test_when_the_first_leaves_the_wait_counts_from_the_second() -> None:
    waiting = queue(batch_wait_s=1.0)
    first, second = Item(since_s=0.0), Item(since_s=0.5)
    waiting.put(first)
    waiting.put(second)
    waiting.remove(first)
    assert waiting.wait_s(1.0) == 0.5


def test_the_expired_are_dropped_and_do_not_count() -> None:
    waiting = queue(max_batch=3)
    late, good, exact, long = Item(deadline_s=1.0), Item(2), Item(deadline_s=2.0), Item(deadline_s=2.5)
    for item in (late, good, exact, long):
        waiting.put(item)
    assert waiting.take(2.0) == ([good, long], [late, exact])
    assert waiting.images == 0


def test_the_expired_do_not_make_a_batch_due() -> None:
    waiting = queue(max_batch=2, batch_wait_s=10.0)
    waiting.put(late := Item(deadline_s=1.0))
    waiting.put(Item(since_s=0.5))
    assert waiting.take(1.0) == ([], [late])
    assert waiting.wait_s(1.0) == 9.5


def test_clear_takes_out_all() -> None:
    waiting, items = filled([2, 9])
    assert waiting.clear() == items
    assert (len(waiting), waiting.images) == (0, 0)


class Twin:
    """The obvious way: lists that are looked through. Who has queued up anew is at the end of the line."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Item, int]] = []  # in order of arrival, with the images that are left
        self.own: dict[str, list[Item]] = {}
        self.turns: dict[str, int] = {}
        self.line: list[str] = []
        self.turn = 0
        self.last: dict[str, Item] = {}

    def put(self, item: Item) -> None:
        if not self.waiting:
            self.own, self.turns, self.line = {}, {}, []
        if not self.own.get(item.caller):
            self.own[item.caller] = []
            self.turns[item.caller] = max(self.turns.get(item.caller, 0), self.turn)
            self.line = [*(name for name in self.line if name != item.caller), item.caller]
        self.own[item.caller].append(item)
        self.waiting.append((item, item.count))

    def remove(self, item: Item) -> None:
        self.waiting = [each for each in self.waiting if each[0] is not item]
        self.own[item.caller].remove(item)
        if self.last.get(item.caller) is item:
            del self.last[item.caller]

    def take(self, now_s: float, max_batch: int, wait_s: float) -> tuple[list[tuple[Item, int, int]], list[Item]]:
        expired = [item for item, _ in self.waiting if item.deadline_s <= now_s]
        for item in expired:
            self.remove(item)
        batch = list[tuple[Item, int, int]]()
        images = sum(left for _, left in self.waiting)
        due = images >= max_batch or any(now_s >= item.since_s + wait_s for item, _ in self.waiting[:1])
        room = max_batch if due else 0
        while room and any(self.own.values()):
            name = min((name for name in self.line if self.own[name]), key=self.turns.__getitem__)
            if (last := self.last.pop(name, None)) is not None:
                self.own[name].remove(last)
                self.own[name].append(last)
            item = self.own[name][0]
            if room < item.count <= max_batch:
                break
            left = dict(self.waiting)[item]
            took = min(left, room)
            batch.append((item, item.count - left, item.count - left + took))
            room -= took
            if took == left:
                self.remove(item)
            else:
                self.waiting = [(each, left - took if each is item else own) for each, own in self.waiting]
                self.last[name] = item
            self.turn = self.turns[name]
            self.turns[name] += took
            self.line.remove(name)
            self.line.append(name)
        return batch, expired


@pytest.mark.parametrize("callers", ["a", "ab", "abcd"])
@pytest.mark.parametrize("seed", range(20))
def test_against_lists(seed: int, callers: str) -> None:
    """Random traffic against the twin."""
    rng = np.random.default_rng(seed)
    waiting, twin = queue(max_batch=8, batch_wait_s=2.0, max_queue=30), Twin()
    now_s = 0.0
    for _ in range(300):
        now_s += float(rng.integers(0, 3)) / 2
        action = rng.integers(0, 5)
        if action < 3:
            item = Item(int(rng.choice([1, 2, 3, 5, 8, 9, 12, 20, 40])), now_s, now_s + float(rng.integers(1, 12)))
            item.caller = str(rng.choice(list(callers)))
            others = sum(left for other, left in twin.waiting if other.count <= 30)
            if (
                others >= 30 or any(other.count > 30 for other, _ in twin.waiting)
                if item.count > 30
                else others + item.count > 30
            ):
                with pytest.raises(ResourceExhausted):
                    waiting.put(item)
            else:
                waiting.put(item)
                twin.put(item)
        elif action == 3 and twin.waiting:
            item, _ = twin.waiting[int(rng.integers(len(twin.waiting)))]
            twin.remove(item)
            assert waiting.remove(item)
        else:
            batch, expired = twin.take(now_s, 8, 2.0)
            found, late = waiting.take(now_s)
            assert (spans(found), late) == (batch, expired)
        assert (len(waiting), waiting.images) == (len(twin.waiting), sum(left for _, left in twin.waiting))


def of(caller: str, *counts: int) -> list[Item]:
    """Requests of one caller."""
    return [Item(count, caller=caller) for count in counts]


@pytest.mark.parametrize("bulk", [[1] * 1000, [8] * 100, [31] * 30, [32] * 30, [256] * 4, [1000]], ids=str)
def test_one_image_waits_for_no_more_than_the_batch_under_way(bulk: list[int]) -> None:
    """However another caller divides his thousand images into requests."""
    waiting = queue(max_batch=32, max_queue=2000)
    for item in of("bulk", *bulk):
        waiting.put(item)
    waiting.take(0.0)
    for number in range(5):
        (small,) = of(f"small {number}", 1)
        waiting.put(small)
        assert small in waiting.take(0.0)[0]


def test_callers_share_the_model_evenly_in_images() -> None:
    """One asks in single images, one in sixteens, one in thousands; each gets a third."""
    waiting = queue(max_batch=32, max_queue=10_000)
    for item in (*of("singles", *[1] * 1000), *of("sixteens", *[16] * 60), *of("thousand", 1000)):
        waiting.put(item)
    had = dict.fromkeys(["singles", "sixteens", "thousand"], 0)
    for _ in range(60):
        for item in waiting.take(0.0)[0]:
            had[(item.whole or item).caller] += item.count
    assert sum(had.values()) == 60 * 32
    assert max(had.values()) - min(had.values()) <= 32 + 16


def test_who_comes_late_does_not_catch_up() -> None:
    """What others had before he came is not counted against them."""
    waiting = queue(max_batch=4, max_queue=1000)
    for item in of("early", *[1] * 100):
        waiting.put(item)
    for _ in range(10):
        waiting.take(0.0)
    for item in of("late", *[1] * 100):
        waiting.put(item)
    callers = [item.caller for _ in range(5) for item in waiting.take(0.0)[0]]
    assert callers.count("early") == 10


def test_a_callers_own_requests_stay_in_order() -> None:
    waiting = queue(max_batch=4, max_queue=1000)
    mine, theirs = of("mine", 1, 2, 1, 3, 1), of("theirs", 2, 2, 2)
    for item in (*mine, *theirs):
        waiting.put(item)
    taken = [item for _ in range(6) for item in waiting.take(0.0)[0]]
    assert [item for item in taken if item.caller == "mine"] == mine
    assert [item for item in taken if item.caller == "theirs"] == theirs


def test_callers_who_have_gone_leave_nothing_behind() -> None:
    """Also while another always has something waiting."""
    waiting = queue(max_batch=4, max_queue=1000)
    for number in range(500):
        for item in (*of("always", 1, 1, 1, 1), *of(f"once {number}", 1)):
            waiting.put(item)
        waiting.take(0.0)
        if number % 2:
            waiting.take(0.0)
    assert len(waiting._callers) + len(waiting._turns) < 20
