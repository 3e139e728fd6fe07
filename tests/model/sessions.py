"""Who is at work: threads with connections of their own, each driven one step at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from django.db import connections, transaction

from tests.cases.interleaving import Elsewhere

T = TypeVar("T")


class Block(Protocol):
    """Something that was begun, and is left well or badly."""

    def leave(self) -> None: ...

    def fail(self, error: BaseException) -> None: ...


class Atomic:
    """`with atomic():`, a transaction or a savepoint; a savepoint=False is neither."""

    def __init__(self, alias: str, *, savepoint: bool = True) -> None:
        self._atomic: Any = transaction.atomic(using=alias, savepoint=savepoint)
        self._atomic.__enter__()

    def leave(self) -> None:
        self._atomic.__exit__(None, None, None)

    def fail(self, error: BaseException) -> None:
        self._atomic.__exit__(type(error), error, None)


class Part(Atomic):
    """`with atomic(savepoint=False):`"""

    def __init__(self, alias: str) -> None:
        super().__init__(alias, savepoint=False)


class Savepoint:
    """`transaction.savepoint()`: after a rollback to it the transaction goes on."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._name = transaction.savepoint(using=alias)

    def leave(self) -> None:
        transaction.savepoint_commit(self._name, using=self._alias)

    def fail(self, error: BaseException) -> None:
        connections[self._alias].needs_rollback = False  # as after an error Django's docs have it
        transaction.savepoint_rollback(self._name, using=self._alias)


class Manual:
    """`transaction.set_autocommit(False)`, and commit() or rollback() by hand."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        transaction.set_autocommit(False, using=alias)
        if connections[alias].vendor == "sqlite":
            # As the driver does before the first write. A savepoint made earlier would be the
            # transaction, which its release commits.
            connections[alias].connection.execute("BEGIN IMMEDIATE")

    def leave(self) -> None:
        try:
            transaction.commit(using=self._alias)
        except BaseException:
            transaction.rollback(using=self._alias)
            raise
        finally:
            transaction.set_autocommit(True, using=self._alias)

    def fail(self, error: BaseException) -> None:
        transaction.rollback(using=self._alias)
        transaction.set_autocommit(True, using=self._alias)


OUTERMOST: dict[str, Callable[[str], Block]] = {"atomic": Atomic, "manual": Manual}
INNER: dict[str, Callable[[str], Block]] = {
    "atomic": Atomic,
    "part": Part,
    "savepoint": Savepoint,
}


class GoneWrong(Exception):
    """What ends a block that is to be rolled back."""


class Session:
    """One connection, and the thread that uses it: this one, or one elsewhere."""

    def __init__(self, name: str, *, alias: str = "default", thread: Elsewhere | None) -> None:
        self.name, self.alias = name, alias
        self.held: dict[type, Any] = {}
        """Instances that this session has read some time ago, and may yet save."""
        self._thread = thread
        self._blocks: list[Block] = []

    def do(self, work: Callable[[], T]) -> T:
        return work() if self._thread is None else self._thread.do(work)

    @property
    def depth(self) -> int:
        """How many blocks it is in."""
        return len(self._blocks)

    @property
    def broken(self) -> bool:
        """Whether nothing but a rollback is possible."""
        return self.depth > 0 and self.do(lambda: bool(connections[self.alias].needs_rollback))

    def begin(self, block: Callable[[str], Block]) -> None:
        self._blocks.append(self.do(lambda: block(self.alias)))

    def leave(self) -> None:
        """Commit, or release; raises what the database says to it."""
        block = self._blocks.pop()
        self.do(block.leave)

    def fail(self, error: BaseException) -> None:
        """Roll the innermost block back."""
        block = self._blocks.pop()
        self.do(lambda: block.fail(error))

    def close(self) -> None:
        """End whatever is open."""
        self.held.clear()
        while self._blocks:
            self.fail(GoneWrong())
