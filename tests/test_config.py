"""The LOOM_CACHE setting, decoded."""

import logging
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from loom_cache import CacheConfig, config
from loom_cache.exceptions import ConfigurationError, LoomCacheError


def tenant() -> str:
    return "one"


TENANT = f"{__name__}.tenant"


def test_the_defaults_are_those_of_the_documentation() -> None:
    parsed = config.parse({})
    assert parsed == CacheConfig()
    assert (parsed.default_ttl, parsed.default_list_ttl, parsed.missing_ttl) == (300, 120, 10)
    assert (parsed.timeout, parsed.write_timeout, parsed.ttl_jitter) == (0.25, 2.0, 0.1)
    assert (parsed.max_size, parsed.max_rows, parsed.max_value_bytes) == (10_000, 10_000, 1_000_000)
    assert parsed.ignore == ("sessions.session", "admin.logentry")
    assert (parsed.namespace, parsed.aiocache_alias, parsed.enabled) == ("loom", "default", True)


def test_keys_are_the_upper_case_field_names() -> None:
    raw = {name.upper(): getattr(CacheConfig(), name) for name in CacheConfig.__struct_fields__}
    assert config.parse(raw) == CacheConfig()


def test_a_wrong_key_is_named_with_the_nearest_right_one() -> None:
    with pytest.raises(ConfigurationError, match="unknown key 'DEFAULT_TLL'") as caught:
        config.parse({"DEFAULT_TLL": 5})
    assert "Did you mean 'DEFAULT_TTL'?" in str(caught.value)
    assert isinstance(caught.value, ImproperlyConfigured)
    assert isinstance(caught.value, LoomCacheError)


def test_the_configuration_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        CacheConfig().enabled = False  # type: ignore[misc]


def test_times_to_live_come_from_ttl_and_then_from_the_defaults() -> None:
    parsed = config.parse({"TTL": {"shop.Article": 600, "SHOP.ARTICLE_LIST": 60, "shop.author": 7}})
    assert parsed.ttl_for("shop.article", many=False) == 600
    assert parsed.ttl_for("Shop.Article", many=True) == 60
    assert parsed.ttl_for("shop.author", many=False) == 7
    assert parsed.ttl_for("shop.author", many=True) == 120
    assert parsed.ttl_for("shop.book", many=False) == 300


def test_labels_are_compared_in_lower_case() -> None:
    assert config.parse({"IGNORE": ["Shop.Article"]}).ignore == ("shop.article",)


def test_location_builds_both_aliases() -> None:
    parsed = config.parse({"LOCATION": "redis://127.0.0.1:6379/0", "TIMEOUT": 0.5})
    assert list(parsed.aliases) == ["default", "counters"]
    assert parsed.effective_counter_alias == "counters"
    assert parsed.aliases["default"].pop("serializer") == {
        "class": "loom_cache.serializer.MsgspecSerializer"
    }
    assert parsed.aliases["default"] == parsed.aliases["counters"]
    assert parsed.aliases["counters"]["timeout"] == 0.5
    assert parsed.ttl_cap is None


@pytest.mark.parametrize("raw", [{}, {"LOCATION": "memory://"}])
def test_memory_is_one_store_for_both_aliases_with_a_cap_on_times(raw: dict[str, Any]) -> None:
    parsed = config.parse({**raw, "MAX_SIZE": 5})
    data, counters = parsed.aliases["default"], parsed.aliases["counters"]
    assert data["store"] == counters["store"]
    assert data["max_size"] == 5
    assert parsed.effective_counter_alias == "counters"
    assert parsed.ttl_cap == 5
    assert parsed.aliases["default"]["store"] != config.parse(raw).aliases["default"]["store"]


def test_the_cap_of_memory_is_an_option_of_its_location() -> None:
    assert config.parse({"LOCATION": "memory://?ttl_cap=0.5"}).ttl_cap == 0.5


def test_a_memory_alias_of_aiocache_is_capped_too() -> None:
    serializer = {"class": "loom_cache.MsgspecSerializer"}
    aliases = {
        "default": {"cache": "aiocache.SimpleMemoryCache", "serializer": serializer},
        "redis": {"cache": "aiocache.RedisCache", "serializer": serializer},
    }
    assert config.parse({"AIOCACHE_CONFIG": aliases}).ttl_cap == 5
    assert config.parse({"AIOCACHE_CONFIG": aliases, "AIOCACHE_ALIAS": "redis"}).ttl_cap is None


def test_counters_fall_back_to_the_data_alias() -> None:
    aliases = {"mine": {"serializer": {"class": "loom_cache.MsgspecSerializer"}}, "numbers": {}}
    raw = {"AIOCACHE_CONFIG": aliases, "AIOCACHE_ALIAS": "mine"}
    assert config.parse(raw).effective_counter_alias == "mine"
    assert config.parse({**raw, "COUNTER_ALIAS": "numbers"}).effective_counter_alias == "numbers"


def test_a_namespace_is_a_prefix_or_a_callable() -> None:
    assert config.parse({"NAMESPACE": "shop"}).static_namespace == "shop"
    assert config.parse({"NAMESPACE": "shop"}).namespace_callable is None
    parsed = config.parse({"NAMESPACE": TENANT})
    assert parsed.static_namespace == "loom"
    assert parsed.namespace_callable is tenant


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("redis://:sesame@host:6379/1", "redis://host:6379/1"),
        ("redis://user:sesame@host/1?password=sesame", "redis://host/1"),
        ("unix://:sesame@/run/redis.sock", "unix:///run/redis.sock"),
        ("memory://", "memory://"),
        ("redis://:ses/ame@host", "redis://..."),
        ("redis://:ses?ame@host", "redis://..."),
        ("redis://user:sesame@ho@st/@sesame", "redis://..."),
        ("redis://user:4711/sesame@host/0", "redis://..."),
        ("redis://user:4711#sesame@host/0", "redis://..."),
        ("redis://user:4711?sesame@host/0", "redis://..."),
        ("unix://user:se/same@/run/redis.sock", "unix://..."),
        ("user:sesame://host", "..."),
        ("redis://:sesame/0", "redis://..."),
        ("user:sesame@host", "..."),
    ],
)
def test_a_password_is_never_shown(location: str, shown: str) -> None:
    parsed = CacheConfig(location=location)
    assert config.redacted(location) == shown
    assert repr(parsed) == f"CacheConfig(location={shown!r}, namespace='loom')"
    assert "sesame" not in f"{parsed!s}{parsed!r}{parsed.__rich_repr__()}"


def test_the_settings_in_force_are_looked_at_once() -> None:
    assert config.current() is config.current()


def test_new_settings_are_in_force_at_once() -> None:
    with override_settings(LOOM_CACHE={"DEFAULT_TTL": 7}):
        current = config.current()
        assert current is not None
        assert current.default_ttl == 7
    current = config.current()
    assert current is not None
    assert current.default_ttl == 300


def test_wrong_settings_are_none_in_force_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.ERROR, "loom_cache"),
        override_settings(LOOM_CACHE={"NEARR": 1}),
    ):
        assert config.current() is None
        assert config.current() is None
        assert [problem.id for problem in config.problems()] == ["loom_cache.E002"]
    [record] = caplog.records
    assert record.getMessage().startswith("Nothing is cached until the settings are mended.")
    assert "'NEARR'" in record.getMessage()
    assert config.current() is not None


def test_other_settings_do_not_touch_ours() -> None:
    before = config.current()
    with override_settings(USE_TZ=False):
        assert config.current() is before
