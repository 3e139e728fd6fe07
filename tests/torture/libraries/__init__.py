"""The libraries that are tortured, each by one short file."""

from tests.torture.libraries.base import Library
from tests.torture.libraries.by_hand import ByHand
from tests.torture.libraries.cachalot import Cachalot
from tests.torture.libraries.cacheops import Cacheops
from tests.torture.libraries.ours import LoomCache, Strict

__all__ = ["LIBRARIES", "OURS", "Library"]

OURS = "loom"
LIBRARIES: dict[str, Library] = {
    OURS: LoomCache(),
    "loom-strict": Strict(),
    "cacheops": Cacheops(),
    "cachalot": Cachalot(),
    "by-hand": ByHand(),
}
