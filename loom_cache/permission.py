"""Whether a read may use the cache at all, and whether it must keep to itself (R5)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar, Token
from dataclasses import dataclass
from functools import update_wrapper
from typing import Any, Protocol, TypeVar, cast

from asgiref.sync import iscoroutinefunction

from loom_cache import config, recording, watch
from loom_cache.exceptions import ConfigurationError
from loom_cache.generations import GenerationalDependencyResolver
from loom_cache.watch import Connection

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Standing:
    refusal: str | None = None
    """Why the cache is neither looked up nor filled."""
    alone: bool = False
    """Its load is not shared with other readers."""


_FREE = Standing()
_ALONE = Standing(alone=True)

_bypassing: ContextVar[bool] = ContextVar("loom_cache.bypassing", default=False)


class bypass:  # noqa: N801  used as a statement: `with bypass():`
    """Read the database for everything inside, in this task only; also `async with`, and as a
    decorator of functions, `async def` or `def`."""

    def __init__(self) -> None:
        self._tokens: list[Token[bool]] = []

    def __enter__(self) -> None:
        self._tokens.append(_bypassing.set(True))

    def __exit__(self, *_exception: object) -> None:
        _bypassing.reset(self._tokens.pop())

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(self, *_exception: object) -> None:
        self.__exit__()

    def __call__(self, function: Function) -> Function:
        # Each call has a block of its own: several may run at once.
        if iscoroutinefunction(function):

            async def awrapper(*args: Any, **kwargs: Any) -> Any:
                with bypass():
                    return await function(*args, **kwargs)

            return cast(Function, update_wrapper(awrapper, function))

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with bypass():
                return function(*args, **kwargs)

        return cast(Function, update_wrapper(wrapper, function))


class Asking(Protocol):
    """The part of a plan that matters here."""

    def refusal(self) -> str | None:
        """Why this question is never cached, as far as is known."""


def standing(
    plan: Asking, resolver: GenerationalDependencyResolver | None, *, on_loop: bool
) -> Standing:
    """How this code may read. `on_loop`: it runs on an event loop, where nothing may be asked
    from the database."""
    if not watch.installed:
        raise ConfigurationError(
            'loom_cache does not see what is written: add "loom_cache" to INSTALLED_APPS.'
        )
    settings = config.current()
    if resolver is None or settings is None:
        return Standing("misconfigured")
    if not settings.enabled:
        return Standing("disabled")
    if _bypassing.get():
        return Standing("bypass()")
    if not resolver.breaker.closed:
        return Standing("unavailable")
    refusal = plan.refusal()
    if refusal is not None:
        return Standing(refusal)
    found = watch.callers_connections()
    refusal = refused_by(found, on_loop=on_loop)
    if refusal is not None:
        return Standing(refusal)
    watch.tell_of_read(found)
    inside = recording.recorder() is not None or any(map(watch.in_transaction, found))
    return _ALONE if inside else _FREE


def refused_by(found: Iterable[Connection], *, on_loop: bool) -> str | None:
    """Why code that uses these connections must read the database itself (R5)."""
    for connection in found:
        if watch.testcase_block(connection) is not None and not watch.cache_in_testcases:
            return "test case"
        if watch.has_own_view(connection, may_ask=not on_loop):
            return "transaction"
    return None


def refused_here(*, on_loop: bool = False) -> str | None:
    """The same, asked by a load once it is done: what was read may be another transaction's view,
    whatever was known of it before."""
    if not on_loop and watch.in_testcase_of_another_thread():
        return "test case"
    return refused_by(watch.callers_connections(), on_loop=on_loop)
