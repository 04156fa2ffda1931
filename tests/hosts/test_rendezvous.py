"""Exchanges over a store in this process, each host a thread."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from dar_jax import hosts
from dar_jax.errors import BudgetSpent, DarError, HostLost, JudgeStopped
from dar_jax.hosts.rendezvous import Rendezvous
from dar_jax.records import Distribution, Verdict


class Shelf:
    """A store as the coordinator keeps one."""

    def __init__(self, fails=False):
        self.values, self.fails, self._lock, self.gets = {}, fails, threading.Condition(), 0

    def key_value_set(self, key, value, allow_overwrite=False):
        with self._lock:
            if self.fails:
                raise RuntimeError("UNAVAILABLE: the connection was reset\nmore lines")
            assert allow_overwrite or key not in self.values
            self.values[key] = value
            self._lock.notify_all()

    def blocking_key_value_get(self, key, timeout_in_ms):
        with self._lock:
            self.gets += 1
            if not self._lock.wait_for(lambda: key in self.values, timeout_in_ms / 1000):
                raise RuntimeError(f"DEADLINE_EXCEEDED: GetKeyValue() timed out with key: {key}")
            return self.values[key]

    def key_value_dir_get(self, key):
        with self._lock:
            return [(name, value) for name, value in reversed(self.values.items()) if name.startswith(key)]

    def key_value_delete(self, key):
        with self._lock:
            del self.values[key]


def on_each(shelf, talk, count=3):
    """Let every host talk in a thread of its own; return what each gives, an error as itself."""

    def one(index):
        try:
            return talk(Rendezvous(shelf, index, count))
        except DarError as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_a_host_alone_gets_back_what_it_gives():
    value = object()
    assert hosts.gather("anything", value, object)[0] is value
    assert hosts.union("rows", {2: "b", 0: "a"}, str) == ["a", "b"]
    assert hosts.union_at_first("rows", {1: "b"}, str) == ["b"]
    assert (hosts.count(), hosts.index(), hosts.is_first()) == (1, 0, True)
    hosts.agree({"steps": "3"})
    with pytest.raises(DarError, match=r"^mine$"), hosts.together("anything"):
        raise DarError("mine")


def test_verdicts_come_over_as_they_are():
    verdicts = [
        Verdict(status="ok", distribution=Distribution(levels=(1.0, 2.0), probabilities=(0.1, 0.9)), cost_usd=None),
        Verdict(status="failed", reason="late; \u2028 😀 \ud83d", cost_usd=0.5, from_ledger=True),
        Verdict(status="refused", reason="no"),
    ]
    shelf = Shelf()

    def talk(rendezvous):
        return rendezvous.gather("verdicts", {rendezvous.index: verdicts[rendezvous.index]}, dict[int, Verdict])

    assert on_each(shelf, talk) == [[{0: verdicts[0]}, {1: verdicts[1]}, {2: verdicts[2]}]] * 3


def test_nothing_gathers_in_the_store():
    shelf = Shelf()

    def talk(rendezvous):
        for number in range(20):
            assert rendezvous.gather("numbers", number, int) == [number] * 3
            assert rendezvous.collect("much", number, int) == ([number] * 3 if rendezvous.index == 0 else [])

    assert on_each(shelf, talk) == [None] * 3
    assert len(shelf.values) == 1  # what host 0 published last


def test_each_host_reads_each_exchange_once():
    shelf = Shelf()

    def talk(rendezvous):
        for number in range(10):
            rendezvous.gather("numbers", number, int)

    assert on_each(shelf, talk) == [None] * 3
    # Host 0 reads three posts, the others what it publishes; names are exchanged at the start.
    assert shelf.gets == (10 + 1) * (3 + 2)


class SlowShelf(Shelf):
    """A store whose values take 1.2 s to arrive."""

    def blocking_key_value_get(self, key, timeout_in_ms):
        value = super().blocking_key_value_get(key, timeout_in_ms)
        if timeout_in_ms < 1200:
            raise RuntimeError(f"DEADLINE_EXCEEDED: GetKeyValue() timed out with key: {key}")
        return value


def test_values_that_arrive_slowly_arrive():
    """A fixed timeout would repeat the same get forever."""

    def talk(rendezvous):
        return rendezvous.gather("large", rendezvous.index, int), rendezvous.collect("larger", rendezvous.index, int)

    assert on_each(SlowShelf(), talk, count=2) == [([0, 1], [0, 1]), ([0, 1], [])]


@pytest.mark.parametrize("kind", [JudgeStopped, BudgetSpent])
def test_what_one_host_raises_all_raise_as_the_same(kind):
    def talk(rendezvous):
        with rendezvous.together("judging"):
            if rendezvous.index == 1:
                raise kind("it is unfit")

    errors = on_each(Shelf(), talk)
    assert [type(error) for error in errors] == [kind] * 3
    assert str(errors[1]) == "it is unfit"
    assert str(errors[0]) == str(errors[2])
    assert str(errors[0]).startswith("host 1 (")


def test_an_error_reaches_hosts_that_meet_for_something_else():
    def talk(rendezvous):
        with rendezvous.together("outer"):
            if rendezvous.index == 1:
                raise DarError("before the inner one")
            rendezvous.gather("inner", 1, int)

    errors = on_each(Shelf(), talk)
    assert all("before the inner one" in str(error) for error in errors)


def test_hosts_that_took_other_branches_do_not_mix_up_what_they_say():
    def talk(rendezvous):
        return rendezvous.gather("left" if rendezvous.index else "right", 1, int)

    assert all("at different calls" in str(error) for error in on_each(Shelf(), talk))


def _fail_together(rendezvous):
    with rendezvous.together("anything"):
        raise DarError("mine")


@pytest.mark.parametrize(
    "call",
    [lambda each: each.gather("anything", 1, int), lambda each: each.collect("anything", 1, int), _fail_together],
)
def test_a_coordinator_that_does_not_answer_is_one_line(call):
    shelf = Shelf()

    def talk(rendezvous):
        shelf.fails = True
        call(rendezvous)

    (error,) = on_each(shelf, talk, count=1)
    assert isinstance(error, HostLost)
    assert len(str(error).splitlines()) == 1
    assert "host 0, which coordinates, does not answer: UNAVAILABLE" in str(error)
