"""Whether two answers of the ORM are the same in everything that can be told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, time
from typing import Any

from django.db import connection
from django.db.models import Model
from django.db.models.query import QuerySet
from django.test.utils import CaptureQueriesContext

from loom_cache.codec import decode_rows, encode_rows


class _Comparison:
    def __init__(self) -> None:
        self.partners: dict[int, Any] = {}
        self.kept: list[Any] = []

    def compare(self, miss: Any, hit: Any, at: str) -> None:
        assert type(miss) is type(hit), f"{at}: {type(miss)} became {type(hit)}"
        if isinstance(miss, Model):
            self.compare_instances(miss, hit, at)
        elif isinstance(miss, QuerySet):
            self.compare_querysets(miss, hit, at)
        elif isinstance(miss, Mapping):
            self.compare_items(list(miss), list(hit), f"{at}.keys")
            self.compare_items(list(miss.values()), list(hit.values()), at)
        elif isinstance(miss, (list, tuple)):
            self.compare_items(miss, hit, at)
        else:
            self.compare_values(miss, hit, at)

    def compare_items(self, miss: Sequence[Any], hit: Sequence[Any], at: str) -> None:
        assert len(miss) == len(hit), at
        for index, (left, right) in enumerate(zip(miss, hit, strict=True)):
            self.compare(left, right, f"{at}[{index}]")

    def compare_values(self, miss: Any, hit: Any, at: str) -> None:
        if miss != miss:  # NaN
            assert repr(miss) == repr(hit), at
            return
        if isinstance(miss, (set, frozenset)):
            assert sorted(map(repr, miss)) == sorted(map(repr, hit)), at
            return
        assert miss == hit, at
        if not isinstance(miss, (int, memoryview)):
            assert repr(miss) == repr(hit), at
        if isinstance(miss, (datetime, time)):
            assert (miss.tzinfo, miss.fold) == (hit.tzinfo, hit.fold), at

    def compare_instances(self, miss: Model, hit: Model, at: str) -> None:
        assert miss is not hit, f"{at}: the very same instance"
        known = self.partners.setdefault(id(miss), hit)
        assert known is hit, f"{at}: one instance became two"
        backwards = self.partners.setdefault(id(hit), miss)
        assert backwards is miss, f"{at}: two instances became one"
        if len(self.kept) != len(self.partners):
            self.kept += (miss, hit)
            self.compare_contents(miss, hit, f"{at}({miss._meta.label})")

    def compare_contents(self, miss: Model, hit: Model, at: str) -> None:
        assert miss.get_deferred_fields() == hit.get_deferred_fields(), at
        assert list(vars(miss)) == list(vars(hit)) or set(vars(miss)) == set(vars(hit)), at
        for name in vars(miss).keys() - {"_state"}:
            self.compare(vars(miss)[name], vars(hit)[name], f"{at}.{name}")
        for name in ("db", "adding", "fetch_mode"):
            assert getattr(miss._state, name, None) == getattr(hit._state, name, None), at
        self.compare(miss._state.fields_cache, hit._state.fields_cache, f"{at}.fields_cache")
        self.compare(_peers(miss), _peers(hit), f"{at}.peers")

    def compare_querysets(self, miss: Any, hit: Any, at: str) -> None:
        assert (miss.model, miss._db, miss._prefetch_done) == (hit.model, hit._db, True), at
        if not miss.query.is_sliced:
            assert str(miss.query) == str(hit.query), at
        self.compare(miss._result_cache, hit._result_cache, at)


def _peers(instance: Model) -> list[Any]:
    return [reference() for reference in getattr(instance._state, "peers", ())]


def assert_same(miss: Sequence[Any], hit: Sequence[Any]) -> None:
    """Types, values, order, state, related and prefetched objects, and which of them are one."""
    _Comparison().compare(miss, hit, "answer")


def through(rows: Sequence[Any]) -> list[Any]:
    """The rows after they were stored and read."""
    with CaptureQueriesContext(connection) as queries:
        read = decode_rows(encode_rows(rows))
    assert not queries.captured_queries
    return read


def check(rows: Any) -> list[Any]:
    """A hit is the same as the miss; gives the hit."""
    miss = list(rows)
    hit = through(miss)
    assert_same(miss, hit)
    return hit
