"""A read: look, judge, load, store (R1-R4, R6, R7).

Sans-I/O: `answer()` is one generator that decides everything and yields what it wants done;
`drive` (in the caller's thread) and `adrive` (on the event loop) carry it out.
"""

from __future__ import annotations

import asyncio
import os
import random
from asyncio import AbstractEventLoop
from collections.abc import Awaitable, Generator, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import msgspec
from asgiref.sync import sync_to_async
from django.core.exceptions import SynchronousOnlyOperation

from loom_cache import config, generations, metrics, permission, tags, watch
from loom_cache.codec import CorruptEntry
from loom_cache.combinations import Combination, Known
from loom_cache.exceptions import StoreUnavailable
from loom_cache.generations import GenerationalDependencyResolver, View
from loom_cache.permission import Standing
from loom_cache.resilience import Breaker


class Entry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What is stored: the generations an answer was made under, and the answer."""

    incarnation: str
    generations: dict[str, int]
    body: msgspec.Raw


_encoder = msgspec.msgpack.Encoder()
_decode_entry = msgspec.msgpack.Decoder(Entry).decode


@dataclass(slots=True)
class Part:
    """One stored answer of a plan. A plan has one, a page two, `in_bulk` one a row."""

    key: str
    required: tuple[str, ...]
    """Tags that an entry must list, or it was made by code that knew less (R3)."""
    ttl: float
    """Seconds."""
    missing_ttl: float
    """Seconds an answer that says "there is none" is kept."""


@dataclass(slots=True)
class Loaded:
    """One part's answer, fresh from the database."""

    value: Any
    body: bytes | None = None
    """How it is stored; None if it must not be, or cannot be."""
    tags: tuple[str, ...] = ()
    """What it turned out to depend on."""
    combinations: dict[str, frozenset[Combination]] = field(default_factory=dict)
    """Those among its tags, by table: writers must know of them before it is stored."""
    missing: bool = False
    refusal: str | None = None
    """Why it is not stored."""

    def widen(self, table: str) -> None:
        """Let it depend on the whole of a table."""
        whole = tags.of_whole([table])
        others = (name for name in self.tags if tags.widened(name) != whole)
        self.tags = tuple(dict.fromkeys((*others, *whole)))
        self.combinations.pop(table, None)


class Plan(Protocol):
    """What to look up, how to load it and how it is decoded; built without any I/O."""

    label: str
    operation: str
    parts: Sequence[Part]
    fresh: bool
    """Do not look up; load, and store."""

    def refusal(self) -> str | None:
        """Why this question is never cached, as far as is known."""

    def asked(self) -> Sequence[str]:
        """Tags whose counters are wanted in the first round trip: those every part requires,
        and those that such answers are known to depend on."""

    def prepared(self) -> bool:
        """Whether `asked` is known to name all that a load may touch."""

    def prepare(self) -> None:
        """Find that out (in the thread of the database connection)."""

    def learn(self, at: int, tags: Sequence[str]) -> None:
        """The entry of part `at` depends on these."""

    def load(self, missing: Sequence[int]) -> list[Loaded]: ...

    async def aload(self, missing: Sequence[int]) -> list[Loaded]: ...

    def decode(self, at: int, body: msgspec.Raw) -> Any:
        """The value of part `at`. Raises CorruptEntry."""


# What the generator asks its driver to do. ------------------------------------------------------


@dataclass(slots=True)
class Look:
    entries: Sequence[str]
    tags: Sequence[str]


@dataclass(slots=True)
class Seed:
    tags: Sequence[str]


@dataclass(slots=True)
class Enrol:
    """See to it that writers know of these combinations (see generations.py)."""

    wanted: Mapping[str, frozenset[Combination]]
    seen: Mapping[str, int]


@dataclass(slots=True)
class Prepare:
    plan: Plan


@dataclass(slots=True)
class Load:
    plan: Plan
    missing: Sequence[int]


@dataclass(slots=True)
class Keep:
    entries: Sequence[tuple[str, bytes, float]]


@dataclass(slots=True)
class Wait:
    flight: Flight


Request = Look | Seed | Enrol | Prepare | Load | Keep | Wait
Steps = Generator[Request, Any, list[Any]]


@dataclass(slots=True)
class Flight:
    """A load under way, which others that saw the same generations may share (R7)."""

    incarnation: str | None
    generations: dict[str, int]
    loaded: list[Loaded] | None = None
    error: Exception | None = None
    over: bool = False
    landed: asyncio.Future[None] | None = None
    """Made by the first who waits."""

    def may_serve(self, view: View) -> bool:
        """Whether nothing has changed from when the load began until the reader looked."""
        seen = (view.incarnation, view.generations)
        return (self.incarnation, self.generations) == seen

    def land(self) -> None:
        self.over = True
        if self.landed is not None and not self.landed.done():
            self.landed.set_result(None)


Flights = MutableMapping[tuple[str, ...], Flight]


def answer(plan: Plan, standing: Standing, flights: Flights) -> Steps:
    """The values of the plan's parts, from the store where it may be used, else loaded."""
    started = perf_counter()
    outcome: metrics.Outcome = "bypass"
    reason = standing.refusal
    try:
        if reason is not None:
            return _values((yield Load(plan, range(len(plan.parts)))))
        try:
            view = yield Look([] if plan.fresh else [part.key for part in plan.parts], plan.asked())
            found = {} if plan.fresh else (yield from _judge(plan, view))
        except StoreUnavailable:
            reason = "unavailable"
            return _values((yield Load(plan, range(len(plan.parts)))))
        missing = [at for at in range(len(plan.parts)) if at not in found]
        if not missing:
            outcome = "hit"
        else:
            outcome = "miss"
            loaded = yield from _fill(plan, missing, view, standing, flights)
            reason = next((one.refusal for one in loaded if one.refusal), None)
            found |= {at: one.value for at, one in zip(missing, loaded, strict=True)}
        return [found[at] for at in range(len(plan.parts))]
    finally:
        seconds = perf_counter() - started
        metrics.emit(metrics.Read(plan.label, plan.operation, outcome, reason, seconds))


def _values(loaded: Sequence[Loaded]) -> list[Any]:
    return [one.value for one in loaded]


def _judge(plan: Plan, view: View) -> Generator[Request, Any, dict[int, Any]]:
    """The parts whose entry is valid, decoded (R3). Counters that an entry names beyond those
    asked for cost a second look, once per kind of question."""
    entries = {
        at: entry
        for at, data in enumerate(view.entries)
        if (entry := _entry(data)) is not None and _may_be_valid(entry, plan.parts[at], view)
    }
    beyond = {tag for entry in entries.values() for tag in entry.generations} - set(plan.asked())
    if beyond:
        view.add((yield Look([], sorted(beyond))))
        for at, entry in entries.items():
            plan.learn(at, list(entry.generations))
    found = {}
    for at, entry in entries.items():
        if view.incarnation is not None and entry.generations.items() <= view.generations.items():
            try:
                found[at] = plan.decode(at, entry.body)
            except CorruptEntry:
                continue
            _pass_on(entry.generations)
    return found


def _pass_on(names: Iterable[str]) -> None:
    """A cached read inside a load runs no statement: tell the load what it depends on (R6)."""
    recorder = watch.recorder()
    if recorder is not None:
        recorder.tags.update(*(tags.widened(name) for name in names))


def _entry(data: bytes | None) -> Entry | None:
    if data is None:
        return None
    try:
        entry = _decode_entry(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return entry if all(map(tags.is_tag, entry.generations)) else None


def _may_be_valid(entry: Entry, part: Part, view: View) -> bool:
    made_under = entry.generations
    return (
        entry.incarnation == view.incarnation
        and all(tag in made_under for tag in part.required)
        and all(made_under.get(tag, now) == now for tag, now in view.generations.items())
    )


def _fill(
    plan: Plan, missing: list[int], view: View, standing: Standing, flights: Flights
) -> Generator[Request, Any, list[Loaded]]:
    """Load what is missing, under counters read before the load, and store it (R4)."""
    if not plan.prepared():
        yield Prepare(plan)
    absent = [tag for tag in plan.asked() if tag not in view.generations]
    try:
        if absent:
            view.add((yield Seed(absent)))
    except StoreUnavailable:
        view.incarnation = None
    may_store = view.incarnation is not None and not generations.being_written(view.generations)
    if not may_store or standing.alone:
        loaded: list[Loaded] = yield Load(plan, missing)
        if may_store:
            yield from _keep(plan, missing, loaded, view)
        return loaded
    return (yield from _share(plan, missing, view, flights))


def _share(
    plan: Plan, missing: list[int], view: View, flights: Flights
) -> Generator[Request, Any, list[Loaded]]:
    key = tuple(plan.parts[at].key for at in missing)
    # fresh() joins no load that may have begun before it was asked.
    while not plan.fresh and (flight := flights.get(key)) is not None and flight.may_serve(view):
        yield Wait(flight)
        if flight.error is not None:
            raise flight.error
        if flight.loaded is None:
            continue  # the leader was cancelled: the first who comes here takes over
        shared = _copies(plan, missing, flight.loaded, view)
        if shared is not None:
            return shared
        break  # its answer cannot be shared: this one is loaded alone
    flight = flights[key] = Flight(view.incarnation, dict(view.generations))
    try:
        loaded: list[Loaded] = yield Load(plan, missing)
        flight.loaded = loaded
        flight.land()
        yield from _keep(plan, missing, loaded, view)
        return loaded
    except Exception as error:
        flight.error = error
        raise
    finally:
        if flights.get(key) is flight:
            del flights[key]
        flight.land()


def _copies(
    plan: Plan, missing: list[int], loaded: list[Loaded], view: View
) -> list[Loaded] | None:
    """Answers of another reader's load as fresh objects; None if they cannot be had, or depend on
    more than is known to be unchanged."""
    copies = []
    for at, one in zip(missing, loaded, strict=True):
        if one.body is None or not all(_covers(view, tag) for tag in one.tags):
            return None
        try:
            copies.append(Loaded(plan.decode(at, msgspec.Raw(one.body))))
        except CorruptEntry:
            return None
        _pass_on(one.tags)
    return copies


def _covers(view: View, tag: str) -> bool:
    """Whether `view` would show that what the tag stands for has changed."""
    return tag in view.generations or all(one in view.generations for one in tags.widened(tag))


def _keep(
    plan: Plan, missing: list[int], loaded: list[Loaded], view: View
) -> Generator[Request, Any, None]:
    """Store what was loaded, under generations read before the load; those of tags that only the
    load has shown may be read after it if a guard says that nothing changed meanwhile (R6)."""
    kept = {at: one for at, one in zip(missing, loaded, strict=True) if one.body is not None}
    try:
        made_under = yield from _made_under(plan, kept, view)
        entries = [
            (plan.parts[at].key, _entry_of(one, made_under), _ttl(plan.parts[at], one.missing))
            for at, one in kept.items()
            if one.refusal is None
        ]
        if entries:
            yield Keep(entries)
    except StoreUnavailable:
        loaded[0].refusal = "unavailable"


def _entry_of(one: Loaded, made_under: View) -> bytes:
    assert one.body is not None
    generations = {tag: made_under.generations[tag] for tag in one.tags}
    return _encoder.encode(Entry(str(made_under.incarnation), generations, msgspec.Raw(one.body)))


def _made_under(
    plan: Plan, kept: Mapping[int, Loaded], view: View
) -> Generator[Request, Any, View]:
    """The generations to store under. Answers that may not be stored get a refusal."""
    listed = yield from _enrol(kept, view)
    tags_of_all = {tag for one in kept.values() for tag in one.tags}
    beyond = {tag for tag in tags_of_all if tag not in view.generations}
    beyond |= {tag for tag, generation in listed.items() if view.generations.get(tag) != generation}
    if not beyond:
        return view
    for at, one in kept.items():
        plan.learn(at, one.tags)
        if not all(_covers(view, tag) for tag in one.tags):
            one.refusal = "dependencies seen for the first time"
    guards = {guard for tag in beyond for guard in tags.widened(tag)} & view.generations.keys()
    later: View = yield Seed(sorted(beyond | guards))
    if later.incarnation != view.incarnation or generations.being_written(later.generations):
        moved = set(guards)
    else:
        now = later.generations
        moved = {guard for guard in guards if now[guard] != view.generations[guard]}
        moved |= {tag for tag in listed.keys() & now.keys() if now[tag] != listed[tag]}
    for one in kept.values():
        late = beyond.intersection(one.tags)
        if any(not moved.isdisjoint((tag, *tags.widened(tag))) for tag in late):
            one.refusal = one.refusal or "written to while it was loaded"
    generations_ = later.generations | view.generations | listed
    return View(view.incarnation, [], generations_)


def _enrol(kept: Mapping[int, Loaded], view: View) -> Generator[Request, Any, dict[str, int]]:
    """The generations of the lists that hold the combinations of these answers; an answer with a
    combination that is in no list depends on the whole table."""
    wanted: dict[str, frozenset[Combination]] = {}
    for one in kept.values():
        for table, combinations in one.combinations.items():
            wanted[table] = wanted.get(table, frozenset()) | combinations
    if not wanted:
        return {}
    known: dict[str, Known] = yield Enrol(wanted, view.generations)
    for one in kept.values():
        for table, combinations in list(one.combinations.items()):
            if not combinations <= known[table].combinations:
                one.widen(table)
    in_use = {table for one in kept.values() for table in one.combinations}
    return {
        tags.of_combinations(table): life
        for table in in_use
        if (life := known[table].life) is not None
    }


def _ttl(part: Part, missing: bool) -> float:
    """Seconds. Spread so that entries made together do not end together; never lengthened."""
    ttl = min(part.ttl, part.missing_ttl) if missing else part.ttl
    settings = config.current()
    if settings is None:
        return ttl
    ttl *= 1 - settings.ttl_jitter * random.random()
    return ttl if settings.ttl_cap is None else min(ttl, settings.ttl_cap)


# The two drivers. -------------------------------------------------------------------------------


def drive(plan: Plan, *, instead: str) -> list[Any]:
    """Carry the plan out in the caller's thread, on its own connection.

    In a running event loop SynchronousOnlyOperation says what to write `instead`.
    """
    _refuse_event_loop(instead)
    resolver = generations.resolver()
    steps = answer(plan, permission.standing(plan, resolver, on_loop=False), {})
    reply: Any = None
    error: BaseException | None = None
    try:
        while True:
            request = steps.throw(error) if error is not None else steps.send(reply)
            reply, error = None, None
            try:
                reply = _do(request, resolver)
            except Exception as raised:  # noqa: BLE001  it is the generator's to judge
                error = raised
    except StopIteration as stop:
        values: list[Any] = stop.value
        return values
    finally:
        steps.close()


def _refuse_event_loop(instead: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    if not os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE"):
        raise SynchronousOnlyOperation(
            f"You cannot read through a repository synchronously in an async context: {instead}."
        )


def _do(request: Request, resolver: GenerationalDependencyResolver | None) -> Any:
    match request:
        case Load(plan, missing):
            return plan.load(missing)
        case Prepare(plan):
            return plan.prepare()
    assert resolver is not None
    with _telling(resolver.breaker):
        return _ask_sync(request, resolver)


def _ask_sync(request: Request, resolver: GenerationalDependencyResolver) -> Any:
    match request:
        case Look(entries, tags):
            return resolver.look_sync(entries, tags)
        case Seed(tags):
            return resolver.current_sync(tags)
        case Enrol(wanted, seen):
            return resolver.enrol_sync(wanted, seen)
        case Keep(entries):
            return resolver.keep_sync(entries)
    raise AssertionError(request)


class _telling:  # noqa: N801  a `with` block; a class since it is on the path of every hit
    """Tell the breaker how the block went."""

    __slots__ = ("_breaker",)

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if error is None:
            self._breaker.succeeded()
        elif isinstance(error, StoreUnavailable):
            self._breaker.failed(error)


_flights: WeakKeyDictionary[AbstractEventLoop, dict[tuple[str, ...], Flight]] = WeakKeyDictionary()


async def adrive(plan: Plan) -> list[Any]:
    """Carry the plan out on the running event loop; a hit enters no thread."""
    resolver = generations.resolver()
    flights = _flights.setdefault(asyncio.get_running_loop(), {})
    steps = answer(plan, permission.standing(plan, resolver, on_loop=True), flights)
    reply: Any = None
    error: BaseException | None = None
    try:
        while True:
            request = steps.throw(error) if error is not None else steps.send(reply)
            reply, error = None, None
            try:
                reply = await _ado(request, resolver)
            except Exception as raised:  # noqa: BLE001  it is the generator's to judge
                error = raised
    except StopIteration as stop:
        values: list[Any] = stop.value
        return values
    finally:
        steps.close()  # on cancellation the generator's own `finally` runs here


async def _ado(request: Request, resolver: GenerationalDependencyResolver | None) -> Any:
    match request:
        case Load(plan, missing):
            return await plan.aload(missing)
        case Prepare(plan):
            return await sync_to_async(plan.prepare, thread_sensitive=True)()
        case Wait(flight):
            return await _landing(flight)
    assert resolver is not None
    with _telling(resolver.breaker):
        return await _ask(request, resolver)


def _ask(request: Request, resolver: GenerationalDependencyResolver) -> Awaitable[Any]:
    match request:
        case Look(entries, tags):
            return resolver.look(entries, tags)
        case Seed(tags):
            return resolver.current(tags)
        case Enrol(wanted, seen):
            return resolver.enrol(wanted, seen)
        case Keep(entries):
            return resolver.keep(entries)
    raise AssertionError(request)


async def _landing(flight: Flight) -> None:
    if not flight.over:
        if flight.landed is None:
            flight.landed = asyncio.get_running_loop().create_future()
        # Shielded: a waiter that is cancelled must not cancel the others' future.
        await asyncio.shield(flight.landed)
