"""The machine: one step at a time somebody asks, writes, begins or ends a transaction; after each
step every answer that was ever asked for must be what the database answers now."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from functools import wraps
from typing import Any

from django.core.exceptions import MultipleObjectsReturned, ObjectDoesNotExist
from django.db import DatabaseError, IntegrityError, OperationalError, connections
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.model import writes
from tests.model.answers import Answer, cached, plainly
from tests.model.graph import graphs
from tests.model.hands import Hands, NotNow
from tests.model.questions import Question, catechisms, questions
from tests.model.sessions import INNER, OUTERMOST, GoneWrong, Session
from tests.model.text import Text
from tests.model.vocabulary import value_of
from tests.model.world import World

REFUSED = (IntegrityError, OperationalError, ObjectDoesNotExist, MultipleObjectsReturned, NotNow)
"""What a write may come to: a constraint, another's lock, nothing there to be written."""

DEEPEST = 3
"""Blocks that one session is in, at most."""

WHEN = st.sampled_from(["before", "after"])
OUTERMOST_KINDS = st.sampled_from(sorted(OUTERMOST))
INNER_KINDS = st.sampled_from(sorted(INNER))

LEAVE, FAIL = Text("leave()"), Text("fail()")
BEGIN = {Text(f"begin({kind!r})"): kind for kind in INNER}
ACTS = st.lists(
    st.one_of(writes.anything, st.sampled_from([*BEGIN, LEAVE, FAIL]), writes.anything),
    max_size=8,
)
"""What is done in a transaction, one after the other."""


def several(texts: st.SearchStrategy[Text]) -> st.SearchStrategy[list[Text]]:
    return st.lists(texts, min_size=1, max_size=3)


Able = Callable[["Machine"], list[Session]]


class Stale(AssertionError):
    """An answer is not what the database answers."""


def _is_refusal(error: Exception) -> bool:
    # Django says of an UPDATE that found no row, by a plain DatabaseError, that it did not.
    return isinstance(error, REFUSED) or type(error) is DatabaseError


def step(able: Able, **arguments: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Any]:
    """A rule for those who are able: `who` of them does it, and then everything is checked."""

    def names(machine: Machine) -> st.SearchStrategy[str]:
        return st.sampled_from([session.name for session in able(machine)])

    def decorate(method: Callable[..., None]) -> Any:
        def is_possible(machine: Machine) -> bool:
            return machine.takes(method.__name__) and bool(able(machine))

        @wraps(method)
        def wrapper(self: Machine, **given: Any) -> None:
            method(self, **given)
            self.check()

        who = st.runner().flatmap(names)
        made: Any = rule(who=who, **arguments)  # type: ignore[call-overload]
        return precondition(is_possible)(made(wrapper))

    return decorate


class Machine(RuleBasedStateMachine):
    """Each rule is a step. Texts are carried out as they stand: see text.py."""

    def __init__(self, world: World, steps: Collection[str] = ()) -> None:
        """With `steps` it takes only those."""
        super().__init__()
        self._world, self._steps = world, steps
        self._asked: dict[Question, None] = {}
        self._rows: list[Any] = []
        self._true: dict[Question, Answer] = {}
        """What the database answers while these are its rows."""
        self._read_by = self._how = ""
        world.begin()

    def teardown(self) -> None:
        self._world.end()

    @initialize(
        graph=graphs(),
        asked=catechisms(),
        read_by=st.sampled_from(["reader", "here"]),
        how=st.sampled_from(["sync", "async"]),
    )
    def begin_with(self, graph: list[Text], asked: list[Question], read_by: str, how: str) -> None:
        """These rows and questions; who reads after each step (outside a transaction), and how."""
        self._read_by, self._how = read_by, how
        words = Hands(self._world.here).words()
        for write in graph:
            value_of(write, words)
        for session in self._world.writers:
            session.do(Hands(session).hold_some)
        self._asked = dict.fromkeys(asked)
        self.check()

    def takes(self, step: str) -> bool:
        return not self._steps or step in self._steps

    # Who is able to do what. --------------------------------------------------------------------

    def _whole(self) -> list[Session]:
        """Those for whom something else than a rollback is possible."""
        return [one for one in self._world.writers if not one.broken]

    def _able_to_ask(self) -> list[Session]:
        return [one for one in self._whole() if one.alias == "default"]

    def _able_to_ask_within(self) -> list[Session]:
        return [one for one in self._able_to_ask() if one.depth and self._asked]

    def _able_to_write(self) -> list[Session]:
        """SQLite lets one write at a time: whoever has begun a transaction."""
        if self._world.vendor == "sqlite" and any(one.depth for one in self._world.writers):
            return [one for one in self._whole() if one.depth]
        return self._whole()

    def _able_to_begin(self) -> list[Session]:
        return [one for one in self._able_to_write() if not one.depth]

    def _able_to_nest(self) -> list[Session]:
        return [one for one in self._able_to_write() if 0 < one.depth < DEEPEST]

    def _able_to_leave(self) -> list[Session]:
        return [one for one in self._whole() if one.depth]

    def _able_to_fail(self) -> list[Session]:
        return [one for one in self._world.writers if one.depth]

    def _able_to_write_meanwhile(self) -> list[Session]:
        """Another thread's, while this thread reads."""
        return [one for one in self._able_to_write() if self._is_elsewhere(one) and not one.depth]

    def _able_to_leave_meanwhile(self) -> list[Session]:
        return [one for one in self._able_to_leave() if self._is_elsewhere(one)]

    def _is_elsewhere(self, session: Session) -> bool:
        return session is self._world.there and self._world.here_is_free()

    # Reading. -----------------------------------------------------------------------------------

    @step(_able_to_ask, question=questions())
    def ask(self, who: str, question: Question) -> None:
        """In a transaction the answer is the one that this transaction sees."""
        self._ask(self._world.session(who), [question])
        self._asked[question] = None

    @step(_able_to_ask_within)
    def ask_within(self, who: str) -> None:
        """Everything that was asked before, in a transaction."""
        self._ask(self._world.session(who), list(self._asked))

    def _ask(self, session: Session, asked: list[Question]) -> None:
        answers = session.do(lambda: cached(asked, self._how))
        truths = session.do(lambda: [plainly(question) for question in asked])
        for question, answer, truth in zip(asked, answers, truths, strict=True):
            self._compare(question, answer, truth, session.name)

    @step(_able_to_write_meanwhile, question=questions(), what=several(writes.anything), when=WHEN)
    def ask_while_written(self, who: str, question: Question, what: list[Text], when: str) -> None:
        """Somebody writes before or after the first statement of a load."""
        self._ask_meanwhile(question, when, lambda: self._write(who, what))

    @step(_able_to_leave_meanwhile, question=questions(), when=WHEN)
    def ask_while_committed(self, who: str, question: Question, when: str) -> None:
        """Somebody commits before or after the first statement of a load."""
        self._ask_meanwhile(question, when, lambda: self._commit(who))

    def _ask_meanwhile(self, question: Question, when: str, act: Callable[[], None]) -> None:
        """What this reader is given may be either answer; nobody later may be given the old one."""
        waiting = [act]

        def wrapper(execute: Callable[..., Any], *args: Any) -> Any:
            if waiting and when == "before":
                waiting.pop()()
            result = execute(*args)
            if waiting:
                waiting.pop()()
            return result

        with connections["default"].execute_wrapper(wrapper):
            cached([question], self._how, fresh=True)
        if waiting:  # the answer took no statement
            waiting.pop()()
        self._asked[question] = None

    def check(self) -> None:
        """All that was asked, asked again from outside any transaction."""
        world, asked = self._world, list(self._asked)
        world.tally.steps += 1
        world.tally.checks += len(asked)
        here = self._read_by == "here" and world.here_is_free()
        reader = world.here if here else world.reader
        answers = reader.do(lambda: cached(asked, self._how))
        self._look_at_rows()
        for question, answer in zip(asked, answers, strict=True):
            self._compare(question, answer, self._truth(question), reader.name)

    def _look_at_rows(self) -> None:
        rows = self._world.rows()
        if rows != self._rows:
            self._rows, self._true = rows, {}

    def _truth(self, question: Question) -> Answer:
        if question not in self._true:
            self._true[question] = self._world.reader.do(lambda: plainly(question))
        return self._true[question]

    def _compare(self, question: Question, answer: Answer, truth: Answer, who: str) -> None:
        if answer != truth:
            raise Stale(
                f"{question}\n  is answered through the cache ({who}, {self._how}):\n    {answer}\n"
                f"  and by the database:\n    {truth}"
            )

    # Writing. -----------------------------------------------------------------------------------

    @step(_able_to_write, what=several(writes.saves))
    def save(self, who: str, what: list[Text]) -> None:
        self._write(who, what)

    @step(_able_to_write, what=several(writes.creates))
    def create(self, who: str, what: list[Text]) -> None:
        self._write(who, what)

    @step(_able_to_write, what=several(writes.updates))
    def update(self, who: str, what: list[Text]) -> None:
        self._write(who, what)

    @step(_able_to_write, what=several(writes.deletes))
    def delete(self, who: str, what: list[Text]) -> None:
        self._write(who, what)

    @step(_able_to_write, what=several(writes.relates))
    def relate(self, who: str, what: list[Text]) -> None:
        self._write(who, what)

    @step(_able_to_write, what=several(writes.bulk))
    def write_in_bulk(self, who: str, what: list[Text]) -> None:
        self._write(who, what)

    @step(_able_to_write, what=several(writes.upserts))
    def upsert(self, who: str, what: list[Text]) -> None:
        self._write(who, what)

    @step(_able_to_write, what=several(writes.statements))
    def run_sql(self, who: str, what: list[Text]) -> None:
        self._write(who, what)

    @step(_able_to_write, what=several(writes.awaited))
    def write_async(self, who: str, what: list[Text]) -> None:
        self._write(who, what)

    def _write(self, who: str, what: list[Text]) -> None:
        session = self._world.session(who)
        for one in what:
            if not session.broken:
                self._write_one(session, one)

    def _write_one(self, session: Session, what: Text) -> None:
        words, outcome = Hands(session).words(), "accepted"
        try:
            session.do(lambda: value_of(what, words))
        except Exception as error:
            if not _is_refusal(error):
                raise
            outcome = "refused"
            if session.depth and isinstance(error, DatabaseError):
                session.fail(error)  # it leaves the block, as errors do
        self._world.tally.writes[what.template, outcome] += 1

    # Transactions. ------------------------------------------------------------------------------

    @step(_able_to_begin, kind=OUTERMOST_KINDS)
    def begin(self, who: str, kind: str) -> None:
        """A transaction."""
        self._world.session(who).begin(OUTERMOST[kind])

    @step(_able_to_nest, kind=INNER_KINDS)
    def begin_inside(self, who: str, kind: str) -> None:
        """A savepoint, or a block that is a part of the one around it."""
        self._world.session(who).begin(INNER[kind])

    @step(_able_to_leave)
    def leave(self, who: str) -> None:
        """Release the savepoint, or commit the transaction."""
        self._leave(who)

    @step(_able_to_leave)
    def commit(self, who: str) -> None:
        """Leave every block."""
        self._commit(who)

    @step(_able_to_fail)
    def fail(self, who: str) -> None:
        """Roll back to the savepoint, or the transaction."""
        self._fail(who)

    @step(_able_to_begin, kind=OUTERMOST_KINDS, acts=ACTS)
    def transact(self, who: str, kind: str, acts: list[Text]) -> None:
        """A transaction from begin to end, with nobody looking meanwhile."""
        session = self._world.session(who)
        session.begin(OUTERMOST[kind])
        for act in acts:
            if session.depth:
                self._act(session, act)
        self._commit(who)

    def _act(self, session: Session, act: Text) -> None:
        if act == FAIL or session.broken:
            self._fail(session.name)
        elif act == LEAVE:
            self._leave(session.name)
        elif act in BEGIN:
            session.begin(INNER[BEGIN[act]])
        else:
            self._write_one(session, act)

    def _commit(self, who: str) -> None:
        session = self._world.session(who)
        while session.depth:
            if session.broken:
                self._fail(who)
            else:
                self._leave(who)

    def _leave(self, who: str) -> None:
        with suppress(IntegrityError):  # of what is checked at COMMIT
            self._world.session(who).leave()

    def _fail(self, who: str) -> None:
        self._world.session(who).fail(GoneWrong())
