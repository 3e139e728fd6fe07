"""Who carries a read out: in the caller's thread, or on its event loop. Nothing is decided here."""

from __future__ import annotations

import asyncio
import os
from asyncio import AbstractEventLoop
from collections.abc import Awaitable
from typing import Any
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async
from django.core.exceptions import SynchronousOnlyOperation

from loom_cache import generations, permission
from loom_cache.backends.failures import Refused
from loom_cache.deadlines import Allowance
from loom_cache.exceptions import StoreUnavailable
from loom_cache.generations import GenerationalDependencyResolver
from loom_cache.reading import answer
from loom_cache.steps import Enrol, Flight, Keep, Load, Look, Plan, Prepare, Request, Seed, Wait


def drive(plan: Plan, *, instead: str) -> list[Any]:
    """Carry the plan out in the caller's thread, on its own connection.

    In a running event loop SynchronousOnlyOperation says what to write `instead`.
    """
    _refuse_event_loop(instead)
    resolver = generations.resolver()
    asking = None if resolver is None else _Asking(resolver)
    steps = answer(plan, permission.standing(plan, resolver, on_loop=False), {})
    reply: Any = None
    error: BaseException | None = None
    try:
        while True:
            request = steps.throw(error) if error is not None else steps.send(reply)
            reply, error = None, None
            try:
                reply = _do(request, asking)
            except Exception as raised:  # noqa: BLE001  it is the generator's to judge
                error = raised
    except StopIteration as stop:
        values: list[Any] = stop.value
        return values
    finally:
        steps.close()
        if asking is not None:
            asking.end()


def _refuse_event_loop(instead: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    if not os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE"):
        raise SynchronousOnlyOperation(
            f"You cannot read through a repository synchronously in an async context: {instead}."
        )


def _do(request: Request, asking: _Asking | None) -> Any:
    match request:
        case Load(plan, missing):
            return plan.load(missing)
        case Prepare(plan):
            return plan.prepare()
    assert asking is not None
    asking.request = request
    with asking:
        return _ask_sync(request, asking.resolver)


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


class _Asking(Allowance):
    """All that one read asks of the store, in TIMEOUT; the breaker is told how it went."""

    __slots__ = ("_answered", "_failed", "_half", "request", "resolver")
    request: Request

    def __init__(self, resolver: GenerationalDependencyResolver) -> None:
        super().__init__(resolver.timeout)
        self.resolver = resolver
        self._half = resolver.timeout / 2
        self._answered = self._failed = False

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        had = self.left
        super().__exit__(kind, error, traceback)
        breaker = self.resolver.breaker
        if error is None:
            self._answered = True
            if isinstance(self.request, Keep):
                breaker.kept()
        elif isinstance(error, Refused) and not isinstance(self.request, Look):
            breaker.refused(error)
        elif isinstance(error, StoreUnavailable) and (self.left > 0 or had > self._half):
            # Otherwise its earlier answers had taken up the time: it is slow, but it is there.
            self._failed = True
            breaker.failed(error)

    def end(self) -> None:
        """A store that answers the first request only has not answered."""
        if self._answered and not self._failed:
            self.resolver.breaker.succeeded()


_flights: WeakKeyDictionary[AbstractEventLoop, dict[tuple[str, ...], Flight]] = WeakKeyDictionary()


async def adrive(plan: Plan) -> list[Any]:
    """Carry the plan out on the running event loop; a hit enters no thread."""
    resolver = generations.resolver()
    asking = None if resolver is None else _Asking(resolver)
    flights = _flights.setdefault(asyncio.get_running_loop(), {})
    steps = answer(plan, permission.standing(plan, resolver, on_loop=True), flights)
    reply: Any = None
    error: BaseException | None = None
    try:
        while True:
            request = steps.throw(error) if error is not None else steps.send(reply)
            reply, error = None, None
            try:
                reply = await _ado(request, asking)
            except Exception as raised:  # noqa: BLE001  it is the generator's to judge
                error = raised
    except StopIteration as stop:
        values: list[Any] = stop.value
        return values
    finally:
        steps.close()  # on cancellation the generator's own `finally` runs here
        if asking is not None:
            asking.end()


async def _ado(request: Request, asking: _Asking | None) -> Any:
    match request:
        case Load(plan, missing):
            return await plan.aload(missing)
        case Prepare(plan):
            return await sync_to_async(plan.prepare, thread_sensitive=True)()
        case Wait(flight):
            return await _landing(flight)
    assert asking is not None
    asking.request = request
    with asking:
        return await _ask(request, asking.resolver)


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
