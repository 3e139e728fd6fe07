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
from loom_cache.exceptions import StoreUnavailable
from loom_cache.generations import GenerationalDependencyResolver
from loom_cache.reading import answer
from loom_cache.resilience import Breaker
from loom_cache.steps import Enrol, Flight, Keep, Load, Look, Plan, Prepare, Request, Seed, Wait


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
