"""Answers that depend on values, in every order: the real reader's and the real writer's steps, in
processes that do not know of each other, with lists and counters that get lost in between.

No schedule is ever stale; and each mistake that looks harmless is found when a test makes it.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import pytest
from django.test import override_settings

from loom_cache import (
    CacheGateway,
    GenerationalDependencyResolver,
    counters,
    generations,
    publishing,
    reading,
    storing,
    tags,
)
from loom_cache import combinations as combinations_module
from loom_cache.combinations import Combination, Edit, Known, combination
from loom_cache.dependencies import Dependencies, OfTable
from loom_cache.entries import UNASKED
from loom_cache.generations import View
from loom_cache.permission import Standing
from loom_cache.publishing import Learn, Publish
from loom_cache.steps import Enrol, Flights, Keep, Load, Loaded, Look, Part, Request, Seed, Wait
from loom_cache.tags import Change
from tests.test_schedules import Actor, Stale, every_order_of

TABLE = "t"
Rows = dict[int, int]
"""A table: the value of each row."""

LISTED = combination(["value"], [], "rows")
COUNTED = combination(["value"], [], "all")


@pytest.fixture(autouse=True)
def memory() -> Iterator[None]:
    with override_settings(LOOM_CACHE={"LOCATION": "memory://"}):
        yield


class Question:
    """The rows that have a value, or how many have it. Each is asked in a process that has asked
    nothing before, as far as its hints go."""

    label, operation, fresh = "test.Model", "list", False

    def __init__(self, value: int, *, counts: bool = False) -> None:
        self.value, self.counts = value, counts
        self.parts: Sequence[Part] = [Part(f"e:{counts}:{value}", (tags.of_table(TABLE),), 60, 60)]
        self._known = list(tags.of_whole([TABLE]))

    def answer(self, rows: Rows) -> Any:
        found = sorted(row for row, value in rows.items() if value == self.value)
        return len(found) if self.counts else found

    def dependencies(self, rows: Rows) -> Dependencies:
        asked = COUNTED if self.counts else LISTED
        named = set() if self.counts else {r for r, value in rows.items() if value == self.value}
        return Dependencies({TABLE: OfTable(rows=set(named), values={asked: {(self.value,)}})})

    def asked(self) -> Sequence[str]:
        return tuple(self._known)

    def learn(self, at: int, names: Sequence[str]) -> None:
        self._known = list(dict.fromkeys((*self._known, *names)))

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


class World:
    """A table, everything that was ever committed to it, and a cache."""

    def __init__(self, **_: object) -> None:
        self.history: list[Rows] = [{1: 1, 2: 2}]
        self.acknowledged = 0
        self.flights: Flights = {}
        self._store = CacheGateway(alias="counters")
        self._store.clear_sync()
        reader = generations.resolver()
        assert reader is not None
        reader.catalogue.known.clear()
        self.reader = reader

    def process(self) -> GenerationalDependencyResolver:
        """Another one, that knows nothing."""
        return GenerationalDependencyResolver(
            data=CacheGateway(), counters=CacheGateway(alias="counters"), write_timeout=1
        )

    def read(
        self,
        question: Question,
        *,
        at_once: bool = False,
        process: GenerationalDependencyResolver | None = None,
    ) -> Actor:
        since = self.acknowledged
        steps = reading.answer(question, Standing(alone=True), self.flights)
        reply: Any = None
        try:
            while True:
                request = steps.send(reply)
                assert not isinstance(request, Wait)
                if not at_once:
                    yield None
                reply = self._do(request, question, process or self.reader)
                if not at_once and isinstance(request, Load):
                    yield None
        except StopIteration as stop:
            (found,) = stop.value
            if found not in [question.answer(rows) for rows in self.history[since:]]:
                raise Stale(question.value, found, self.history, since) from None
        finally:
            steps.close()

    def _do(
        self,
        request: Request,
        question: Question,
        resolver: GenerationalDependencyResolver,
    ) -> Any:
        match request:
            case Look(entries, names):
                return resolver.look_sync(entries, names)
            case Seed(names):
                return resolver.current_sync(names)
            case Enrol(wanted, seen):
                return resolver.enrol_sync(wanted, seen)
            case Keep(entries):
                return resolver.keep_sync(entries)
            case Load():
                return [self._load(question)]
        raise AssertionError(request)

    def _load(self, question: Question) -> Loaded:
        rows = self.history[-1]
        found = question.dependencies(rows)
        value = question.answer(rows)
        names = tuple(found.tags())
        return Loaded(value, msgspec.msgpack.encode(value), names, found.combinations())

    def move(
        self,
        row: int,
        value: int,
        *,
        by: GenerationalDependencyResolver | None = None,
        knows: bool = False,
    ) -> Actor:
        """UPDATE the row's value; `knows`: the writer has asked what it was."""
        resolver = by or self.process()
        before = self.history[-1]
        self.history.append({**before, row: value})
        was = {"value": frozenset({before[row]})} if knows else {}
        edit = Edit(
            named=True,
            assigned=frozenset({"value"}),
            before=was,
            after={"value": frozenset({value})},
        )
        yield from self._publish({TABLE: Change(rows={row}, edits=[edit])}, resolver)

    def insert(self, row: int, value: int) -> Actor:
        self.history.append({**self.history[-1], row: value})
        edit = Edit(named=False, after={"value": frozenset({value})})
        yield from self._publish({TABLE: Change(edits=[edit])}, self.process())

    def _publish(
        self, changes: dict[str, Change], resolver: GenerationalDependencyResolver
    ) -> Actor:
        number = len(self.history) - 1
        yield None
        steps = publishing.steps(changes, resolver)
        reply: Any = None
        while True:
            try:
                request = steps.send(reply)
            except StopIteration:
                break
            match request:
                case Publish(names, reads):
                    reply = resolver.publish_sync(names, reads)
                case Learn(tables):
                    reply = resolver.learn_sync(tables)
            yield None
        self.acknowledged = max(self.acknowledged, number)

    def lose(self, *prefixes: str) -> Actor:
        for prefix in prefixes:
            self._store.remove_sync(self._store.scan_sync(self._store.full_key(prefix)))
        yield from ()


def _at_once(actor: Actor) -> None:
    for _ in actor:
        pass


# Scenarios. ---------------------------------------------------------------------------------------

Scenario = Callable[[], tuple[World, list[Actor], list[Any]]]


def a_list_and_a_writer_who_knows_nothing() -> tuple[World, list[Actor], list[Any]]:
    world, question = World(), Question(2)
    return world, [world.read(question), world.move(1, 2)], [question, Question(1)]


def a_cached_list_and_a_writer_who_knows_nothing() -> tuple[World, list[Actor], list[Any]]:
    world = World()
    for value in (1, 2):
        _at_once(world.read(Question(value), at_once=True))
    return world, [world.move(1, 2), world.read(Question(2))], [Question(1), Question(2)]


def a_count_and_a_writer_who_does_not_know_what_the_row_was() -> tuple[
    World, list[Actor], list[Any]
]:
    world, question = World(), Question(1, counts=True)
    return world, [world.read(question), world.move(1, 2)], [question, Question(2, counts=True)]


def a_count_and_a_writer_who_knows_what_the_row_was() -> tuple[World, list[Actor], list[Any]]:
    world, question = World(), Question(1, counts=True)
    actors = [world.read(question), world.move(1, 2, knows=True)]
    return world, actors, [question, Question(2, counts=True)]


def a_new_combination_and_a_writer_who_knows_the_others() -> tuple[World, list[Actor], list[Any]]:
    world, writer = World(), None
    _at_once(world.read(Question(1), at_once=True))
    writer = world.process()
    writer.learn_sync([TABLE])
    question = Question(1, counts=True)
    return world, [world.read(question), world.move(1, 2, by=writer)], [question, Question(1)]


def a_row_is_inserted() -> tuple[World, list[Actor], list[Any]]:
    world, question = World(), Question(1)
    return world, [world.read(question), world.insert(3, 1)], [question]


def counters_and_lists_are_lost() -> tuple[World, list[Actor], list[Any]]:
    world, question = World(), Question(2)
    actors = [world.read(question), world.move(1, 2), world.lose("g:", "w:")]
    return world, actors, [question]


def a_list_of_combinations_is_lost() -> tuple[World, list[Actor], list[Any]]:
    world, question = World(), Question(2)
    _at_once(world.read(Question(2), at_once=True))
    return world, [world.move(1, 2), world.lose("w:"), world.read(question)], [Question(2)]


def two_processes_read() -> tuple[World, list[Actor], list[Any]]:
    world, counted = World(), Question(2, counts=True)
    actors = [
        world.read(Question(2), at_once=True),
        world.read(counted, process=world.process()),
        world.move(1, 2),
    ]
    return world, actors, [Question(2), counted]


SCENARIOS: dict[str, tuple[Scenario, int]] = {
    scenario.__name__.replace("_", " "): (scenario, at_least)
    for scenario, at_least in (
        (a_list_and_a_writer_who_knows_nothing, 40),
        (a_cached_list_and_a_writer_who_knows_nothing, 15),
        (a_count_and_a_writer_who_does_not_know_what_the_row_was, 40),
        (a_count_and_a_writer_who_knows_what_the_row_was, 40),
        (a_new_combination_and_a_writer_who_knows_the_others, 40),
        (a_row_is_inserted, 40),
        (counters_and_lists_are_lost, 400),
        (a_list_of_combinations_is_lost, 40),
        (two_processes_read, 400),
    )
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_schedule_is_stale(name: str) -> None:
    scenario, at_least = SCENARIOS[name]
    assert every_order_of(scenario) >= at_least


# Mistakes that look harmless. ---------------------------------------------------------------------


def a_writer_does_not_ask_whether_it_knows_enough(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(publishing, "_is_known", lambda table, seen, catalogue: True)


def a_writer_asks_for_the_life_of_the_list_alone(patch: pytest.MonkeyPatch) -> None:
    def is_known(table: str, seen: Any, catalogue: Any) -> bool:
        life = seen.generations[tags.of_combinations(table)]
        return life is None or life == catalogue.of(table).life

    patch.setattr(publishing, "_is_known", is_known)


def a_list_that_is_lost_is_taken_for_an_empty_one(patch: pytest.MonkeyPatch) -> None:
    learn = GenerationalDependencyResolver.learn_sync

    def learning(resolver: Any, tables: Sequence[str]) -> list[str]:
        for table in learn(resolver, tables):
            found = resolver._counters.fetch_sync(list(resolver._roll(table)))
            life, _, version = map(counters.parse, found.values)
            known = Known(life, version, incarnation=found.incarnation)
            resolver.catalogue.known[table] = known
        return []

    patch.setattr(GenerationalDependencyResolver, "learn_sync", learning)


def a_reader_keeps_its_combination_to_itself(patch: pytest.MonkeyPatch) -> None:
    def enrol(resolver: Any, wanted: Any, seen: Any) -> dict[str, Known]:
        return {table: Known(0, 0, found) for table, found in wanted.items()}

    patch.setattr(GenerationalDependencyResolver, "enrol_sync", enrol)
    made_under = storing._made_under

    def making(plan: Any, kept: Any, view: View) -> Any:
        for one in kept.values():
            one.tags = tuple(tag for tag in one.tags if tag != tags.of_combinations(TABLE))
        found = yield from made_under(plan, kept, view)
        for one in kept.values():
            one.refusal = None
        return found

    patch.setattr(storing, "_made_under", making)


def the_guard_is_not_looked_at_again(patch: pytest.MonkeyPatch) -> None:
    made_under = storing._made_under

    def making(plan: Any, kept: Any, view: View) -> Any:
        found = yield from made_under(plan, kept, view)
        for one in kept.values():
            one.refusal = None
        return found

    patch.setattr(storing, "_made_under", making)


def the_guard_is_without_the_table_s_list(patch: pytest.MonkeyPatch) -> None:
    """Only `T` is looked at, which no write to a known row moves."""
    made_under = storing._made_under

    def making(plan: Any, kept: Any, view: View) -> Any:
        view.generations.pop(tags.of_list(TABLE), None)
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(storing, "covers", lambda view, tag, late=(): True)
            return (yield from made_under(plan, kept, view))

    patch.setattr(storing, "_made_under", making)


def the_guard_is_looked_at_before_what_the_load_has_shown(patch: pytest.MonkeyPatch) -> None:
    """Two looks instead of one, the wrong one first."""
    made_under = storing._made_under

    def making(plan: Any, kept: Any, view: View) -> Any:
        steps, reply = made_under(plan, kept, view), None
        guards = {*tags.of_whole([TABLE])}
        while True:
            try:
                request = steps.send(reply)
            except StopIteration as stop:
                return stop.value
            reply = yield request if not isinstance(request, Seed) else Seed(sorted(guards))
            if isinstance(request, Seed):
                rest = yield Seed(sorted({*request.tags} - guards))
                rest.generations |= reply.generations
                reply = rest

    patch.setattr(storing, "_made_under", making)


def what_a_row_becomes_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    states = Edit._states_for

    def forgetting(edit: Edit, asked: Combination) -> Any:
        return (state for state in states(edit, asked) if state is not edit.after)

    patch.setattr(Edit, "_states_for", forgetting)


def what_a_row_was_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    states = Edit._states_for

    def forgetting(edit: Edit, asked: Combination) -> Any:
        return (state for state in states(edit, asked) if state is not edit.before)

    patch.setattr(Edit, "_states_for", forgetting)


def a_list_does_not_name_its_rows(patch: pytest.MonkeyPatch) -> None:
    named = OfTable.tags

    def naming(one: OfTable, table: str) -> list[str]:
        return [tag for tag in named(one, table) if ":id:" not in tag]

    patch.setattr(OfTable, "tags", naming)


def an_unknown_value_is_taken_for_none(patch: pytest.MonkeyPatch) -> None:
    values_of = Combination.values_of
    patch.setattr(
        combinations_module.Combination,
        "values_of",
        lambda asked, known: values_of(asked, known) or [],
    )


MISTAKES: list[tuple[Callable[[pytest.MonkeyPatch], None], Scenario]] = [
    (a_writer_does_not_ask_whether_it_knows_enough, a_cached_list_and_a_writer_who_knows_nothing),
    (
        a_writer_asks_for_the_life_of_the_list_alone,
        a_new_combination_and_a_writer_who_knows_the_others,
    ),
    (a_list_that_is_lost_is_taken_for_an_empty_one, a_list_of_combinations_is_lost),
    (a_reader_keeps_its_combination_to_itself, a_row_is_inserted),
    (the_guard_is_not_looked_at_again, a_row_is_inserted),
    (the_guard_is_without_the_table_s_list, a_row_is_inserted),
    (the_guard_is_looked_at_before_what_the_load_has_shown, a_row_is_inserted),
    (what_a_row_becomes_is_forgotten, a_cached_list_and_a_writer_who_knows_nothing),
    (what_a_row_was_is_forgotten, a_count_and_a_writer_who_knows_what_the_row_was),
    (a_list_does_not_name_its_rows, a_cached_list_and_a_writer_who_knows_nothing),
    (an_unknown_value_is_taken_for_none, a_count_and_a_writer_who_does_not_know_what_the_row_was),
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
