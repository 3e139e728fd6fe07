"""@cached_query: the answer of a repository's own method, cached by its arguments."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Sequence
from functools import cached_property, update_wrapper
from typing import TYPE_CHECKING, Any, TypeVar, overload

import msgspec
from django.db import models, router

from loom_cache import (
    config,
    dependencies,
    hints,
    keys,
    labels,
    permission,
    questions,
    recording,
    tables,
    tags,
    undeclared,
)
from loom_cache.codec import TypedCodec, typed_codec
from loom_cache.drivers import adrive, drive
from loom_cache.exceptions import ConfigurationError, UnsupportedValue
from loom_cache.refusals import seen_refusal
from loom_cache.steps import Loaded, Part

if TYPE_CHECKING:
    from loom_cache.repository import CachedRepository

Method = TypeVar("Method", bound=Callable[..., Any])


@overload
def cached_query(method: Method, /) -> Method: ...
@overload
def cached_query(
    *,
    ttl: float | None = None,
    depends_on: Sequence[type[models.Model] | str] = (),
    missing_ttl: float | None = None,
) -> Callable[[Method], Method]: ...


def cached_query(
    method: Any = None,
    /,
    *,
    ttl: float | None = None,
    depends_on: Sequence[type[models.Model] | str] | type[models.Model] | str = (),
    missing_ttl: float | None = None,
) -> Any:
    """Cache what a method of a repository returns (`async def` or `def`).

    The arguments become the key: each needs a canonical form, or the call raises TypeError
    naming it. The return annotation decides what a hit decodes to; a result that does not fit it
    is a TypeError, too. `ttl` and `missing_ttl` (for None) are seconds. `depends_on` names models
    beforehand, and those that cannot be seen (behind a database view, say); other tables are
    found by watching the queries, so that without it the second call is the first to be stored.
    """

    named = (depends_on,) if isinstance(depends_on, str | type) else tuple(depends_on)

    def decorate(method: Callable[..., Any]) -> Any:
        call = CachedCall(method, ttl=ttl, depends_on=named, missing_ttl=missing_ttl)
        return call.wrapper()

    return decorate if method is None else decorate(method)


class CachedCall:
    """One decorated method: what is worked out once."""

    def __init__(
        self,
        method: Callable[..., Any],
        *,
        ttl: float | None,
        depends_on: tuple[type[models.Model] | str, ...],
        missing_ttl: float | None,
    ) -> None:
        if not callable(method):
            raise ConfigurationError(
                f"@cached_query({method!r}) decorates no method; options have names, such as "
                f"@cached_query(ttl=30)."
            )
        self.method = method
        self.ttl = ttl
        self.missing_ttl = missing_ttl
        if inspect.isgeneratorfunction(method) or inspect.isasyncgenfunction(method):
            raise ConfigurationError(
                f"{method.__qualname__} is a generator, which cannot be cached; return a list."
            )
        self.is_async = inspect.iscoroutinefunction(method)
        self.name = method.__qualname__
        self.depends_on = depends_on
        self._signature = inspect.signature(method)
        _check(self)

    def wrapper(self) -> Callable[..., Any]:
        if self.is_async:

            async def awrapper(repository: CachedRepository[Any], *args: Any, **kwargs: Any) -> Any:
                return (await adrive(CallPlan(self, repository, args, kwargs)))[0]

            made: Callable[..., Any] = awrapper
        else:
            instead = f"declare {self.name} `async def`, or call it through sync_to_async"

            def wrapper(repository: CachedRepository[Any], *args: Any, **kwargs: Any) -> Any:
                return drive(CallPlan(self, repository, args, kwargs), instead=instead)[0]

            made = wrapper
        update_wrapper(made, self.method)
        made.cached_call = self  # type: ignore[attr-defined]
        return made

    @cached_property
    def codec(self) -> TypedCodec:
        """By the return annotation. Raises UnsupportedValue, which says what is wrong with it."""
        try:
            hints = inspect.get_annotations(self.method, eval_str=True)
        except (NameError, AttributeError, SyntaxError, TypeError) as error:
            raise UnsupportedValue(
                f"The return annotation of {self.name} cannot be resolved ({error}); import what "
                f"it names at run time, outside `if TYPE_CHECKING:`."
            ) from error
        if "return" not in hints:
            raise UnsupportedValue(
                f"{self.name} has no return annotation; say what it returns, such as "
                f"`-> list[int]`, so that a hit can be decoded to it."
            )
        annotation = hints["return"]
        if isinstance(annotation, str):  # in quotes, in a module whose annotations are text
            annotation = typing.get_type_hints(self.method)["return"]
        return typed_codec(annotation)

    @cached_property
    def declared(self) -> tuple[str, ...]:
        named = labels.models_of(self.depends_on)
        return tags.of_whole({tables.name_of(model) for model in named})

    def spelled(self, repository: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """The arguments as a key: the same for positional and keyword spelling."""
        try:
            bound = self._signature.bind(repository, *args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}(): {error}") from None
        bound.apply_defaults()
        given = list(bound.arguments.items())[1:]
        parts = [keys.canonical(self.name)]
        for name, value in given:
            try:
                parts += [keys.canonical(name), keys.canonical(value)]
            except UnsupportedValue as error:
                raise UnsupportedValue(
                    f"The argument {name!r} of {self.name} cannot be part of a cache key. {error}"
                ) from error
        return b"".join(parts)


def _check(call: CachedCall) -> None:
    from loom_cache.repository import check_seconds

    check_seconds(f"@cached_query(ttl=) of {call.name}", call.ttl)
    check_seconds(f"@cached_query(missing_ttl=) of {call.name}", call.missing_ttl)


class CallPlan:
    """One call; see steps.Plan."""

    fresh = False

    def __init__(
        self,
        call: CachedCall,
        repository: CachedRepository[Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        if not hasattr(repository, "identity"):
            raise ConfigurationError(
                f"@cached_query is for methods of a CachedRepository, called on an instance; "
                f"{call.name} was called with {type(repository).__name__}."
            )
        self._call, self._repository = call, repository
        # Out of reach of later changes: the key is made now, the method may run later.
        self._args = tuple(map(keys.freeze, args))
        self._kwargs = {name: keys.freeze(value) for name, value in kwargs.items()}
        self.codec = call.codec
        self.label = repository.model._meta.label
        self.operation = call.method.__name__
        alias = repository.database()
        self._alias = alias
        identity = repository._query().identity()
        owner = type(repository)
        name = keys.canonical((owner.__module__, owner.__qualname__, repr(self.codec.annotation)))
        spelled = call.spelled(repository, self._args, self._kwargs)
        self.shape = hints.shape_of(
            keys.canonical((owner.__module__, owner.__qualname__, call.name))
        )
        settings = config.current() or config.CacheConfig()
        self.parts: Sequence[Part] = (
            Part(
                key=repository.key(keys.digest(b"call" + identity + name + spelled)),
                required=tuple(dict.fromkeys((*call.declared, *repository.declared())))
                or (tags.OF_NOTHING,),
                ttl=call.ttl or repository.seconds(None, many=True),
                missing_ttl=call.missing_ttl or settings.missing_ttl,
            ),
        )

    def refusal(self) -> str | None:
        if self.shape.refusal is None and self._alias != router.db_for_write(
            self._repository.model
        ):
            return "replica"
        return self.shape.refusal

    def asked(self) -> tuple[str, ...]:
        # The repository's own table is asked for beforehand, since most methods read it; an
        # answer depends on it only if the method did.
        own = tags.of_whole([tables.name_of(self._repository.model)])
        part = self.parts[0]
        wanted = (*part.required, *own, *self.shape.hints, *hints.of_keys.of(part.key))
        return tuple(dict.fromkeys(wanted))

    def learn(self, at: int, names: Sequence[str]) -> None:
        hints.learn(self.shape, self.parts[at], names)

    def prepared(self) -> bool:
        return True  # what it touches shows only when it runs (R6)

    def prepare(self) -> None: ...

    def load(self, missing: Sequence[int]) -> list[Loaded]:
        with recording.recorded() as seen:
            result = self._call.method(self._repository, *self._args, **self._kwargs)
        return [self._loaded(result, seen)]

    async def aload(self, missing: Sequence[int]) -> list[Loaded]:
        with recording.recorded() as seen:
            result = await self._call.method(self._repository, *self._args, **self._kwargs)
        return [self._loaded(result, seen)]

    def _loaded(self, result: Any, seen: recording.Recorder) -> Loaded:
        undeclared.check(self._call.name, self._declared_tables(), seen)
        try:
            body = self.codec.encode(result)
        except UnsupportedValue as error:
            raise UnsupportedValue(f"{self._call.name} cannot be cached. {error}") from error
        # What a hit would give, so that a miss gives the same.
        value = self.codec.decode(body)
        loaded = Loaded(value, missing=value is None)
        loaded.refusal = self._not_stored(seen, len(body))
        if loaded.refusal is None:
            found = dependencies.of_load(seen, None)
            names = (*self.parts[0].required, *found.tags(), *seen.tags)
            loaded.tags = tuple(dict.fromkeys(names))
            loaded.combinations = found.combinations()
            loaded.body = body
        return loaded

    def _declared_tables(self) -> set[str]:
        declared = labels.models_of((*self._call.depends_on, *self._repository.depends_on))
        own = self._repository.model
        models_named = (own, *own._meta.all_parents, *declared)
        return {tables.name_of(model) for model in models_named}

    def _not_stored(self, seen: recording.Recorder, size: int) -> str | None:
        settings = config.current() or config.CacheConfig()
        if size > settings.max_value_bytes:
            return "larger than MAX_VALUE_BYTES"
        if self.shape.refusal is None:
            self.shape.refusal = seen_refusal(seen)
        if seen.private:
            return self.shape.refusal or "transaction"
        return self.shape.refusal or permission.refused_here(on_loop=self._call.is_async)

    def decode(self, at: int, body: msgspec.Raw) -> Any:
        return self.codec.decode(body)

    def question(self, at: int) -> msgspec.Raw:
        return questions.of_call(self._repository, self.operation, self._args, self._kwargs)
