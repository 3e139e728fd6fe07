"""Mistakes that the machine must find: each is planted into loom_cache for the time of one test.

A fault is a context manager; its name is that of the function, its description the docstring. They
meet the product in few places, so that a change of its insides is followed here once:

- what a statement is read as (`_read_as`): as if other SQL had been executed;
- what is bumped (`_not_bumped`): tags on their way to the store;
- what an answer is stored with (`_kept`): the tags that it depends on, and their generations.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from django.db.models import QuerySet

from loom_cache import (
    entries,
    generations,
    pending,
    permission,
    prefetches,
    reading,
    storing,
    tables,
    watch,
    writes,
)
from loom_cache.combinations import Combination, Edit
from loom_cache.generations import GenerationalDependencyResolver, View
from tests.model.world import TWIN


@dataclass(frozen=True)
class Fault:
    name: str
    description: str
    planted: Callable[[], AbstractContextManager[None]]
    shown_by: frozenset[str]
    """Steps of the machine that show it soon; none: any."""


BY_PRIMARY_KEY = r'"\w+"\."(id|code|place_ptr_id)" |"press_profile"\."writer_id" '

FAULTS: list[Fault] = []


def fault(*shown_by: str) -> Callable[[Callable[[], Iterator[None]]], None]:
    """Add the function to FAULTS."""

    def add(function: Callable[[], Iterator[None]]) -> None:
        planted = contextmanager(function)
        steps = frozenset(shown_by)
        FAULTS.append(Fault(function.__name__, str(function.__doc__), planted, steps))

    return add


# Where the faults meet the product. -------------------------------------------------------------


@contextmanager
def _read_as(rewrite: Callable[[str, watch.Connection], str]) -> Iterator[None]:
    """Statements are executed as they are, and taken for what `rewrite` makes of them."""
    read = watch._read

    def reading_it(text: Any, connection: watch.Connection) -> Any:
        return read(rewrite(str(text), connection), connection)

    with patch.object(watch, "_read", reading_it):
        yield


@contextmanager
def _unseen(pattern: str) -> Iterator[None]:
    """Statements that match are taken for a query."""
    found = re.compile(pattern, re.DOTALL)
    with _read_as(lambda text, _: "SELECT 1" if found.match(text) else text):
        yield


@contextmanager
def _not_bumped(lost: Callable[[str], bool]) -> Iterator[None]:
    """The tags of which `lost` is true never reach the store."""
    publish = GenerationalDependencyResolver.publish_sync

    def publishing(
        resolver: GenerationalDependencyResolver, tags: Sequence[str], *more: Any
    ) -> Any:
        return publish(resolver, [tag for tag in tags if not lost(tag)], *more)

    with patch.object(GenerationalDependencyResolver, "publish_sync", publishing):
        yield


@contextmanager
def _kept(change: Callable[[Any, Any, View], None]) -> Iterator[None]:
    """`change(plan, loaded, view)` before an answer is stored under the generations in the view."""
    keep = storing.keep

    def keeping(plan: Any, missing: Any, loaded: Any, view: View) -> Any:
        for one in loaded:
            change(plan, one, view)
        return keep(plan, missing, loaded, view)

    with patch.object(storing, "keep", keeping):
        yield


@contextmanager
def _kept_without(lost: Callable[[Any, Any, str], bool]) -> Iterator[None]:
    """Answers are stored without those tags of which `lost(plan, loaded, tag)` is true."""

    def change(plan: Any, loaded: Any, _view: View) -> None:
        loaded.tags = tuple(tag for tag in loaded.tags if not lost(plan, loaded, tag))

    with _kept(change):
        yield


def _table_of(tag: str) -> str:
    return tag.partition("{")[2].partition("}")[0]


def _own_table(plan: Any) -> str:
    return tables.name_of(plan.query.model) if hasattr(plan, "query") else ""


# What is written. -------------------------------------------------------------------------------


@fault()
def lists_do_not_hear_of_rows() -> Iterator[None]:
    """A row that changed is named, and the lists of its table are not."""
    with _not_bumped(lambda tag: tag.endswith(":list")):
        yield


@fault()
def rows_do_not_hear_of_themselves() -> Iterator[None]:
    """The lists of the table are named, and the row that changed is not."""
    with _not_bumped(lambda tag: ":id:" in tag):
        yield


@fault()
def tables_do_not_hear_of_unknown_rows() -> Iterator[None]:
    """Where rows cannot be named nothing is."""
    with _not_bumped(lambda tag: tag.endswith("}")):
        yield


@fault("update")
def update_by_another_column_is_unseen() -> Iterator[None]:
    """UPDATE is only looked at where it names rows by primary key."""
    with _unseen(rf'UPDATE "\w+" SET .* WHERE (?!{BY_PRIMARY_KEY})'):
        yield


@fault("delete")
def delete_by_another_column_is_unseen() -> Iterator[None]:
    """DELETE is only looked at where it names rows by primary key."""
    with _unseen(rf'DELETE FROM "\w+" WHERE (?!{BY_PRIMARY_KEY})'):
        yield


@fault("upsert")
def upsert_is_an_insert() -> Iterator[None]:
    """The rows that were there already are not thought of."""
    with _read_as(lambda text, _: text.partition(" ON CONFLICT")[0]):
        yield


@fault("run_sql")
def common_table_expression_is_a_query() -> Iterator[None]:
    """Whatever begins with WITH."""
    with _unseen("WITH "):
        yield


@fault("relate")
def table_between_is_unseen() -> Iterator[None]:
    """The table of a many-to-many relation."""
    with _unseen(r'(INSERT|DELETE|UPDATE) .*"?press_post_topics\b'):
        yield


@fault("run_sql")
def raw_sql_is_unseen() -> Iterator[None]:
    """SQL that Django has not written (it quotes every name)."""
    with _unseen(r"(INSERT INTO|DELETE FROM|UPDATE) \w"):
        yield


@fault()
def second_alias_is_unseen() -> Iterator[None]:
    """Only the connection that reads is watched."""
    with _read_as(lambda text, connection: "SELECT 1" if connection.alias == TWIN else text):
        yield


# Transactions. ----------------------------------------------------------------------------------


@fault()
def bumps_come_before_the_commit() -> Iterator[None]:
    """Each statement is published at once, and nothing at the commit."""
    with patch.object(writes, "_waits_for_commit", lambda connection: False):
        yield


@fault("transact")
def release_forgets() -> Iterator[None]:
    """What was done in a savepoint is forgotten when it is released."""
    with patch.object(pending.Pending, "release", pending.Pending.roll_back_to):
        yield


@fault("transact")
def rollback_to_a_savepoint_forgets_what_came_before() -> Iterator[None]:
    """It forgets the outer part of the transaction instead of the inner one."""

    def rolling_back(pending: pending.Pending, name: str | None) -> None:
        pending._layers[0][1].clear()

    with patch.object(pending.Pending, "roll_back_to", rolling_back):
        yield


@fault("begin", "save", "update", "ask_within", "fail")
def own_view_is_shared() -> Iterator[None]:
    """What a transaction sees of its own uncommitted writes is looked up and stored."""
    with patch.object(permission, "refused_by", lambda found, on_loop: None):
        yield


# What is read. ----------------------------------------------------------------------------------


@fault()
def generations_are_not_compared() -> Iterator[None]:
    """An entry is a hit, whatever has been bumped since it was made."""
    judge = reading._judge

    def judging(plan: Any, view: View) -> Any:
        for entry in filter(None, map(entries.read, view.entries)):
            view.generations.update(entry.generations)
        return judge(plan, view)

    with patch.object(reading, "_judge", judging):
        yield


@fault("ask_while_written")
def counters_are_read_after_the_load() -> Iterator[None]:
    """What is committed meanwhile is then taken for loaded (R4)."""

    def change(_plan: Any, _loaded: Any, view: View) -> None:
        resolver = generations.resolver()
        assert resolver is not None
        view.generations.update(resolver.current_sync(tuple(view.generations)).generations)

    with _kept(change):
        yield


@fault()
def prefetched_tables_are_not_depended_on() -> Iterator[None]:
    """An answer depends on the tables of its first statement alone."""

    def prefetched(plan: Any, _loaded: Any, tag: str) -> bool:
        queryset = plan.query.queryset() if hasattr(plan, "query") else None
        if not isinstance(queryset, QuerySet):
            return False
        named = prefetches.compiled(queryset).names
        return _table_of(tag) in prefetches.tables_of(queryset) - named

    with _kept_without(prefetched):
        yield


@fault()
def joined_tables_are_not_depended_on() -> Iterator[None]:
    """An answer depends on the table of its model alone."""
    with _kept_without(lambda plan, _, tag: _table_of(tag) not in (_own_table(plan), "")):
        yield


@fault()
def parents_table_is_not_depended_on() -> Iterator[None]:
    """A multi-table child is a row of its own table alone."""
    with _kept_without(
        lambda plan, _, tag: _own_table(plan) == "press_shop" and _table_of(tag) == "press_place"
    ):
        yield


@fault("create", "write_in_bulk")
def missing_rows_do_not_hear_of_insertions() -> Iterator[None]:
    """An answer that says "there is none" depends on no list."""
    with _kept_without(
        lambda _, loaded, tag: loaded.missing and (tag.endswith(":list") or ":where" in tag)
    ):
        yield


@fault("save", "relate")
def nested_reads_are_not_depended_on() -> Iterator[None]:
    """What is read through a repository inside a @cached_query runs no statement."""
    with patch.object(reading, "_pass_on", lambda names: None):
        yield


@fault()
def rows_that_are_shown_are_not_depended_on() -> Iterator[None]:
    """An answer that is found by values does not name its rows."""
    with _kept_without(lambda _, loaded, tag: ":id:" in tag and bool(loaded.combinations)):
        yield


# Values. ----------------------------------------------------------------------------------------


@contextmanager
def _without(state: str) -> Iterator[None]:
    states = Edit._states_for

    def forgetting(edit: Edit, asked: Combination) -> Any:
        return (one for one in states(edit, asked) if one is not getattr(edit, state))

    with patch.object(Edit, "_states_for", forgetting):
        yield


@fault()
def what_rows_become_is_forgotten() -> Iterator[None]:
    """Answers are found by the values that a written row had alone."""
    with _without("after"):
        yield


@fault()
def what_rows_were_is_forgotten() -> Iterator[None]:
    """Answers are found by the values that a written row gets alone."""
    with _without("before"):
        yield


@fault()
def values_do_not_hear_of_rows() -> Iterator[None]:
    """Tags of values never move."""
    with _not_bumped(lambda tag: ":where:" in tag):
        yield
