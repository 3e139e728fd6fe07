"""The protocol of reading, in every order: the real reader's steps against writers, lost counters,
restarts and cancellations, one schedule after the other, none left out.

No schedule is ever stale; and each mistake that looks harmless is found when a test makes it.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import msgspec
import pytest
from django.test import override_settings

from loom_cache import (
    CacheGateway,
    GenerationalDependencyResolver,
    entries,
    generations,
    reading,
    storing,
)
from loom_cache.entries import UNASKED
from loom_cache.generations import View
from loom_cache.permission import Standing
from loom_cache.steps import Flight, Flights, Keep, Load, Loaded, Look, Part, Request, Seed, Wait

Condition = Callable[[], bool]
Actor = Generator[Condition | None, None, None]
"""Runs up to its next step at each `next()`; a condition holds it back until it is true."""

A, B = "g:{a}", "g:{b}"


class Stale(AssertionError):
    """A reader was given less than had been acknowledged before it began."""


@pytest.fixture(autouse=True)
def memory() -> Iterator[None]:
    with override_settings(LOOM_CACHE={"LOCATION": "memory://"}):
        yield


class World:
    """A database of two tables, each a number that only grows, and an empty cache."""

    def __init__(self, *, seeded: bool = False) -> None:
        self.committed = {A: 0, B: 0}
        self.acknowledged = {A: 0, B: 0}
        self.flights: Flights = {}
        self._store = CacheGateway(alias="counters")
        self._store.clear_sync()
        if seeded:
            self.resolver.current_sync([A, B])

    @property
    def resolver(self) -> GenerationalDependencyResolver:
        found = generations.resolver()
        assert found is not None
        return found

    # Actors.

    def read(self, plan: "Question", *, at_once: bool = False) -> Actor:
        """A reader of this event loop; `at_once`: the others see nothing of it in between.

        What it looks up and loads is on its way for a while, before it goes on.
        """
        known = dict(self.acknowledged)
        steps = reading.answer(plan, Standing(), self.flights)
        reply: Any = None
        try:
            while True:
                request = steps.send(reply)
                if isinstance(request, Wait):
                    yield _landed(request.flight)
                    continue
                if not (at_once or isinstance(request, Look)):
                    yield None
                reply = self._do(request, plan)
                if not at_once and isinstance(request, Look | Load):
                    yield None
        except StopIteration as stop:
            self._judge(plan, known, stop.value)
        finally:
            steps.close()

    def _do(self, request: Request, plan: "Question") -> Any:
        match request:
            case Look(entries, tags):
                return self.resolver.look_sync(entries, tags)
            case Seed(tags):
                return self.resolver.current_sync(tags)
            case Keep(entries):
                return self.resolver.keep_sync(entries)
            case Load(_, missing):
                return [self._load(plan) for _ in missing]
        raise AssertionError(request)

    def _load(self, plan: "Question") -> Loaded:
        value = {table: self.committed[table] for table in plan.tables}
        tags = tuple(dict.fromkeys((*plan.asked(), *plan.tables)))
        return Loaded(value, msgspec.msgpack.encode(value), tags)

    def _judge(self, plan: "Question", known: dict[str, int], values: list[Any]) -> None:
        for value in values:
            if any(value[table] < known[table] for table in plan.tables):
                raise Stale(value, known)

    def write(self, table: str) -> Actor:
        self.committed[table] += 1
        yield None
        self.resolver.bump_sync([table])
        self.acknowledged[table] = self.committed[table]

    def lose_counters(self) -> Actor:
        self._store.remove_sync(self._store.scan_sync(self._store.full_key("g:")))
        yield from ()

    def save_and_restart(self) -> Actor:
        """Of the server: it comes back as it was when it saved itself."""
        saved = self.saved()
        yield None
        self._restore(saved)

    def restart(self, saved: dict[str, bytes | None]) -> Actor:
        self._restore(saved)
        yield from ()

    def saved(self) -> dict[str, bytes | None]:
        keys = self._store.scan_sync(self._store.full_key(""))
        return dict(zip(keys, self._store.fetch_sync(keys).values, strict=True))

    def _restore(self, saved: dict[str, bytes | None]) -> None:
        memory: Any = self._store._store
        memory._store.reset()
        for key, value in saved.items():
            memory._store.set(key, int(value or 0) if ":g:" in key else value, None)

    def cancel(self, victim: Actor) -> Actor:
        victim.close()
        yield from ()


def _landed(flight: Flight) -> Condition:
    return lambda: flight.over


class Question:
    """A plan that asks for what is in `tables`, and knows beforehand that it depends on `known`."""

    label, operation, fresh = "test.Model", "get", False

    def __init__(self, *tables: str, known: Sequence[str] = (), parts: int = 1) -> None:
        self.tables = tables
        self._known = list(known or tables)
        self.parts: Sequence[Part] = [Part(f"e:{at}", (tables[0],), 60, 60) for at in range(parts)]

    def asked(self) -> Sequence[str]:
        return tuple(self._known)

    def learn(self, at: int, tags: Sequence[str]) -> None:
        self._known = list(dict.fromkeys((*self._known, *tags)))

    def decode(self, at: int, body: msgspec.Raw) -> Any:
        return msgspec.msgpack.decode(body)

    def question(self, at: int) -> msgspec.Raw:
        return UNASKED

    def refusal(self) -> str | None:
        return None

    def prepared(self) -> bool:
        return True

    def prepare(self) -> None: ...

    def load(self, missing: Sequence[int]) -> list[Loaded]:
        raise AssertionError("The world loads.")

    async def aload(self, missing: Sequence[int]) -> list[Loaded]:
        raise AssertionError("The world loads.")


# Every schedule. --------------------------------------------------------------------------------

Scenario = Callable[[], tuple[World, list[Actor], list[Question]]]
"""A world, who acts in it, and what is asked when everybody has done."""


def every_schedule_of(scenario: Scenario) -> int:
    """Try them all; how many there were."""
    return every_order_of(scenario)


def every_order_of(scenario: Callable[[], tuple[Any, list[Actor], list[Any]]]) -> int:
    """Let the actors of a scenario act in every order there is, and ask its questions after each;
    how many there were. The world it makes answers `read(question, at_once=True)`."""
    number = 0
    choices: list[tuple[int, int]] = []
    while True:
        choices = _run(scenario, [chosen for chosen, _ in choices])
        number += 1
        while choices and choices[-1][0] + 1 == choices[-1][1]:
            choices.pop()
        if not choices:
            return number
        chosen, possible = choices[-1]
        choices[-1] = chosen + 1, possible


def _run(
    scenario: Callable[[], tuple[Any, list[Actor], list[Any]]], chosen: list[int]
) -> list[tuple[int, int]]:
    """One schedule, which begins as `chosen`; each choice, of how many."""
    world, actors, questions = scenario()
    running: list[tuple[Actor, Condition | None]] = [(actor, None) for actor in actors]
    choices: list[tuple[int, int]] = []
    while running:
        able = [at for at, (_, condition) in enumerate(running) if not condition or condition()]
        assert able, "Everybody waits for somebody."
        choice = chosen[len(choices)] if len(choices) < len(chosen) else 0
        choices.append((choice, len(able)))
        actor = running[able[choice]][0]
        try:
            running[able[choice]] = actor, next(actor)
        except StopIteration:
            del running[able[choice]]
    for question in questions:
        for _ in world.read(question, at_once=True):
            raise AssertionError("Nobody is left to wait for.")
    return choices


def a_reader_and_a_writer() -> tuple[World, list[Actor], list[Question]]:
    world = World()
    question = Question(A)
    return world, [world.read(question), world.write(A)], [question]


def a_reader_and_two_writers() -> tuple[World, list[Actor], list[Question]]:
    world = World()
    question = Question(A)
    return world, [world.read(question), world.write(A), world.write(A)], [question]


def two_readers_and_a_writer() -> tuple[World, list[Actor], list[Question]]:
    world = World(seeded=True)
    question = Question(A)
    actors = [world.read(question), world.read(question), world.write(A)]
    return world, actors, [question]


def counters_are_lost() -> tuple[World, list[Actor], list[Question]]:
    world = World()
    question = Question(A)
    actors = [
        world.read(question),
        world.read(question, at_once=True),
        world.write(A),
        world.lose_counters(),
    ]
    return world, actors, [question]


def a_reader_is_cancelled() -> tuple[World, list[Actor], list[Question]]:
    world = World(seeded=True)
    question = Question(A)
    victim = world.read(question)
    return world, [victim, world.read(question), world.cancel(victim)], [question]


def a_reader_is_cancelled_while_somebody_writes() -> tuple[World, list[Actor], list[Question]]:
    world, actors, questions = a_reader_is_cancelled()
    return world, [*actors, world.write(A)], questions


def the_server_restarts() -> tuple[World, list[Actor], list[Question]]:
    world = World()
    question = Question(A)
    return world, [world.read(question), world.write(A), world.save_and_restart()], [question]


def two_readers_and_a_restart() -> tuple[World, list[Actor], list[Question]]:
    world = World(seeded=True)
    question = Question(A)
    readers = [world.read(question), _then(world.write(A), lambda: world.read(question))]
    return world, [*readers, world.restart(world.saved())], [question]


def a_writer_is_killed_and_another_writes() -> tuple[World, list[Actor], list[Question]]:
    """What was never acknowledged may show or not; what is acknowledged after it shows."""
    world = World()
    question = Question(A)
    victim = world.write(A)
    actors = [victim, world.cancel(victim), world.read(question), world.write(A)]
    return world, actors, [question]


def a_dependency_is_found_late() -> tuple[World, list[Actor], list[Question]]:
    world = World()
    question = Question(A, B, known=[A])
    twice = _then(world.read(question), lambda: world.read(question))
    return world, [twice, world.write(B)], [question]


def another_process_knows_less() -> tuple[World, list[Actor], list[Question]]:
    world = World()
    for _ in world.read(Question(A, B), at_once=True):
        raise AssertionError("Nobody is there to wait for.")
    later = Question(A, B, known=[A])
    return world, [world.read(later), world.write(B)], [later, Question(A, B, known=[A])]


def several_parts() -> tuple[World, list[Actor], list[Question]]:
    world = World()
    page = Question(A, parts=2)
    other = Question(A)
    actors = [world.read(page), world.read(other, at_once=True), world.write(A)]
    return world, actors, [page]


def _then(first: Actor, second: Callable[[], Actor]) -> Actor:
    yield from first
    yield None
    yield from second()


SCENARIOS: dict[str, tuple[Scenario, int]] = {
    "a reader and a writer": (a_reader_and_a_writer, 28),
    "a reader and two writers": (a_reader_and_two_writers, 1000),
    "two readers and a writer": (two_readers_and_a_writer, 3000),
    "counters are lost": (counters_are_lost, 2000),
    "a reader is cancelled": (a_reader_is_cancelled, 400),
    "a reader is cancelled while somebody writes": (
        a_reader_is_cancelled_while_somebody_writes,
        10_000,
    ),
    "the server restarts": (the_server_restarts, 1000),
    "two readers and a restart": (two_readers_and_a_restart, 4000),
    "a writer is killed and another writes": (a_writer_is_killed_and_another_writes, 1000),
    "a dependency is found late": (a_dependency_is_found_late, 50),
    "another process knows less": (another_process_knows_less, 10),
    "several parts": (several_parts, 200),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_schedule_is_stale(name: str) -> None:
    scenario, at_least = SCENARIOS[name]
    assert every_schedule_of(scenario) >= at_least


# Mistakes that look harmless. -------------------------------------------------------------------


def absent_means_zero(patch: pytest.MonkeyPatch) -> None:
    look = GenerationalDependencyResolver.look_sync

    def looking(resolver: Any, entries: Sequence[str], tags: Sequence[str]) -> View:
        view = look(resolver, entries, tags)
        view.generations = {tag: view.generations.get(tag, 0) for tag in tags}
        return view

    patch.setattr(GenerationalDependencyResolver, "look_sync", looking)


def counters_read_after_the_load(patch: pytest.MonkeyPatch) -> None:
    keep = storing.keep

    def keeping(plan: Any, missing: Any, loaded: Any, view: View) -> Any:
        view.generations.update(_counters_now(tuple(view.generations)))
        return keep(plan, missing, loaded, view)

    patch.setattr(storing, "keep", keeping)


def late_dependencies_kept_under_counters_read_after_the_load(patch: pytest.MonkeyPatch) -> None:
    keep = storing.keep

    def keeping(plan: Any, missing: Any, loaded: Any, view: View) -> Any:
        late = {tag for one in loaded for tag in one.tags} - set(view.generations)
        view.generations.update(_counters_now(sorted(late)))
        return keep(plan, missing, loaded, view)

    patch.setattr(storing, "keep", keeping)


def _counters_now(tags: Sequence[str]) -> dict[str, int]:
    resolver = generations.resolver()
    assert resolver is not None
    return resolver.current_sync(tags).generations


def any_load_under_way_is_joined(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Flight, "may_serve", lambda flight, view: True)


def loads_of_an_earlier_life_are_joined(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Flight, "may_serve", lambda flight, view: flight.generations == view.generations)


def entries_of_an_earlier_life_are_hits(patch: pytest.MonkeyPatch) -> None:
    judge = reading._may_be_valid

    def judging(entry: Any, part: Part, view: View) -> bool:
        return judge(msgspec.structs.replace(entry, incarnation=view.incarnation), part, view)

    patch.setattr(reading, "_may_be_valid", judging)


def loads_of_an_earlier_life_are_kept(patch: pytest.MonkeyPatch) -> None:
    """As if the new life's name were learnt when the entry is stored."""
    keep = storing.keep

    def keeping(plan: Any, missing: Any, loaded: Any, view: View) -> Any:
        resolver = generations.resolver()
        assert resolver is not None
        view.incarnation = resolver.look_sync([], [A]).incarnation
        return keep(plan, missing, loaded, view)

    patch.setattr(storing, "keep", keeping)


def dependencies_beyond_those_asked_for_are_believed(patch: pytest.MonkeyPatch) -> None:
    original = reading._judge

    def judging(plan: Any, view: View) -> Any:
        for entry in filter(None, map(entries.read, view.entries)):
            view.generations = {**entry.generations, **view.generations}
            plan.learn(0, list(entry.generations))
        return original(plan, view)

    patch.setattr(reading, "_judge", judging)


def bumps_come_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    def writing(world: World, table: str) -> Actor:
        world.resolver.bump_sync([table])
        yield None
        world.committed[table] += 1
        world.acknowledged[table] = world.committed[table]

    patch.setattr(World, "write", writing)


def bumps_come_after_the_acknowledgement(patch: pytest.MonkeyPatch) -> None:
    def writing(world: World, table: str) -> Actor:
        world.committed[table] += 1
        world.acknowledged[table] = world.committed[table]
        yield None
        world.resolver.bump_sync([table])

    patch.setattr(World, "write", writing)


MISTAKES: list[tuple[Callable[[pytest.MonkeyPatch], None], Scenario]] = [
    (absent_means_zero, counters_are_lost),
    (counters_read_after_the_load, a_reader_and_a_writer),
    (late_dependencies_kept_under_counters_read_after_the_load, a_dependency_is_found_late),
    (any_load_under_way_is_joined, two_readers_and_a_writer),
    (loads_of_an_earlier_life_are_joined, two_readers_and_a_restart),
    (entries_of_an_earlier_life_are_hits, the_server_restarts),
    (loads_of_an_earlier_life_are_kept, the_server_restarts),
    (dependencies_beyond_those_asked_for_are_believed, another_process_knows_less),
    (bumps_come_before_the_commit, a_reader_and_a_writer),
    (bumps_come_after_the_acknowledgement, several_parts),
]


@pytest.mark.parametrize(("mistake", "scenario"), MISTAKES, ids=lambda given: given.__name__)
def test_each_mistake_makes_a_schedule_stale(
    mistake: Callable[[pytest.MonkeyPatch], None],
    scenario: Scenario,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mistake(monkeypatch)
    with pytest.raises(Stale):
        every_schedule_of(scenario)
