"""Which server a call goes to: by turns, the least busy, and never one that has just failed; with a fake clock."""

from collections import Counter

import pytest

from serving.pool import Pool


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pool(clock: Clock) -> Pool:
    return Pool(3, clock=clock)


def call(pool: Pool, *, well: bool | None = True, **how: object) -> int:
    """One call, from its beginning to its end."""
    number, taken_s = pool.take(**how)  # type: ignore[arg-type]
    pool.give_back(number, taken_s, well=well)
    return number


def test_equal_servers_have_their_turns(pool: Pool) -> None:
    assert [call(pool) for _ in range(6)] == [0, 1, 2, 0, 1, 2]


def test_the_least_busy_is_chosen(pool: Pool) -> None:
    taken = [pool.take() for _ in range(3)]
    pool.give_back(*taken[1], well=True)
    assert [pool.take()[0], pool.take()[0]] == [1, 2]


def test_a_failed_one_is_passed_over_and_comes_back(pool: Pool, clock: Clock) -> None:
    assert call(pool, well=False) == 0
    assert {call(pool) for _ in range(10)} == {1, 2}
    clock.now_s += 0.11
    assert {call(pool) for _ in range(3)} == {0, 1, 2}


def test_it_is_passed_over_longer_each_time_up_to_two_seconds(pool: Pool, clock: Clock) -> None:
    rests = []
    for _ in range(7):
        assert call(pool, first=0, well=False) == 0
        begun_s = clock.now_s
        while not pool.others({1, 2}):
            clock.now_s += 0.01
        rests.append(clock.now_s - begun_s)
    assert rests == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0], abs=0.011)


def test_calls_that_fail_together_count_once(pool: Pool, clock: Clock) -> None:
    together = [pool.take(first=0) for _ in range(20)]
    for one in together:
        clock.now_s += 0.001
        pool.give_back(*one, well=False)
    clock.now_s += 0.11
    assert pool.others({1, 2})


def test_an_answer_to_what_was_sent_before_it_failed_says_nothing_new(pool: Pool, clock: Clock) -> None:
    early = pool.take(first=0)
    clock.now_s += 0.01
    call(pool, first=0, well=False)
    pool.give_back(*early, well=True)
    assert not pool.others({1, 2})


def test_what_ends_without_a_word_of_the_server_changes_nothing(pool: Pool) -> None:
    call(pool, first=0, well=False)
    call(pool, first=0, well=None)
    assert not pool.others({1, 2})
    assert call(pool, first=1, well=None) == 1
    assert pool.others({0, 2})


def test_an_answer_makes_up_for_all_failures(pool: Pool, clock: Clock) -> None:
    for _ in range(5):
        call(pool, first=0, well=False)
        clock.now_s += 5
    call(pool, first=0)
    call(pool, first=0, well=False)
    clock.now_s += 0.11
    assert pool.others({1, 2})


def test_those_that_were_tried_come_last(pool: Pool) -> None:
    assert call(pool, tried={0, 2}) == 1
    assert call(pool, tried={0, 1, 2}) in {0, 1, 2}
    assert call(pool, tried={2}, first=2) != 2


def test_where_all_are_passed_over_the_first_to_come_back_is_tried(pool: Pool, clock: Clock) -> None:
    for number in (2, 0, 1):
        call(pool, first=number, well=False)
        clock.now_s += 0.01
    assert call(pool, well=None) == 2


def test_calls_under_way_are_counted_down(pool: Pool) -> None:
    for well in (True, False, None) * 30:
        call(pool, well=well)
    assert Counter(pool.take(first=number)[0] for number in (0, 1, 2)) == {0: 1, 1: 1, 2: 1}
