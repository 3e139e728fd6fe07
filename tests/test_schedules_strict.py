"""Strict tables, in every order: the real reader's steps and the real writer's, with writers that
are killed at any instant, leases that run out, and counters that get lost.

A read that starts after a COMMIT always sees it; and each mistake that looks harmless is found when
a test makes it.
"""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.test import override_settings

from loom_cache import generations, leases, reading, storing
from loom_cache.backends import Lease
from loom_cache.backends.memory import MemoryStore
from loom_cache.counters import BUMP, OPEN_MASK
from loom_cache.generations import View
from loom_cache.leases import Writer
from tests import test_schedules as ordinary
from tests.test_schedules import A, Actor, B, Question, Stale, every_order_of

NAMES = {A: "a", B: "b"}
LONG_AGO = -1e9


@pytest.fixture(autouse=True)
def both_tables_are_strict(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    strict = SimpleNamespace(strict=lambda: frozenset(NAMES.values()))
    monkeypatch.setattr(generations, "tables", strict)
    monkeypatch.setattr(leases._renewal, "follow", lambda writer: None)
    with override_settings(LOOM_CACHE={"LOCATION": "memory://"}):
        yield


class World(ordinary.World):
    """Whoever begins to read knows all that has been committed."""

    def read(self, plan: Question, *, at_once: bool = False) -> Actor:
        self.acknowledged = dict(self.committed)
        yield from super().read(plan, at_once=at_once)

    def clear(self) -> None:
        self.memory._writers.clear()

    @property
    def memory(self) -> MemoryStore:
        store: Any = self._store._store
        found: MemoryStore = store._store
        return found

    def write(self, table: str, *, rolls_back: bool = False) -> Actor:
        writer = Writer(self.resolver)
        self.writers.append(writer)
        writer.open([NAMES[table]])
        yield None
        if not rolls_back:
            writer.stay()  # as before every COMMIT
            self.committed[table] += 1
        yield None
        self.resolver.publish_sync([], [], writer.leave())

    @property
    def writers(self) -> list[Writer]:
        found: list[Writer] = self.__dict__.setdefault("_writers", [])
        return found

    def kill(self, writer: Actor) -> Actor:
        """At whatever instant it has come to."""
        writer.close()
        yield from ()

    def leases_run_out(self) -> Actor:
        """Of whoever is inside now: so much time has passed."""
        store = self.memory
        for inside in store._writers.values():
            for name in inside:
                inside[name] = LONG_AGO
        for key, (value, _) in list(store._counters.items()):
            if value & OPEN_MASK:
                del store._counters[key]
        for writer in self.writers:
            writer._renewed = LONG_AGO, LONG_AGO
        yield from ()


Scenario = Callable[[], tuple[World, list[Actor], list[Question]]]


def fresh_world(*, cached: Question | None = None) -> World:
    world = World()
    world.clear()
    if cached is not None:
        for _ in world.read(cached, at_once=True):
            raise AssertionError("Nobody is there to wait for.")
    return world


def a_reader_and_a_writer() -> tuple[World, list[Actor], list[Question]]:
    question = Question(A)
    world = fresh_world(cached=question)
    return world, [world.write(A), world.read(question)], [question]


def a_reader_and_two_writers() -> tuple[World, list[Actor], list[Question]]:
    question = Question(A)
    world = fresh_world()
    return world, [world.write(A), world.write(A), world.read(question)], [question]


def two_readers_and_a_writer() -> tuple[World, list[Actor], list[Question]]:
    question = Question(A)
    world = fresh_world(cached=question)
    actors = [world.write(A), world.read(question), world.read(question)]
    return world, actors, [question]


def a_reader_a_quick_one_and_a_writer() -> tuple[World, list[Actor], list[Question]]:
    question = Question(A)
    world = fresh_world(cached=question)
    actors = [world.write(A), world.read(question), world.read(question, at_once=True)]
    return world, actors, [question]


def a_writer_rolls_back() -> tuple[World, list[Actor], list[Question]]:
    question = Question(A)
    world = fresh_world(cached=question)
    actors = [world.write(A, rolls_back=True), world.write(A), world.read(question)]
    return world, actors, [question]


def a_writer_is_killed() -> tuple[World, list[Actor], list[Question]]:
    question = Question(A)
    world = fresh_world(cached=question)
    victim = world.write(A)
    actors = [victim, world.kill(victim), world.read(question), world.leases_run_out()]
    return world, actors, [question]


def a_writer_is_killed_and_another_comes() -> tuple[World, list[Actor], list[Question]]:
    question = Question(A)
    world = fresh_world(cached=question)
    victim = world.write(A)
    actors = [
        victim,
        _then(world.kill(victim), world.leases_run_out),
        world.write(A, rolls_back=True),
        world.read(question, at_once=True),
    ]
    return world, actors, [question]


def _then(first: Actor, second: Callable[[], Actor]) -> Actor:
    yield from first
    yield None
    yield from second()


def counters_are_lost() -> tuple[World, list[Actor], list[Question]]:
    world, actors, questions = a_reader_a_quick_one_and_a_writer()
    return world, [*actors, world.lose_counters()], questions


def counters_are_lost_and_a_writer_is_killed() -> tuple[World, list[Actor], list[Question]]:
    question = Question(A)
    world = fresh_world()
    victim = world.write(A)
    actors = [victim, world.kill(victim), world.read(question), world.lose_counters()]
    return world, actors, [question]


def a_writer_is_suspended() -> tuple[World, list[Actor], list[Question]]:
    """For longer than its lease."""
    world, actors, questions = a_reader_a_quick_one_and_a_writer()
    return world, [*actors, world.leases_run_out()], questions


def a_dependency_is_found_late() -> tuple[World, list[Actor], list[Question]]:
    world = fresh_world()
    question = Question(A, B, known=[A])
    twice = _then(world.read(question), lambda: world.read(question))
    return world, [twice, world.write(B)], [question]


def a_reader_is_cancelled() -> tuple[World, list[Actor], list[Question]]:
    world = fresh_world()
    question = Question(A)
    victim = world.read(question)
    at_once = world.read(question, at_once=True)
    return world, [victim, at_once, world.cancel(victim), world.write(A)], [question]


SCENARIOS: dict[str, tuple[Scenario, int]] = {
    scenario.__name__.replace("_", " "): (scenario, at_least)
    for scenario, at_least in (
        (a_reader_and_a_writer, 15),
        (a_reader_and_two_writers, 5000),
        (two_readers_and_a_writer, 1000),
        (a_reader_a_quick_one_and_a_writer, 100),
        (a_writer_rolls_back, 1000),
        (a_writer_is_killed, 300),
        (a_writer_is_killed_and_another_comes, 300),
        (counters_are_lost, 300),
        (counters_are_lost_and_a_writer_is_killed, 1000),
        (a_writer_is_suspended, 300),
        (a_dependency_is_found_late, 50),
        (a_reader_is_cancelled, 1000),
    )
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_schedule_is_stale(name: str) -> None:
    scenario, at_least = SCENARIOS[name]
    assert every_order_of(scenario) >= at_least


def test_an_ordinary_table_has_a_window_between_commit_and_bump(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What strict is for: judged as strictly, an ordinary write is found stale."""
    monkeypatch.setattr(World, "write", ordinary.World.write)
    with pytest.raises(Stale):
        every_order_of(a_reader_and_a_writer)


# Mistakes that look harmless. ---------------------------------------------------------------------


def answers_are_stored_while_a_writer_is_open(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(generations, "being_written", lambda generations: False)


def loads_are_joined_while_a_writer_is_open(patch: pytest.MonkeyPatch) -> None:
    """And not stored."""
    being_written, keep = generations.being_written, storing.keep

    def keeping(plan: Any, missing: Any, loaded: Any, view: View) -> Any:
        if not being_written(view.generations):
            yield from keep(plan, missing, loaded, view)

    patch.setattr(storing, "keep", keeping)
    never = {**vars(generations), "being_written": lambda generations: False}
    patch.setattr(reading, "generations", SimpleNamespace(**never))


def a_counter_is_seeded_without_looking_at_its_writers(patch: pytest.MonkeyPatch) -> None:
    take = MemoryStore._take

    def taking(store: MemoryStore, lease: Lease) -> int | None:
        if lease.step != "seed":
            return take(store, lease)
        return store._seed(lease.counter)

    patch.setattr(MemoryStore, "_take", taking)


def a_writer_comes_in_after_its_commit(patch: pytest.MonkeyPatch) -> None:
    def write(world: World, table: str, *, rolls_back: bool = False) -> Actor:
        yield None
        world.committed[table] += not rolls_back
        yield None
        writer = Writer(world.resolver)
        writer.open([NAMES[table]])
        world.resolver.publish_sync([], [], writer.leave())

    patch.setattr(World, "write", write)


def a_writer_goes_out_before_its_commit(patch: pytest.MonkeyPatch) -> None:
    def write(world: World, table: str, *, rolls_back: bool = False) -> Actor:
        writer = Writer(world.resolver)
        writer.open([NAMES[table]])
        yield None
        world.resolver.publish_sync([], [], writer.leave())
        yield None
        world.committed[table] += not rolls_back

    patch.setattr(World, "write", write)


def a_writer_that_goes_out_bumps_nothing(patch: pytest.MonkeyPatch) -> None:
    take = MemoryStore._take

    def taking(store: MemoryStore, lease: Lease) -> int | None:
        value = take(store, lease)
        if value is None or lease.step != "close":
            return value
        store._counters[lease.counter] = (value - BUMP, store._counters[lease.counter][1])
        return value - BUMP

    patch.setattr(MemoryStore, "_take", taking)


def a_lost_counter_is_taken_for_one_without_writers(patch: pytest.MonkeyPatch) -> None:
    """Absent means zero."""
    ordinary.absent_means_zero(patch)


def a_suspended_writer_commits_as_if_it_were_still_in(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Writer, "stay", lambda writer: None)


MISTAKES: list[tuple[Callable[[pytest.MonkeyPatch], None], Scenario]] = [
    (answers_are_stored_while_a_writer_is_open, a_reader_a_quick_one_and_a_writer),
    (loads_are_joined_while_a_writer_is_open, two_readers_and_a_writer),
    (a_counter_is_seeded_without_looking_at_its_writers, counters_are_lost),
    (a_writer_comes_in_after_its_commit, a_reader_and_a_writer),
    (a_writer_goes_out_before_its_commit, a_reader_and_a_writer),
    (a_writer_that_goes_out_bumps_nothing, a_reader_and_a_writer),
    (a_lost_counter_is_taken_for_one_without_writers, counters_are_lost),
    (a_suspended_writer_commits_as_if_it_were_still_in, a_writer_is_suspended),
]


@pytest.mark.parametrize(("mistake", "scenario"), MISTAKES, ids=lambda given: given.__name__)
def test_each_mistake_makes_a_schedule_stale(
    mistake: Callable[[pytest.MonkeyPatch], None],
    scenario: Scenario,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mistake(monkeypatch)
    with pytest.raises(Stale):
        every_order_of(scenario)
