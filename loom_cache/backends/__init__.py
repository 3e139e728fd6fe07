"""The stores: what the gateway asks of one, whatever stands behind it.

Keys are full keys (already prefixed), values are raw bytes, times are seconds. Every method has a
synchronous twin that needs no event loop. All of them raise StoreUnavailable when the store cannot
be asked, and nothing else.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, Literal, NamedTuple, Protocol, TypeVar

from loom_cache import counters

V = TypeVar("V")


def enrolled(listed: bytes | None, version: int | None) -> Enrolled:
    """A list of names as it is stored: the counter of its life, then a name a line."""
    first, _, rest = (listed or b"").partition(b"\n")
    # What is no text is the name of nothing: whoever reads the list then trusts none of it.
    names = [name.decode(errors="replace") for name in rest.split(b"\n") if name]
    return Enrolled(counters.parse(first), version, names)


class Snapshot(NamedTuple, Generic[V]):
    """Values read together, in the order of the keys, and the life of the server that held them."""

    incarnation: str
    values: list[V]


Pair = tuple[str, bytes, float]
"""Full key, value, time to live in seconds; one that is not positive means: keep nothing."""


class Moved(NamedTuple):
    """What a bump found."""

    existed: int
    values: list[int | None]
    """The counters that were to be read after it; None for one that is not there."""
    incarnation: str = ""


class Roll(NamedTuple):
    """The full keys of a list of names that only grows."""

    life: str
    """A counter: while it is unchanged, whatever was in the list still is."""
    at: str
    changes: str
    """A counter that moves whenever the list does."""


class Enrolled(NamedTuple):
    """A list of names, and the values of its counters."""

    life: int | None
    """None: the store keeps no such lists."""
    version: int | None
    names: list[str]
    incarnation: str = ""


Step = Literal["open", "close", "bump", "seed"]
"""What is done to the counter of a strict table: a writer comes in, or asks for more time; it goes
out; somebody bumps it; a reader that found none seeds it."""


class Lease(NamedTuple):
    """A step of one strict table. Whoever takes one first removes the writers whose time is over,
    which bumps the counter, and leaves in its low bits how many are open."""

    step: Step
    counter: str
    """The full key of the table's own counter."""
    writers: str
    """The full key of the set of its open writers."""
    writer: str = ""
    """The name of the one who takes the step, if it is a writer."""
    seconds: float = 0.0
    """What it asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a store says of itself and of its server; None where it does not say. Nothing in it is
    a credential."""

    kind: str
    place: str = ""
    version: str | None = None
    clock: float | None = None
    """Unix seconds."""
    role: str | None = None
    """`master` or `replica`."""
    replicas: int | None = None
    lag: int | None = None
    """Seconds that a replica is behind."""
    clustered: bool | None = None
    policy: str | None = None
    """What is evicted when the server is full."""
    max_bytes: int | None = None
    """0: no limit."""
    used_bytes: int | None = None
    evicted: int | None = None
    """Keys, since the server was started."""
    saves_snapshots: bool | None = None
    appends_to_file: bool | None = None
    refused: frozenset[str] = frozenset()
    """Commands that this user may not give."""


class Store(Protocol):
    """One keyspace: a Redis database, this process's memory, or a foreign aiocache backend."""

    native_counters: ClassVar[bool]
    """Whether increments are atomic and seeds come from one clock."""

    @property
    def server(self) -> Hashable:
        """Equal for two stores exactly when they share one keyspace."""

    async def fetch(self, keys: Sequence[str]) -> Snapshot[bytes | None]: ...
    async def store(self, pairs: Sequence[Pair]) -> None: ...
    async def seed(self, keys: Sequence[str], leases: Sequence[Lease] = ()) -> Snapshot[int]:
        """The counters at `keys`, then those of `leases`, started where there are none."""

    async def bump(self, keys: Sequence[str], *, timeout: float | None = None) -> int: ...  # noqa: ASYNC109
    async def bump_and_read(
        self,
        keys: Sequence[str],
        reads: Sequence[str],
        *,
        leases: Sequence[Lease] = (),
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Moved:
        """Bump `keys`, in their order, take the steps, and then read the counters at `reads`."""

    async def enroll(self, roll: Roll, names: Sequence[str], most: int) -> Enrolled:
        """Add names to a list, unless it has `most` already; a list that was lost begins a new
        life. All in one step."""

    async def remove(self, keys: Sequence[str]) -> int: ...
    async def scan(self, prefix: str) -> list[str]: ...
    async def add_to(self, key: str, delta: int) -> int: ...
    async def holds(self, key: str) -> bool: ...
    async def clear_prefix(self, prefix: str) -> None: ...
    async def disconnect(self) -> None: ...

    def fetch_sync(self, keys: Sequence[str]) -> Snapshot[bytes | None]: ...
    def store_sync(self, pairs: Sequence[Pair]) -> None: ...
    def seed_sync(self, keys: Sequence[str], leases: Sequence[Lease] = ()) -> Snapshot[int]: ...
    def bump_sync(self, keys: Sequence[str], *, timeout: float | None = None) -> int: ...
    def bump_and_read_sync(
        self,
        keys: Sequence[str],
        reads: Sequence[str],
        *,
        leases: Sequence[Lease] = (),
        timeout: float | None = None,
    ) -> Moved: ...
    def take_sync(self, leases: Sequence[Lease], *, timeout: float | None = None) -> None:
        """Take the steps of writers who come in or stay. Only ever asked in a database thread."""

    def writers_sync(self, keys: Sequence[str]) -> list[list[tuple[str, float]]]:
        """The open writers in each of these sets, with the seconds that are left to them."""

    def enroll_sync(self, roll: Roll, names: Sequence[str], most: int) -> Enrolled: ...
    def remove_sync(self, keys: Sequence[str]) -> int: ...
    def scan_sync(self, prefix: str) -> list[str]: ...
    def walk_sync(self, prefix: str) -> Iterator[Sequence[str]]:
        """What `scan_sync` gives, a batch at a time; a key may come twice. For commands, which
        are synchronous."""

    def facts_sync(self, key: str) -> Facts:
        """What there is to say of the store. `key`: one that holds nothing, to try commands on."""

    def add_to_sync(self, key: str, delta: int) -> int: ...
    def holds_sync(self, key: str) -> bool: ...
    def clear_prefix_sync(self, prefix: str) -> None: ...
    def disconnect_sync(self) -> None: ...
