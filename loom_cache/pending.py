"""What a transaction has changed so far, and what of it a savepoint would take back."""

from __future__ import annotations

from collections.abc import Mapping

from loom_cache import tags
from loom_cache.leases import Writer
from loom_cache.tags import Change, Changes


class Pending:
    """The changes of one transaction; a layer for each open savepoint."""

    def __init__(self) -> None:
        self._layers: list[tuple[str | None, Changes]] = [(None, {})]
        self.writer: Writer | None = None
        """Of strict tables; until the transaction is over it is in them."""

    def add(self, changes: Mapping[str, Change]) -> None:
        tags.merge(self._layers[-1][1], changes)

    def savepoint(self, name: str | None) -> None:
        self._layers.append((name, {}))

    def roll_back_to(self, name: str | None) -> None:
        at = self._find(name)
        if at is not None:
            self._layers[at:] = [(name, {})]

    def release(self, name: str | None) -> None:
        at = self._find(name)
        if at is not None:
            self._fold(at)

    def fold(self) -> None:
        """Follow no savepoint that is open now: what was done in it stays."""
        self._fold(1)

    def _find(self, name: str | None) -> int | None:
        found = [at for at, (layer, _) in enumerate(self._layers) if at and layer == name]
        return found[-1] if found else None

    def _fold(self, start: int) -> None:
        for _, changes in self._layers[start:]:
            tags.merge(self._layers[start - 1][1], changes)
        del self._layers[start:]

    def tables(self) -> set[str]:
        return {table for _, changes in self._layers for table in changes}

    def changes(self) -> Changes:
        self._fold(1)
        return self._layers[0][1]
