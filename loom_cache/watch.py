"""What each database connection is doing: statements, savepoints, commits, rollbacks.

Publishes, and knows nobody. A statement is seen through Django's execute_wrappers; the end of a
transaction by wrapping `commit`, `rollback` and `close` of each connection INSTANCE, for Django has
no hook for a failing COMMIT, a rollback or a manual commit (docs/decisions/0002). Nothing else is
ever patched.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Protocol
from uuid import uuid4

from django.db import Error, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from loom_cache import introspection, recording, sql

Connection = BaseDatabaseWrapper


@dataclass(frozen=True, slots=True)
class Executed:
    """A statement that a cursor has run, or tried to."""

    statement: sql.Statement
    params: Any
    many: bool
    error: BaseException | None
    rows: int
    """How many rows it affected, as the driver says; negative where it does not."""


class Listener(Protocol):
    """Who wants to know. Each is called in the thread that uses the connection."""

    def before(self, connection: Connection) -> None:
        """Something is about to happen on the connection: what came before it is complete."""

    def wants_transaction(
        self, connection: Connection, statement: sql.Statement, params: Any, *, many: bool
    ) -> bool:
        """Whether a statement that is about to run outside a transaction should run in one."""

    def executing(
        self, connection: Connection, statement: sql.Statement, params: Any, *, many: bool
    ) -> None:
        """A statement is about to run."""

    def executed(self, connection: Connection, done: Executed) -> None: ...

    def committed(self, connection: Connection, *, failed: bool) -> None:
        """A COMMIT was sent; `failed`: it raised, and may have happened all the same."""

    def rolled_back(self, connection: Connection) -> None: ...

    def reading(self, connection: Connection) -> None:
        """A cached read is about to be answered for code that has used the connection."""


@dataclass(slots=True)
class _State:
    begun: bool = False
    """BEGIN was seen as a statement of its own (SQLite's atomic, or raw SQL)."""
    ended_caching: bool = False
    has_written: bool = False
    """A statement that writes has succeeded in this transaction."""
    transaction: object = None
    """Stands for the one that was begun last."""
    isolation: str | None = None
    """As the database says; asked once."""
    declared_isolation: object = None
    """As the driver was told when it was asked: it may be told otherwise since."""
    data: dict[str, Any] = field(default_factory=dict)
    """What listeners keep about this connection."""


_listeners: list[Listener] = []
_STATE = "_loom_cache_state"

_used: ContextVar[tuple[weakref.ref[Connection], ...]] = ContextVar(
    "loom_cache.connections", default=()
)
"""The connections that this context has used: async code sees other objects in `connections`."""

_entered: ContextVar[tuple[object, ...]] = ContextVar("loom_cache.entered", default=())
"""The transactions that this context, or one that it was copied from, has begun lately."""

installed = False
"""Whether connections are watched; without it nothing may be cached."""

cache_in_testcases: str | None = None
"""Set by loom_cache.testing to a name of its own: reads inside TestCase's own atomic blocks use the
cache."""


def install() -> None:
    """Watch every connection, those that exist already and those to come. Idempotent."""
    global installed
    installed = True
    connection_created.connect(_on_connection_created, dispatch_uid="loom_cache.watch")
    for connection in connections.all(initialized_only=True):
        watch(connection)


def listen(listener: Listener) -> None:
    if listener not in _listeners:
        _listeners.append(listener)


def _on_connection_created(connection: Connection, **_kwargs: object) -> None:
    watch(connection)
    connection.__dict__[_STATE].isolation = None


def watch(connection: Connection) -> None:
    if _see_statement not in connection.execute_wrappers:
        # First, so that it stays when a block that added its own pops the last one.
        connection.execute_wrappers.insert(0, _see_statement)
    if _STATE in connection.__dict__:
        return
    connection.__dict__[_STATE] = _State()
    for name, after in (("commit", _committed), ("rollback", _rolled_back), ("close", _closed)):
        setattr(connection, name, _wrapped(connection, getattr(connection, name), after))
    switching = _switching(connection, connection.set_autocommit)
    connection.set_autocommit = switching  # type: ignore[method-assign]


def _switching(connection: Connection, original: Callable[..., None]) -> Callable[..., None]:
    """set_autocommit: off, a transaction may begin without any statement, and whoever runs inside
    inherits this context; on, SQLite commits what was open."""

    @wraps(original)
    def wrapper(autocommit: bool, *args: Any, **kwargs: Any) -> None:
        if not autocommit:
            _remember(connection)
            _enter(connection)
        _publish("before", connection)
        original(autocommit, *args, **kwargs)
        _publish("before", connection)

    return wrapper


def _wrapped(
    connection: Connection, original: Callable[[], None], after: Callable[..., None]
) -> Callable[[], None]:
    @wraps(original)
    def wrapper() -> None:
        if after is not _closed:
            _publish("before", connection)
        try:
            original()
        except BaseException:
            after(connection, failed=True)
            raise
        after(connection, failed=False)

    return wrapper


def _publish(event: str, connection: Connection, *args: Any, **kwargs: Any) -> None:
    for listener in _listeners:
        getattr(listener, event)(connection, *args, **kwargs)


def _committed(connection: Connection, *, failed: bool) -> None:
    if not failed:
        _end(connection)
    _publish("committed", connection, failed=failed)


def _rolled_back(connection: Connection, *, failed: bool) -> None:
    _end(connection)
    if not failed:
        _publish("rolled_back", connection)


def _closed(connection: Connection, *, failed: bool) -> None:
    # Closing ends every statement whose result had not been fetched. Whether it rolled anything
    # back is not always known (an in-memory SQLite stays open): what is pending is bumped.
    _publish("before", connection)
    _publish("committed", connection, failed=True)
    if connection.connection is None or connection.closed_in_transaction:
        _end(connection)


def _enter(connection: Connection) -> None:
    state: _State = connection.__dict__[_STATE]
    state.transaction = object()
    _entered.set((*_entered.get()[-7:], state.transaction))


def is_callers_own(connection: Connection) -> bool:
    """Whether the transaction on the connection was certainly begun by the caller, or by who
    called it, and not by another task that shares the thread."""
    state: _State = connection.__dict__[_STATE]
    return state.transaction in _entered.get()


def _end(connection: Connection) -> None:
    state = connection.__dict__[_STATE]
    state.begun = state.ended_caching = state.has_written = False


def state_data(connection: Connection) -> dict[str, Any]:
    """A place for what a listener keeps about `connection`."""
    watch(connection)
    data: dict[str, Any] = connection.__dict__[_STATE].data
    return data


def _see_statement(
    execute: Callable[..., Any], text: Any, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    connection: Connection = context["connection"]
    _remember(connection)
    statement = _read(text, connection)
    _publish("before", connection)
    with _transaction_for(connection, statement, params, many):
        return _carry_out(execute, text, params, many, context, statement)


def _transaction_for(
    connection: Connection, statement: sql.Statement, params: Any, many: bool
) -> AbstractContextManager[object]:
    if statement.writes and _may_begin_one(connection, statement):
        wanted = (
            one.wants_transaction(connection, statement, params, many=many) for one in _listeners
        )
        if any(wanted):
            return transaction.atomic(using=connection.alias)
    return nullcontext()


def _may_begin_one(connection: Connection, statement: sql.Statement) -> bool:
    if in_transaction(connection) or not _is_found_by_alias(connection):
        return False
    if connection.vendor == "sqlite":  # whose rows are fetched after the commit, if at all
        return _locks_at_once(connection) and not statement.returns
    return connection.vendor == "postgresql"


def _is_found_by_alias(connection: Connection) -> bool:
    """Not a copy, nor one of another thread, nor that with which Django makes and drops databases,
    whose alias is none of the settings."""
    return any(one is connection for one in connections.all(initialized_only=True))


def _carry_out(
    execute: Callable[..., Any],
    text: Any,
    params: Any,
    many: bool,
    context: dict[str, Any],
    statement: sql.Statement,
) -> Any:
    connection: Connection = context["connection"]
    state: _State = connection.__dict__[_STATE]
    if statement.control == "begin":
        state.begun = True
        _enter(connection)
    if statement.ends_caching and in_transaction(connection):
        state.ended_caching = True
    if statement.sets:
        state.isolation = None
    _record(statement, connection)
    error: BaseException | None = None
    try:
        if statement.writes:
            _publish("executing", connection, statement, params, many=many)
        result = execute(text, params, many, context)
        _record_asked(statement, params, connection)
        state.has_written = state.has_written or (statement.writes and in_transaction(connection))
        return result
    except BaseException as raised:
        error = raised
        raise
    finally:
        if statement.control in ("commit", "rollback") or (
            statement.control == "release" and not in_transaction(connection)
        ):
            _end(connection)
        if statement.defines:
            introspection.forget()
        if statement.control is not None or error is not None:
            _note_what_sql_began(connection)
        rows = getattr(context.get("cursor"), "rowcount", -1) if error is None else -1
        _publish("executed", connection, Executed(statement, params, many, error, rows))


def _note_what_sql_began(connection: Connection) -> None:
    """Where Django has no transaction open, the driver knows whether SQL has: COMMIT AND CHAIN
    begins one, a savepoint of SQLite may be one, and an error may end one."""
    is_open = None
    if connection.autocommit and not connection.in_atomic_block:
        is_open = _open_in_driver(connection)
    if is_open is False:
        _end(connection)
    elif is_open:
        connection.__dict__[_STATE].begun = True


def is_over_in_driver(connection: Connection) -> bool:
    """Whether the driver says that no transaction is open, whatever Django thinks: with autocommit
    off, SQLite commits at the release of the outermost savepoint."""
    return connection.vendor == "sqlite" and _open_in_driver(connection) is False


_IDLE, _BROKEN = 0, 4
"""What PostgreSQL's drivers say of a connection that is in no transaction, and of one that is lost:
its server ends the transaction, and what was sent outside of any it may still do."""


def is_lost(connection: Connection) -> bool:
    """Whether the connection is broken, and nobody here has closed it. Asked after an error."""
    closed = connection.connection is None or connection.closed_in_transaction
    if closed or connection.vendor == "sqlite":
        return False
    if connection.vendor == "postgresql":
        return bool(connection.connection.info.transaction_status == _BROKEN)
    with suppress(Error), connection.wrap_database_errors:
        return not connection.is_usable()
    return True


def _open_in_driver(connection: Connection) -> bool | None:
    """None where the driver does not tell."""
    with suppress(Error), connection.wrap_database_errors:  # it is closed
        if connection.vendor == "sqlite":
            return bool(connection.connection.in_transaction)
        if connection.vendor == "postgresql":
            return connection.connection.info.transaction_status not in (_IDLE, _BROKEN)
    return None


def _read(text: Any, connection: Connection) -> sql.Statement:
    """Text may be str, bytes or one of psycopg's composable objects."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    elif hasattr(text, "as_string"):
        text = text.as_string(connection.connection)
    if not isinstance(text, str):
        return sql.UNREADABLE
    return sql.read(text, vendor=connection.vendor)


def _remember(connection: Connection) -> None:
    used = _used.get()
    if any(reference() is connection for reference in used):
        return
    kept = [
        reference
        for reference in used
        if (other := reference()) is not None
        and (other.alias != connection.alias or other.in_atomic_block or in_transaction(other))
    ]
    _used.set((*kept, weakref.ref(connection)))


def callers_connections() -> list[Connection]:
    """The connections of the code that is asking: those its context used, and its thread's."""
    found = [connection for reference in _used.get() if (connection := reference()) is not None]
    found += [one for one in connections.all(initialized_only=True) if one not in found]
    return found


def tell_of_read(found: Iterable[Connection]) -> None:
    """On SQLite a statement may have been committed, or refused, when its result was fetched, which
    nobody sees: whoever listens hears of it before the caller reads what it has changed."""
    for connection in found:
        if connection.vendor == "sqlite":
            _publish("reading", connection)


def in_transaction(connection: Connection) -> bool:
    """Whether what is written now becomes visible only later, at a commit.

    The blocks of Django's TestCase, which never commit, count only as long as caching inside
    them has not been switched on.
    """
    blocks = connection.atomic_blocks
    if in_caching_testcase(connection):
        return any(not getattr(block, "_from_testcase", False) for block in blocks)
    state: _State | None = connection.__dict__.get(_STATE)
    begun = state is not None and state.begun
    return connection.in_atomic_block or begun or _autocommit_off(connection)


def _autocommit_off(connection: Connection) -> bool:
    # Django's own attribute says False on a connection that has never been opened.
    return connection.connection is not None and not connection.autocommit


def testcase_block(connection: Connection) -> object | None:
    """The innermost atomic block that TestCase opened, if there is one."""
    return next(
        (b for b in reversed(connection.atomic_blocks) if getattr(b, "_from_testcase", False)),
        None,
    )


def in_caching_testcase(connection: Connection) -> bool:
    """Whether reads inside the TestCase that the connection is in use the cache."""
    return cache_in_testcases is not None and testcase_block(connection) is not None


def testcase_token(alias: str) -> str | None:
    """A name for the TestCase whose data this code sees, where caching in it is switched on, and
    for the time since it was: what was written before has bumped nothing."""
    if cache_in_testcases is None:
        return None
    blocks = (testcase_block(one) for one in callers_connections() if one.alias == alias)
    block = next(filter(None, blocks), None)
    if block is None:
        return None
    token: str = block.__dict__.setdefault("_loom_cache_token", uuid4().hex)
    return f"{cache_in_testcases}:{token}"


def in_testcase_of_another_thread() -> bool:
    """Whether the caller is in a TestCase whose data this thread does not see."""
    if cache_in_testcases is None:
        return False
    own = list(connections.all(initialized_only=True))
    return any(testcase_block(one) is not None for one in callers_connections() if one not in own)


def ended_caching(connection: Connection) -> bool:
    """Whether this transaction has written, locked or set something."""
    state: _State | None = connection.__dict__.get(_STATE)
    return state is not None and state.ended_caching


def keeps_what_it_reads(connection: Connection) -> bool:
    """Whether a row that this transaction reads with a lock, or after it has written, stays as it
    is until the transaction writes it."""
    if not in_transaction(connection):
        return False
    if connection.vendor == "sqlite":  # it has the one lock there is, or will not wait for it
        return _locks_at_once(connection) or has_written(connection)
    return connection.vendor == "postgresql" and not connection.needs_rollback


def _locks_at_once(connection: Connection) -> bool:
    """Whether a transaction on SQLite begins by waiting for the lock that writers need."""
    mode = str(getattr(connection, "transaction_mode", None) or "").upper()
    return mode in ("IMMEDIATE", "EXCLUSIVE")


def has_written(connection: Connection) -> bool:
    state: _State | None = connection.__dict__.get(_STATE)
    return state is not None and state.has_written


def end_caching(connection: Connection) -> None:
    """The transaction has changed something that its own reads may see."""
    state: _State = connection.__dict__[_STATE]
    state.ended_caching = True


def has_own_view(connection: Connection, *, may_ask: bool) -> bool:
    """Whether what is read on the connection now is its transaction's own view of the data."""
    return in_transaction(connection) and (
        ended_caching(connection) or not sees_each_commit(connection, may_ask=may_ask)
    )


def sees_each_commit(connection: Connection, *, may_ask: bool) -> bool:
    """Whether each statement in a transaction sees what was committed before it (READ COMMITTED).

    Asked from the database once per connection, since settings do not tell. `may_ask` is false
    where no statement may be run (an event loop's thread): unknown is then taken for no.
    """
    if connection.vendor != "postgresql":
        return False
    state: _State = connection.__dict__[_STATE] if _STATE in connection.__dict__ else _State()
    may_ask = may_ask and _is_found_by_alias(connection)  # and no other thread's
    declared = getattr(connection.connection, "isolation_level", None)
    if state.declared_isolation != declared:
        state.isolation = None
    if state.isolation is None and may_ask and not connection.needs_rollback:
        with connection.cursor() as cursor:
            cursor.execute("SHOW transaction_isolation")
            isolation = cursor.fetchone()[0]
        state = connection.__dict__[_STATE]
        state.isolation, state.declared_isolation = isolation, declared
        return bool(isolation in ("read committed", "read uncommitted"))
    return state.isolation in ("read committed", "read uncommitted")


def _record_asked(statement: sql.Statement, params: Any, connection: Connection) -> None:
    recorder = recording.recorder()
    if recorder is not None:
        given = () if params is None else params
        read = statement.select.uses if statement.select is not None else ()
        recorder.asked.append(
            recording.Asked(
                statement,
                tuple(given) if isinstance(given, list | tuple) else None,
                connection.vendor,
                frozenset(
                    use.table
                    for use in read
                    if use.demands and introspection.has_triggers(connection, use.table)
                ),
            )
        )


def _record(statement: sql.Statement, connection: Connection) -> None:
    recorder = recording.recorder()
    if recorder is not None:
        recorder.note(statement.names, connection.alias)
        recorder.private = recorder.private or has_own_view(connection, may_ask=False)
        recorder.names |= statement.names
        recorder.sources |= statement.sources
        recorder.ended_caching = recorder.ended_caching or statement.ends_caching
        recorder.volatile = recorder.volatile or statement.volatile
