"""What was written: statements and signals become changes, gathered per connection and bumped
as the first thing after COMMIT (W1-W6).

Outside a transaction a change is bumped as its statement returns; on rollback it is forgotten.
Bumping too much is always allowed; too little never.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.db import Error, IntegrityError, connections, models, router
from django.db.models.signals import post_delete, post_save

from loom_cache import (
    config,
    edits,
    generations,
    introspection,
    metrics,
    previous,
    publishing,
    sql,
    tables,
    tags,
    watch,
)
from loom_cache.combinations import Values
from loom_cache.generations import Leaving
from loom_cache.leases import Writer
from loom_cache.pending import Pending
from loom_cache.tags import Change, Changes
from loom_cache.watch import Connection, Executed

_PENDING = "pending"
_UNSETTLED = "unsettled"
_PREVIOUS = "previous"


class _Writes:
    """Listens to every connection (watch.Listener)."""

    def before(self, connection: Connection) -> None:
        settle(connection)
        if (pending := _pending_of(connection)) is not None and pending.writer is not None:
            pending.writer.stay()
        if _is_over(connection):
            _flush(connection)  # the transaction ended where nobody sees it: set_autocommit(True)

    def wants_transaction(
        self, connection: Connection, statement: sql.Statement, params: Any, *, many: bool
    ) -> bool:
        return bool(_columns_asked_for(connection, statement, params, many))

    def executing(
        self, connection: Connection, statement: sql.Statement, params: Any, *, many: bool
    ) -> None:
        _open_strict_tables(connection, statement)
        columns: list[str] = []
        if watch.keeps_what_it_reads(connection):
            columns = _columns_asked_for(connection, statement, params, many)
        if columns:
            watch.state_data(connection)[_PREVIOUS] = _asked_before(
                connection, statement, params or (), columns
            )

    def executed(self, connection: Connection, done: Executed) -> None:
        statement = done.statement
        previous = watch.state_data(connection).pop(_PREVIOUS, None) if statement.writes else None
        if previous is not None and len(previous) != done.rows:
            previous = None  # it found rows that nobody had locked
        if statement.control is not None:
            self._follow_savepoints(connection, statement, failed=done.error is not None)
        if done.error is not None and (
            statement.control == "commit" or not _waits_for_commit(connection)
        ):
            _abandon_if_lost(connection)
        changes = changes_of(
            statement, done.params, many=done.many, vendor=connection.vendor, previous=previous
        )
        if changes and done.error is None:
            changes = _with_triggers(connection, changes)
        if isinstance(done.error, IntegrityError):
            # The database has just told this code of somebody else's committed write (W5).
            bump(_with_neighbours(_told_of(connection, statement, changes)))
        if changes:
            if not watch.in_transaction(connection) and _commits_when_fetched(
                connection, statement
            ):
                watch.state_data(connection)[_UNSETTLED] = changes
            _note(connection, changes)
            if statement.defines and not connection.features.can_rollback_ddl:
                bump(_pending(connection).changes())  # such a database commits before DDL
        if statement.control in ("commit", "rollback"):
            self._raw_end(connection)
        _leave_after_statement(connection)

    def _follow_savepoints(
        self, connection: Connection, statement: sql.Statement, *, failed: bool
    ) -> None:
        pending = _pending(connection)
        if statement.control == "fold":
            pending.fold()
        elif failed:
            return  # what was pending is still there
        elif statement.control == "savepoint":
            pending.savepoint(statement.savepoint)
        elif statement.control == "rollback to":
            pending.roll_back_to(statement.savepoint)
        elif statement.control == "release":
            pending.release(statement.savepoint)
            if _is_over(connection) or watch.is_over_in_driver(connection):
                _flush(connection)  # a savepoint of SQLite was the transaction

    def _raw_end(self, connection: Connection) -> None:
        # COMMIT or ROLLBACK as SQL: Django's own idea of the transaction may differ, so that
        # what is pending is bumped, and kept as long as Django says that it is not over.
        if watch.in_transaction(connection):
            bump(_pending(connection).changes())
        else:
            _flush(connection)

    def committed(self, connection: Connection, *, failed: bool) -> None:
        if failed:  # it may have happened; what is pending stays until rollback or close
            _abandon_if_lost(connection)
            bump(_with_neighbours(_pending(connection).changes()))
            if connection.connection is None or connection.closed_in_transaction:
                _forget(connection)
        else:
            _flush(connection)

    def rolled_back(self, connection: Connection) -> None:
        _forget(connection)

    def reading(self, connection: Connection) -> None:
        changes = watch.state_data(connection).get(_UNSETTLED)
        if changes:  # as settle() does; but there may be more to fetch
            bump(_with_neighbours(changes))


def install() -> None:
    """Start listening. Idempotent."""
    watch.listen(_listener)
    post_save.connect(_settle_after_save, dispatch_uid="loom_cache.settle")


def name_rows_of(model: type[models.Model]) -> None:
    """Connect the signals that name the rows of `model` (W2).

    A listener of post_delete makes QuerySet.delete() select its rows and delete them by primary
    key: precise invalidation for one more query. So only models that are read through a
    repository have one. None listens to m2m_changed: add() would look up what is there before, and
    the statement says all there is to know.
    """
    uid = "loom_cache.rows"
    post_save.connect(_name_row, sender=model, dispatch_uid=uid)
    post_delete.connect(_name_row, sender=model, dispatch_uid=uid)


def _columns_asked_for(
    connection: Connection, statement: sql.Statement, params: Any, many: bool
) -> list[str]:
    """What has to be known of the rows that the statement is about to change, so that the answers
    they are in can be told from others."""
    settings, resolver, target = config.current(), generations.resolver(), statement.target
    if statement.changed is None or target is None or many or resolver is None:
        return []
    if target in tables.strict():
        return []  # whatever depends on it will be unreadable
    if settings is None or not settings.ask_before_writes or not tables.among([target]):
        return []
    given = () if params is None else params
    combinations = resolver.catalogue.of(target).combinations
    if not combinations or not isinstance(given, list | tuple):
        return []
    columns = previous.columns_needed(statement, given, combinations, connection.vendor)
    return columns if introspection.has_columns(connection, target, columns) else []


def _open_strict_tables(connection: Connection, statement: sql.Statement) -> None:
    """Before the first write to each: from now on nobody stores anything of it."""
    resolver = generations.resolver()
    if not tables.strict() or resolver is None or _is_never_committed(connection):
        return
    names = tables.strict().intersection(_tables_of(statement))
    if names:
        pending = _pending(connection)
        pending.writer = pending.writer or Writer(resolver)
        pending.writer.open(names)


def _is_never_committed(connection: Connection) -> bool:
    """Whether it is in a TestCase, which rolls back what nobody but its own connection sees."""
    return watch.testcase_block(connection) is not None and not watch.in_caching_testcase(
        connection
    )


def _leave_after_statement(connection: Connection) -> None:
    """Outside a transaction a statement has been committed when it returns, unless its result has
    still to be fetched."""
    if _waits_for_commit(connection) or _UNSETTLED in watch.state_data(connection):
        return
    leaving = _leave(connection)
    if leaving is not None:
        bump({}, leaving)


def _leave(connection: Connection) -> Leaving | None:
    pending = _pending_of(connection)
    if pending is None or pending.writer is None:
        return None
    writer, pending.writer = pending.writer, None
    return writer.leave()


def _abandon_if_lost(connection: Connection) -> None:
    """What was sent over a connection that has broken may be committed after this process was told
    so: the database does it when it has waited for its locks. Its writer is not let out."""
    pending = _pending_of(connection)
    if pending is not None and pending.writer is not None and watch.is_lost(connection):
        writer, pending.writer = pending.writer, None
        writer.abandon()


def _asked_before(
    connection: Connection, statement: sql.Statement, params: Any, columns: list[str]
) -> list[Values] | None:
    try:
        return previous.values_before(connection, statement, params, columns)
    except Error:
        raise  # the statement would fail as well
    except Exception:  # noqa: BLE001  a wrapper of somebody's forbids queries here, say
        return None


def _with_triggers(connection: Connection, changes: Changes) -> Changes:
    """A trigger may change other rows of its table than the statement does."""
    if connection.vendor not in introspection.VENDORS:
        return changes
    return {
        name: Change(unknown=True) if introspection.has_triggers(connection, name) else change
        for name, change in changes.items()
    }


def changes_of(
    statement: sql.Statement,
    params: Any,
    *,
    many: bool = False,
    vendor: str = "",
    previous: Sequence[Values] | None = None,
) -> Changes:
    """What `statement` may have changed (W3); ignored tables are left out. `previous` is what its
    rows held, if that is known."""
    if not statement.writes:
        return {}
    if statement.reach == "everything":
        return {name: Change(unknown=True) for name in tables.among(tables.watched())}
    changes = _changes_named(statement, params, previous, many=many, vendor=vendor)
    tags.merge(changes, {name: Change(unknown=True) for name in _swept(statement)})
    return changes


def _swept(statement: sql.Statement) -> set[str]:
    """The tables that the database itself changes with it."""
    if not statement.deletes:
        return set()
    # Of an ignored table too: what hangs on it is not ignored.
    named = [statement.target] if statement.target else statement.names
    return tables.among(tables.swept(named, all_keys=statement.cascades))


def _tables_of(statement: sql.Statement) -> set[str]:
    """The tables that changes_of() names, before there is anything to say about their rows."""
    if statement.reach == "everything":
        return tables.among(tables.watched())
    if statement.target is None:
        return tables.touched(statement.names, statement.sources) | _swept(statement)
    return {statement.target} | _swept(statement)


def _changes_named(
    statement: sql.Statement,
    params: Any,
    previous: Sequence[Values] | None,
    *,
    many: bool,
    vendor: str,
) -> Changes:
    target = statement.target
    if target is None:
        found = tables.touched(statement.names, statement.sources)
        return {name: Change(unknown=True) for name in found}
    if target not in tables.watched():
        return {target: Change(unknown=True)}  # a table of no model, which SQL may read
    if not tables.among([target]):
        return {}
    values = list(params) if isinstance(params, list | tuple) and not many else None
    if statement.reach == "insert":
        return {target: edits.inserted(statement, values, target, vendor)}
    if statement.changed is None or (values is None and statement.placeholders):
        return {target: Change(unknown=True)}
    return {target: edits.changed(statement, values or [], target, vendor, previous=previous)}


def _told_of(connection: Connection, statement: sql.Statement, changes: Changes) -> Iterable[str]:
    """The tables whose rows an IntegrityError is about: those the statement writes to (ignored
    ones, too), or those written to earlier if it only had what was deferred checked."""
    if changes:
        return changes
    return [statement.target] if statement.target else _pending(connection).tables()


def _with_neighbours(names: Iterable[str]) -> Changes:
    return {
        name: Change(unknown=True)
        for table in names
        for name in tables.among(tables.neighbours(table))
    }


def _commits_when_fetched(connection: Connection, statement: sql.Statement) -> bool:
    return connection.vendor == "sqlite" and statement.returns


def _note(connection: Connection, changes: Changes) -> None:
    if _waits_for_commit(connection):
        _pending(connection).add(changes)
    else:
        unsettled = _UNSETTLED in watch.state_data(connection)
        bump(changes, None if unsettled else _leave(connection))


def _waits_for_commit(connection: Connection) -> bool:
    """Where caching inside TestCase is switched on nothing is ever committed, and nobody reads what
    its blocks write but code on the same connection."""
    return watch.in_transaction(connection) and not watch.in_caching_testcase(connection)


def _is_over(connection: Connection) -> bool:
    return not (watch.in_transaction(connection) or watch.in_caching_testcase(connection))


def _pending(connection: Connection) -> Pending:
    pending: Pending = watch.state_data(connection).setdefault(_PENDING, Pending())
    return pending


def _pending_of(connection: Connection) -> Pending | None:
    pending: Pending | None = watch.state_data(connection).get(_PENDING)
    return pending


def _forget(connection: Connection) -> None:
    leaving = _leave(connection)
    watch.state_data(connection).pop(_PENDING, None)
    if leaving is not None:
        bump({}, leaving)


def _flush(connection: Connection) -> None:
    leaving = _leave(connection)
    pending = watch.state_data(connection).pop(_PENDING, None)
    if pending is not None:
        bump(pending.changes(), leaving)


def settle(connection: Connection, *, succeeded: bool = False) -> None:
    """Bump again what a statement changed whose result had still to be fetched when it was
    bumped first: SQLite commits it only then (W4). Unless it is known to have succeeded, the fetch
    may have raised an IntegrityError (W5)."""
    changes = watch.state_data(connection).pop(_UNSETTLED, None)
    if changes:
        bump(changes if succeeded else _with_neighbours(changes), _leave(connection))


def bump(changes: Mapping[str, Change], leaving: Leaving | None = None) -> None:
    """Make whatever depends on `changes`, or on the strict tables that a writer leaves, unreadable:
    one round trip, never an error."""
    resolver = generations.resolver()
    if (changes or leaving is not None) and resolver is not None:
        metrics.emit(metrics.Bump(tuple(publishing.publish_sync(changes, resolver, leaving))))


async def abump(changes: Mapping[str, Change]) -> None:
    resolver = generations.resolver()
    if changes and resolver is not None:
        metrics.emit(metrics.Bump(tuple(await publishing.publish(changes, resolver))))


def defer(model: type[models.Model], changes: Changes) -> bool:
    """Leave `changes` to the commit of the transaction that the caller is in on the database
    `model` is written to; False if there is none, or if it may not be the caller's own."""
    alias = router.db_for_write(model)
    for connection in watch.callers_connections():
        if connection.alias == alias and _waits_for_commit(connection):
            _pending(connection).add(changes)
            watch.end_caching(connection)
            # A transaction that is perhaps another task's, and rolls back, must not take it along.
            return watch.is_callers_own(connection)
    return False


def _settle_after_save(using: str, **_kwargs: object) -> None:
    settle(connections[using], succeeded=True)


def _name_row(sender: type[models.Model], instance: models.Model, using: str, **_: object) -> None:
    # Outside a transaction the statement itself was bumped, and needs no second round trip.
    connection = connections[using]
    table = tables.name_of(sender)
    if tables.among([table]) and _waits_for_commit(connection):
        row = tables.as_row(sender._meta.pk, instance.pk)
        # A key of another type is no row's name: the statement has named the whole table.
        _pending(connection).add({table: Change(rows=set() if row is None else {row})})


_listener = _Writes()
