"""Who is compared: a process each, with a database and a Redis database of its own."""

from benchmarks.speed.contestants.base import Contestant
from benchmarks.speed.contestants.by_hand import ByHand
from benchmarks.speed.contestants.cashews import Cashews
from benchmarks.speed.contestants.floor import Floor
from benchmarks.speed.contestants.ours import InMemory, Loom, Strict
from benchmarks.speed.contestants.peers import Cachalot, Cacheops

__all__ = ["CONTESTANTS", "Contestant"]

CONTESTANTS: dict[str, Contestant] = {
    "django": Contestant(),
    "loom": Loom(),
    "memory": InMemory(),
    "strict": Strict(),
    "cacheops": Cacheops(),
    "cachalot": Cachalot(),
    "by-hand": ByHand(),
    "cashews": Cashews(),
    "floor": Floor(),
}
