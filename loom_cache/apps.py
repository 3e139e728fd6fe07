"""The Django app: registers, and does nothing else at start-up (no I/O, never raises)."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import register


class LoomCacheAppConfig(AppConfig):
    name = "loom_cache"
    verbose_name = "Loom cache"

    def ready(self) -> None:
        from loom_cache import checks, config, declarations, tables, watch, writes

        config.current()
        tables.forget()
        watch.install()
        writes.install()
        for check in (
            checks.check_settings,
            checks.check_labels,
            checks.check_store_is_shared,
            checks.check_strict_store,
            declarations.check_repositories,
        ):
            register(check)
