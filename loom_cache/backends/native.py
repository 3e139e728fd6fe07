"""What our own stores have in common: aiocache's protocol, for code that uses an alias directly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiocache.base import BaseCache, _ensure_key


class NativeCache(BaseCache):  # type: ignore[misc]  # aiocache has no annotations
    """A backend of aiocache that is a Store too (see loom_cache.backends)."""

    def _build_key(self, key: Any, namespace: str | None = None) -> str:
        """The prefix is the same whichever way a key is used: "<namespace>:"."""
        space = self.namespace if namespace is None else namespace
        return f"{space}:{_ensure_key(key)}" if space else str(_ensure_key(key))

    async def _gets(self, key: str, encoding: str | None = "utf-8", _conn: Any = None) -> Any:
        return await self._get(key, encoding)

    async def _multi_get(
        self, keys: Sequence[str], encoding: str | None = "utf-8", _conn: Any = None
    ) -> list[Any]:
        return [await self._get(key, encoding) for key in keys]

    async def _multi_set(
        self, pairs: Sequence[tuple[str, Any]], ttl: float | None = None, _conn: Any = None
    ) -> bool:
        for key, value in pairs:
            await self._set(key, value, ttl)
        return True

    async def _exists(self, key: str, _conn: Any = None) -> bool:
        return bool(await self.holds(key))

    async def _increment(self, key: str, delta: int, _conn: Any = None) -> int:
        return int(await self.add_to(key, delta))

    async def _delete(self, key: str, _conn: Any = None) -> int:
        return int(await self.remove([key]))

    async def _clear(self, namespace: str | None = None, _conn: Any = None) -> bool:
        space = namespace or self.namespace
        if not space:
            raise ValueError(
                "A cache without a namespace is not cleared, since others may use the same store. "
                "Give its alias a namespace, or clear the CacheGateway."
            )
        await self.clear_prefix(f"{space}:")
        return True

    async def _close(self, *args: Any, _conn: Any = None, **kwargs: Any) -> None:
        await self.disconnect()

    def _refuse_compare_and_set(self, token: Any) -> None:
        if token is not None:
            raise NotImplementedError(f"{type(self).__name__} has no compare-and-set.")

    def _exists_already(self, key: str) -> ValueError:
        return ValueError(f"Key {key} already exists, use .set to update the value")
