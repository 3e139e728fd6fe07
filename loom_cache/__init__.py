"""loom_cache: cached async ORM reads that are never stale."""

from loom_cache.exceptions import LoomCacheError

__all__ = [
    "CacheConfig",
    "CacheGateway",
    "CachedQuery",
    "CachedRepository",
    "GenerationalDependencyResolver",
    "LoomCacheError",
    "MsgspecSerializer",
    "ainvalidate",
    "bypass",
    "cached_query",
    "invalidate",
    "register_type",
]

__version__ = "0.1.0"

from loom_cache.calls import cached_query
from loom_cache.codec import register_type
from loom_cache.config import CacheConfig
from loom_cache.gateway import CacheGateway
from loom_cache.generations import GenerationalDependencyResolver
from loom_cache.invalidation import ainvalidate, invalidate
from loom_cache.permission import bypass
from loom_cache.query import CachedQuery
from loom_cache.repository import CachedRepository
from loom_cache.serializer import MsgspecSerializer
