"""A process that reads: tasks of an event loop and threads, all kinds of questions in turn."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeVar

from django.db import connections
from django.db.backends.signals import connection_created

from tests.torture import settings
from tests.torture.board import MOST, Board, Phase
from tests.torture.direct import Direct
from tests.torture.judge import Judge, Verdict
from tests.torture.libraries import LIBRARIES, Library
from tests.torture.libraries.base import Answer, AsyncQuestion, Question, Scope
from tests.torture.rows import PKS, group_of, members

T = TypeVar("T")

TASKS = 4
THREADS = 2
COMPARED = 4
"""One read in so many is compared with what the database says itself."""
NEXT_QUESTION = 10
"""After so many reads a task or a thread asks one kind of question more."""
PAUSE = 0.001
"""Seconds after a read in a thread: others have to get on, too."""
PATIENCE = 15.0
"""Seconds until a process must use the store again after a fault."""

_statements: ContextVar[list[int] | None] = ContextVar("torture.statements", default=None)
"""How many were run for the read that this context is about."""


def _count(execute: Callable[..., Any], *arguments: Any) -> Any:
    counted = _statements.get()
    if counted is not None:
        counted[0] += 1
    return execute(*arguments)


def _count_on(connection: Any, **_kwargs: object) -> None:
    if _count not in connection.execute_wrappers:
        connection.execute_wrappers.append(_count)


def asked_about(scope: Scope, pk: int) -> Sequence[int]:
    if scope == "row":
        return [pk]
    if scope == "some":
        return sorted({pk, pk % len(PKS) + 1, (pk + 6) % len(PKS) + 1})
    return members(group_of(pk))


class Reader:
    def __init__(self, number: int, library: Library, board: Board) -> None:
        self._number = number
        self._library = library
        self._board = board
        self._judges: list[Judge] = []
        self._random = random.Random(number)

    def run(self) -> None:
        """Read until the writers are to rest, then compare what is cached with the database."""
        connection_created.connect(_count_on)
        threads = [threading.Thread(target=self._read_in_thread) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        if self._library.async_questions():
            asyncio.run(self._read_in_tasks())
        for thread in threads:
            thread.join()
        wrong = check_in_turn(self._number, self._library, self._board)
        verdict = Verdict.total([asdict(judge.verdict) for judge in self._judges])
        report(f"reader-{self._number}", verdict=asdict(verdict), wrong=wrong)

    def _judge(self) -> Judge:
        judge = Judge(self._board)
        self._judges.append(judge)
        return judge

    def _read_in_thread(self) -> None:
        judge, questions = self._judge(), list(self._library.questions().items())
        with Direct() as direct:
            while self._board.phase is Phase.RUN:
                name, question = self._chosen(questions, judge)
                with self._reading(judge, name, question.scope, direct) as (pks, answers):
                    answers.append(question.ask(pks))
                sleep(PAUSE)
        connections.close_all()

    async def _read_in_tasks(self) -> None:
        with Direct() as direct:
            await asyncio.gather(*(self._read_in_task(direct) for _ in range(TASKS)))

    async def _read_in_task(self, direct: Direct) -> None:
        judge, questions = self._judge(), list(self._library.async_questions().items())
        while self._board.phase is Phase.RUN:
            name, question = self._chosen(questions, judge)
            with self._reading(judge, name, question.scope, direct) as (pks, answers):
                answers.append(await question.ask(pks))
            await asyncio.sleep(0)

    def _chosen(self, questions: Sequence[tuple[str, T]], judge: Judge) -> tuple[str, T]:
        """They come into use one by one, and not everywhere in the same order: what a process
        knows of them others may not know yet."""
        known = min(len(questions), 1 + judge.verdict.reads // NEXT_QUESTION)
        return questions[(self._random.randrange(known) + self._number) % len(questions)]

    @contextmanager
    def _reading(
        self, judge: Judge, name: str, scope: Scope, direct: Direct
    ) -> Iterator[tuple[Sequence[int], list[Answer]]]:
        """A read of these rows; the block appends what it has found."""
        pks = asked_about(scope, self._random.choice(PKS))
        committed = direct.versions(pks) if self._random.randrange(COMPARED) == 0 else None
        answers: list[Answer] = []
        _statements.set(counted := [0])
        known = judge.before(pks)
        try:
            yield pks, answers
            judge.after(name, pks, answers[0], known, committed, hit=not counted[0])
            self._board.note_hits(self._number, sum(one.verdict.hits for one in self._judges))
        except Exception as error:  # noqa: BLE001  whatever it is, it is counted
            judge.failed(name, error)


def read(number: int, board: Board) -> None:
    Reader(number, LIBRARIES[settings.TORTURE_LIBRARY], board).run()


def compare_afresh(board: Board) -> None:
    """In a process that has read nothing yet: compare what is cached with the database."""
    wrong = check_in_turn(MOST, LIBRARIES[settings.TORTURE_LIBRARY], board)
    report("fresh", wrong=wrong)


def check_in_turn(process: int, library: Library, board: Board) -> list[list[str]]:
    """What is wrong at each of the two checks."""
    wrong = []
    for phase in (Phase.CHECK, Phase.CHECK_AGAIN):
        while board.phase < phase:
            sleep(0.01)
        wrong.append(wrongly_cached(library))
        board.note_checked(process, phase)
    connections.close_all()
    return wrong


def wrongly_cached(library: Library) -> list[str]:
    """The rows, and sums, that are not answered as the database has them, by any question."""
    wait_until(library.is_settled)
    with Direct() as direct:
        true = direct.versions(PKS)
    wrong = _wrong_in(library.questions(), true)
    if library.async_questions():
        wrong |= asyncio.run(_wrong_async(library.async_questions(), true))
    return sorted(wrong)


def _wrong_in(questions: Mapping[str, Question], true: Mapping[int, int]) -> set[str]:
    return {
        name
        for question in questions.values()
        for pk in PKS
        if (pks := asked_about(question.scope, pk))
        for name in _differing(pks, question.ask(pks), true)
    }


async def _wrong_async(questions: Mapping[str, AsyncQuestion], true: Mapping[int, int]) -> set[str]:
    wrong: set[str] = set()
    for question in questions.values():
        for pk in PKS:
            pks = asked_about(question.scope, pk)
            wrong.update(_differing(pks, await question.ask(pks), true))
    return wrong


def _differing(pks: Sequence[int], answer: Answer, true: Mapping[int, int]) -> list[str]:
    if isinstance(answer, int):
        is_right = answer == sum(true[pk] for pk in pks)
        return [] if is_right else [f"sum of group {group_of(pks[0])}"]
    return [f"row {pk}" for pk in pks if answer.get(pk) != true[pk]]


def wait_until(holds: Callable[[], bool]) -> None:
    end = monotonic() + PATIENCE
    while not holds():
        if monotonic() > end:
            raise TimeoutError("The cache store has not been used again after the faults.")
        sleep(0.01)


def report(name: str, **found: Any) -> None:
    Path(settings.TORTURE_DIRECTORY, f"{name}.json").write_text(json.dumps(found))
