"""CachedRepository: where a model's cached reads are declared."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import tzinfo
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, get_args, get_origin
from uuid import uuid4
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connections, models, router
from django.db.models import QuerySet
from django.db.models.query import ModelIterable
from django.utils import timezone

from loom_cache import config, keys, labels, memo, tables, tags, watch, writes
from loom_cache.api import ReadingAPI
from loom_cache.codec.shapes import shape_of
from loom_cache.exceptions import ConfigurationError
from loom_cache.prefetches import asks, lookups_of
from loom_cache.query import CachedQuery, sql_of

ModelT = TypeVar("ModelT", bound=models.Model)

_PROCESS = uuid4().hex

declared_repositories: list[type[CachedRepository[Any]]] = []
"""Every repository class of this process, for the system checks."""


class CachedRepository(ReadingAPI[ModelT]):
    """Cached reads of one model: a mixin without constructor arguments and without state.

    Declare `queryset` (fixed when the class is made) or `model`; the rest is optional.
    """

    model: Any = None
    queryset: Any = None
    ttl: float | None = None
    """Seconds that single rows are kept; None: by the settings."""
    list_ttl: float | None = None
    """Seconds for everything with more than one row, and for counts and aggregates."""
    depends_on: Sequence[type[models.Model] | str] = ()
    """Models that every answer depends on besides those its queries touch."""
    if TYPE_CHECKING:
        # Declared as an alias to read from (None: router.db_for_read at every read), called as
        # the chain method: __init_subclass__ puts the alias aside.
        using: Any
    version: int | str = 1
    """Change it to abandon all entries made before."""
    static: bool = False
    """The base queryset is the same for everybody, although it is made anew at every read."""

    declared_alias: ClassVar[str | None] = None
    _made_by_code: ClassVar[bool] = False
    _in_context: ClassVar[bool] = False
    _identities: ClassVar[dict[Any, bytes]]
    _fixed: ClassVar[tuple[str | None, Sequence[Any], bool, type[Any]] | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        declared = vars(cls).get("queryset")
        if declared is not None and not isinstance(declared, QuerySet):
            raise ConfigurationError(
                f"{cls.__qualname__}.queryset is a {type(declared).__name__}; give a QuerySet, "
                f"such as Article.objects.all()."
            )
        if cls.model is not None and not _is_model(cls.model):
            raise _names_no_model(cls)
        if isinstance(cls.version, bool) or not isinstance(cls.version, int | str):
            raise ConfigurationError(
                f"{cls.__qualname__}.version is a {type(cls.version).__name__}; it is the number "
                f"or text that abandons older entries when it changes. Call a method otherwise."
            )
        if declared is not None:
            _check_model(cls, declared.model)
            cls.model = declared.model
        elif cls.model is None:
            cls.model = _model_of_bases(cls)
        for name in ("ttl", "list_ttl"):
            check_seconds(f"{cls.__qualname__}.{name}", getattr(cls, name))
        cls._identities, cls._fixed = {}, None
        if not callable(cls.using):
            cls.declared_alias, cls.using = cls.using, ReadingAPI.using
        if cls.model is not None:
            cls._made_by_code = _made_by_code(cls)
            cls._in_context = cls._made_by_code and not cls.static
            declared_repositories.append(cls)
            writes.name_rows_of(cls.model)

    def vary(self) -> Any:
        """What else the answer depends on (a tenant, a language): any value with a canonical
        form. Called at every read."""
        return None

    def get_queryset(self) -> QuerySet[Any]:
        """The QuerySet that every chain starts from."""
        if self.queryset is not None:
            made: QuerySet[Any] = self.queryset.all()
            return made
        found: QuerySet[Any] = self.model._default_manager.all()
        return found

    # What the plans want to know. ---------------------------------------------------------------

    def _query(self) -> CachedQuery[ModelT]:
        if not isinstance(self.model, type):
            raise _names_no_model(type(self))
        return CachedQuery(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {getattr(self.model, '__name__', None)}>"

    def base(self) -> QuerySet[Any]:
        """The QuerySet to replay a chain on."""
        return self.get_queryset()

    def database(self) -> str:
        """The alias to read from: the declared one, the base queryset's, or the router's."""
        return self.declared_alias or self._of_base()[0] or router.db_for_read(self.model)

    def base_prefetches(self) -> Sequence[Any]:
        """What the base queryset prefetches."""
        return self._of_base()[1]

    def _of_base(self) -> tuple[str | None, Sequence[Any], bool, type[Any]]:
        """What is asked of the base queryset: its alias, its prefetches, what it makes of rows;
        worked out once where it is the same for everybody."""
        cls = type(self)
        known = None if cls._in_context else cls._fixed
        if known is None:
            base: Any = self.get_queryset()
            known = (base._db, lookups_of(base), _is_by_row(base), base._iterable_class)
            cls._fixed = known
        return known

    def gives_rows_apart(self) -> bool:
        """Whether each row of the base queryset is an instance that no other row decides about."""
        return self._of_base()[2]

    def iterable(self) -> type[Any]:
        """What makes the rows of the base queryset."""
        return self._of_base()[3]

    def sql_of(self, query: CachedQuery[Any]) -> tuple[Any, ...]:
        """What stands in the key for a chain whose arguments have no canonical form."""
        return sql_of(query.queryset())

    def identity(self, alias: str) -> bytes:
        """What tells this repository's questions, asked here and now, from all others."""
        place = _place(alias)
        known = self._identities.get(place)
        if known is None:
            known = self._identities[place] = keys.canonical(
                (self.model._meta.label, shape_of(self.model).fingerprint, self.version, place)
            ) + (b"" if self._in_context else self._base_spelled(alias))
        return known + self._circumstances(alias)

    def _circumstances(self, alias: str) -> bytes:
        varied = self.vary()
        zone = timezone.get_current_timezone() if settings.USE_TZ else None
        token = watch.testcase_token(alias)
        # State is not wanted in a repository, but where there is some, answers depend on it.
        state = vars(self) or None
        if varied is None and token is None and state is None:
            here = _plainly_here(zone)
        else:
            here = keys.canonical((zone, varied, token, state))
        return here + self._base_spelled(alias) if self._in_context else here

    def _base_spelled(self, alias: str) -> bytes:
        base = self.get_queryset().using(alias)
        try:
            return keys.canonical(sql_of(base))
        except SynchronousOnlyOperation:
            # Compiling it asks the database what it can do: on an event loop another thread must.
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(_spelled_elsewhere, base).result()

    def key(self, digest: str) -> str:
        """The entry's key, relative to the gateway's prefix."""
        in_force = config.current()
        tenant = in_force.namespace_callable if in_force is not None else None
        prefix = f"ns-{_spelled_tenant(tenant())}:" if tenant is not None else ""
        return f"{prefix}e:{self.model._meta.label_lower}:{digest}"

    def declared(self) -> tuple[str, ...]:
        """The tags of `depends_on`."""
        if not self.depends_on:
            return ()
        return tags.of_whole(tables.name_of(model) for model in labels.models_of(self.depends_on))

    def seconds(self, wanted: float | None, *, many: bool) -> float:
        """The TTL of an answer: cache_for, else the class, else the settings."""
        own = wanted or (self.list_ttl if many else self.ttl)
        if own is not None:
            return own
        in_force = config.current() or config.CacheConfig()
        return in_force.ttl_for(self.model._meta.label, many=many)


_zones: memo.Memo[bytes] = memo.Memo()


def _plainly_here(zone: tzinfo | None) -> bytes:
    if zone is not None and type(zone) is not ZoneInfo:  # others may be equal, and named otherwise
        return keys.canonical((zone, None, None, None))
    known = _zones.get(zone)
    if known is None:
        known = keys.canonical((zone, None, None, None))
        _zones.keep(zone, known)
    return known


def _spelled_tenant(name: object) -> str:
    """Nobody is not somebody called "None"."""
    if isinstance(name, str):
        return keys.safe(str(name))
    return "~" + keys.digest(keys.canonical((type(name).__qualname__, str(name))))


def _is_model(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, models.Model)


def _names_no_model(cls: type) -> ConfigurationError:
    name = cls.__qualname__
    return ConfigurationError(
        f"{name} names no model; write `class {name}(CachedRepository[Article])`, or give it "
        f"`model` (a class) or `queryset`."
    )


def _check_model(cls: type, model: type[models.Model]) -> None:
    """That the queryset is one of the model in `CachedRepository[Article]`, if it names one."""
    named = _model_of_bases(cls)
    if named is not None and not issubclass(model, named):
        raise ConfigurationError(
            f"{cls.__qualname__} is a CachedRepository[{named.__name__}], and its queryset is of "
            f"{model.__name__}; name the same model."
        )


def _spelled_elsewhere(base: QuerySet[Any]) -> bytes:
    try:
        return keys.canonical(sql_of(base))
    finally:
        connections.close_all()  # of this thread


def _is_by_row(base: Any) -> bool:
    query = base.query
    windowed = any(one.contains_over_clause for one in query.annotations.values())
    plain = not (query.distinct or query.is_sliced or query.combinator or windowed)
    return plain and issubclass(base._iterable_class, ModelIterable)


def _place(alias: str) -> tuple[str, ...]:
    """Which database an alias means. One in memory is this process's own."""
    database = connections.settings.get(alias) or connections[alias].settings_dict
    name = str(database["NAME"])
    own = f"{_PROCESS}-{os.getpid()}" if "memory" in name and "sqlite" in database["ENGINE"] else ""
    return (alias, name, str(database["HOST"]), str(database["PORT"]), own)


def _model_of_bases(cls: type) -> type[models.Model] | None:
    """The model in `CachedRepository[Article]`."""
    for base in vars(cls).get("__orig_bases__", ()):
        origin = get_origin(base)
        if isinstance(origin, type) and issubclass(origin, ReadingAPI):
            for argument in get_args(base):
                if _is_model(argument):
                    return argument  # type: ignore[no-any-return]
    return None


def _made_by_code(cls: type[CachedRepository[Any]]) -> bool:
    """Whether the base queryset is made by code that may look at who is asking."""
    if cls.get_queryset is not CachedRepository.get_queryset:
        return True
    if cls.queryset is not None:
        return False
    return asks(cls.model._default_manager)


def check_seconds(name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ConfigurationError(
            f"{name} is {value!r}; a TTL is a positive number of seconds, such as 300."
        )
