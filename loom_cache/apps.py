"""The Django app: registers, and does nothing else at start-up (no I/O, never raises)."""

from __future__ import annotations

from django.apps import AppConfig


class LoomCacheAppConfig(AppConfig):
    name = "loom_cache"
    verbose_name = "Loom cache"

    def ready(self) -> None:
        from loom_cache import config, tables, watch, writes

        config.current()
        tables.forget()
        watch.install()
        writes.install()
