"""What may become of an entry: a miss, or an answer that the plan could have given."""

from __future__ import annotations

import inspect
import resource
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from django.apps import apps
from django.db.models import Model, QuerySet
from django.db.models.base import ModelState

from loom_cache import entries
from loom_cache.generations import View
from loom_cache.reading import _judge
from loom_cache.steps import Look
from tests.fuzz.corpus import Case

MOST_SECONDS = 1.0
"""Of the processor, for one input."""
HANGS_AFTER = 30
"""Seconds by the clock."""
MOST_MEMORY = 100_000
"""Kilobytes that one input may add to the most this process ever had."""
STATE = {"db", "adding", "fields_cache", "fetch_mode", "peers"}


class Hang(BaseException):
    """One input takes too long."""


@contextmanager
def watched() -> Iterator[None]:
    """Fails if the block takes too long, or much memory."""

    def bark(number: int, frame: FrameType | None) -> None:
        raise Hang

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    previous = signal.signal(signal.SIGALRM, bark)
    signal.alarm(HANGS_AFTER)
    started = time.process_time()
    try:
        yield
    finally:
        taken = time.process_time() - started
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most
    assert taken < MOST_SECONDS, f"It took {taken:.1f} s."
    assert grown < MOST_MEMORY, f"It took {grown // 1000} MB."


def judged(case: Case, body: bytes) -> str:
    """ "miss" or "answer", as a reader would be given it. Anything else is an error."""
    data = entries.write(case.entry.incarnation, case.entry.generations, body)
    return judged_entry(case, data)


def judged_entry(case: Case, data: bytes) -> str:
    with watched():
        found = _found(case, data)
    if case.at not in found:
        return "miss"
    check(case, found[case.at])
    return "answer"


def _found(case: Case, data: bytes) -> dict[int, Any]:
    steps = _judge(case.plan, case.view(data))
    try:
        request = next(steps)
        while True:
            # Whoever forges entries forges counters, too: those that were not asked for fit.
            assert isinstance(request, Look)
            forged = entries.read(data)
            now = forged.generations if forged is not None else {}
            request = steps.send(View(case.entry.incarnation, [], dict(now)))
    except StopIteration as stop:
        found: dict[int, Any] = stop.value
        return found


def check(case: Case, value: Any) -> None:
    """The answer is of the kind that the genuine one is, and no instance does anything else."""
    assert _is_alike(case, value), f"{value!r} in place of {case.answer!r}"
    for instance in instances_in(value):
        check_instance(instance)


def _is_alike(case: Case, value: Any) -> bool:
    genuine = case.answer
    if value is None:
        return case.name == "method first"  # `Author | None`
    if isinstance(value, list):
        instances = [one for one in value if isinstance(one, Model)]
        if not isinstance(genuine, list) or not instances:
            return isinstance(genuine, list)
        asked = apps.get_model(case.plan.label)
        of_instances = not genuine or isinstance(genuine[0], Model)
        return of_instances and all(isinstance(one, asked) for one in value)
    return type(genuine) is type(value)


def check_instance(instance: Model) -> None:
    model = type(instance)
    fields = {one.attname for one in model._meta.concrete_fields}
    assert type(instance._state) is ModelState
    assert set(vars(instance._state)) <= STATE
    for name in vars(instance).keys() - fields - {"_state", "_prefetched_objects_cache"}:
        hidden = inspect.getattr_static(model, name, None)
        assert not callable(hidden), name
        assert not isinstance(hidden, property), name
        assert not name.startswith("__"), name
    for target in instance._state.fields_cache.values():
        assert target is None or isinstance(target, Model)
    assert callable(instance.save)
    assert instance.__class__ is model


def instances_in(value: Any) -> Iterator[Model]:
    """Every instance that hangs on the value."""
    todo, seen = [value], set()
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, Model):
            yield one
            todo += [*vars(one).values(), *one._state.fields_cache.values()]
        elif isinstance(one, QuerySet):
            todo += one._result_cache or []
        elif isinstance(one, dict):
            todo += one.values()
        elif isinstance(one, list | tuple):
            todo += one


class Tally:
    """What became of them all."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.started = time.perf_counter()

    def __str__(self) -> str:
        total, seconds = self.outcomes.total(), time.perf_counter() - self.started
        parts = ", ".join(f"{number:,} {name}" for name, number in sorted(self.outcomes.items()))
        return f"{total:,} inputs in {seconds:.0f} s, {total / seconds:,.0f} a second: {parts}"
