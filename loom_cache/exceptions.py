"""The errors of loom_cache. All of them derive from LoomCacheError."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured


class LoomCacheError(Exception):
    """The root of every error that loom_cache raises."""


class ConfigurationError(LoomCacheError, ImproperlyConfigured):
    """A setting or a declaration is wrong; the message names it and the cure."""


class StoreUnavailable(LoomCacheError):
    """The store is down, slow, full or refuses. Readers and writers of models never see it."""


class UnsupportedValue(LoomCacheError, TypeError):
    """A value has no canonical form, or cannot be encoded; the message names its type."""


class UndeclaredDependency(LoomCacheError):
    """With REQUIRE_DEPENDS_ON: a cached method read a table that its declaration does not name."""
