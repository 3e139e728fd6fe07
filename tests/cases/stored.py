"""What lies in the store, looked at and changed behind the library's back; and rows changed behind
Django's."""

from contextlib import closing

from django.db import connection

from loom_cache import CacheGateway, config


def _gateway() -> CacheGateway:
    settings = config.current()
    assert settings is not None
    return CacheGateway(alias=settings.aiocache_alias)


def entries() -> dict[str, bytes]:
    """The stored answers by their full keys."""
    return {key: data for key, data in _everything().items() if ":e:" in key}


def counters() -> dict[str, bytes]:
    """The generation counters by their full keys."""
    return {key: data for key, data in _everything().items() if ":g:{" in key}


def _everything() -> dict[str, bytes]:
    gateway = _gateway()
    keys = sorted(gateway.scan_sync(gateway.full_key("")))
    found = gateway.fetch_sync(keys).values
    return {key: data for key, data in zip(keys, found, strict=True) if data is not None}


def put(key: str, data: bytes) -> None:
    _gateway().store_sync([(key, data, 600)])


def remove(*keys: str) -> None:
    _gateway().remove_sync(keys)


def run_unseen(sql: str) -> None:
    """Run a statement past Django's cursors, as another program would."""
    with closing(connection.connection.cursor()) as cursor:
        cursor.execute(sql)
