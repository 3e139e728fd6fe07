"""System checks: every mistake in the settings is named, with its cure."""

import re
from pathlib import Path
from typing import Any

import pytest
from django.core import mail
from django.core.checks import CheckMessage
from django.test import override_settings

from loom_cache import CacheConfig, checks
from loom_cache.problems import find

SERIALIZER = {"class": "loom_cache.MsgspecSerializer"}
NOT_CALLABLE = "not callable"
CALLABLE = "os.getcwd"


def aliases(**options: dict[str, Any]) -> dict[str, Any]:
    return {"AIOCACHE_CONFIG": options}


WRONG: list[tuple[str, object, str, str]] = [
    ("E001", ["LOCATION"], "LOOM_CACHE is a list", "Write LOOM_CACHE = {"),
    ("E002", {"LOCATON": "x"}, "unknown key 'LOCATON'", "Did you mean 'LOCATION'?"),
    ("E002", {"default_ttl": 5}, "unknown key 'default_ttl'", "Did you mean 'DEFAULT_TTL'?"),
    ("E002", {"WOOL": 1}, "unknown key 'WOOL'", "The keys are AIOCACHE_ALIAS, "),
    ("E002", {5: 1}, "unknown key 5", "The keys are"),
    ("E003", {"DEFAULT_TTL": "5"}, "['DEFAULT_TTL'] cannot be read: expected float, got str",
     "a number of seconds"),
    ("E003", {"LOCATION": 5}, "['LOCATION'] cannot be read", "redis://127.0.0.1:6379/0"),
    ("E003", {"ENABLED": "no"}, "['ENABLED'] cannot be read: expected bool", "True or False"),
    ("E003", {"MAX_SIZE": True}, "['MAX_SIZE'] cannot be read", "a whole number"),
    ("E003", {"TTL": {"news.article": "x"}}, "'news.article': expected float", "{'shop.article'"),
    ("E003", {"TTL": 5}, "['TTL'] cannot be read", "a dictionary"),
    ("E003", {"IGNORE": "news.article"}, "['IGNORE'] cannot be read", "a list of model labels"),
    ("E003", {"NEAR": {"MAXSIZE": 1}}, "unknown field MAXSIZE", "left out: this version does not"),
    ("E003", {"STRICT": "news.article"}, "['STRICT'] cannot be read", "a list of model labels"),
    ("E003", aliases(default=5), "['AIOCACHE_CONFIG'] cannot be read", "a dictionary of options"),  # type: ignore[arg-type]
    ("E004", {"DEFAULT_TTL": 0}, "['DEFAULT_TTL'] is 0", "set ENABLED to False"),
    ("E004", {"MISSING_TTL": -1}, "['MISSING_TTL'] is -1", "set ENABLED to False"),
    ("E004", {"TTL": {"news.article": 0}}, "['TTL']['news.article'] is 0", "set ENABLED to False"),
    ("E004", {"DEFAULT_LIST_TTL": float("nan")}, "['DEFAULT_LIST_TTL'] is nan", "ENABLED"),
    ("E004", {"TTL_JITTER": 1}, "['TTL_JITTER'] is out of range", "not including, 1"),
    ("E004", {"MAX_SIZE": 0}, "['MAX_SIZE'] is out of range", "greater than 0"),
    ("E004", {"TIMEOUT": 0}, "['TIMEOUT'] is out of range", "greater than 0"),
    ("E004", {"WRITE_TIMEOUT": float("inf")}, "['WRITE_TIMEOUT'] is out of range", "seconds"),
    ("E005", {"DEFAULT_TTL": 201_601}, "['DEFAULT_TTL'] is 201601 seconds", "within a third"),
    ("E005", {"TTL": {"news.article_list": float("inf")}}, "is inf seconds", "within a third"),
    ("E006", {"LOCATION": "memory://", **aliases(default={"serializer": SERIALIZER})},
     "both LOCATION and AIOCACHE_CONFIG", "Remove one"),
    ("E007", {"LOCATION": "127.0.0.1:6379"}, "has no scheme", "Write redis://"),
    ("E007", {"LOCATION": "valkey://:sesame@h"}, "unknown scheme 'valkey'", "Write redis://"),
    ("E007", {"LOCATION": "redis://:ses/ame@h"}, "cannot be read as an address", "percent-encoded"),
    ("E007", {"LOCATION": "redis://h/zero"}, "cannot be read as an address", "/database"),
    ("E007", {"LOCATION": "redis://"}, "cannot be read as an address", "host"),
    ("E007", {"LOCATION": "unix://"}, "cannot be read as an address", "/path/to/socket"),
    ("E007", {"LOCATION": "redis://h?db=sesame"}, "an option that cannot be used", "wrong"),
    ("E007", {"LOCATION": "redis://h?wool=sesame"}, "an option that cannot be used", "'wool'"),
    ("E007", {"LOCATION": "memory://?ttl_cap=0"}, "ttl_cap", "memory://[?ttl_cap=seconds]"),
    ("E007", {"LOCATION": "memory://?ttl_cap=x"}, "ttl_cap", "memory://[?ttl_cap=seconds]"),
    ("E007", {"LOCATION": "memory://?ttl=1"}, "an option that memory:// does not have", "ttl_cap"),
    ("E007", {"LOCATION": "memory://host"}, "names a place", "memory://"),
    ("E008", {"AIOCACHE_ALIAS": "defalt"}, "['AIOCACHE_ALIAS'] is 'defalt'", "mean 'default'?"),
    ("E008", {"COUNTER_ALIAS": "wool"}, "['COUNTER_ALIAS'] is 'wool'", "'default', 'counters'"),
    ("E008", {"AIOCACHE_CONFIG": {}}, "['AIOCACHE_ALIAS'] is 'default'", "aliases are none"),
    ("E009", {"NAMESPACE": "shop.tenants.curent"}, "'shop.tenants.curent'", "without dots"),
    ("E009", {"NAMESPACE": f"{__name__}.NOT_CALLABLE"}, "is not the dotted path", "without dots"),
    ("E009", {"NAMESPACE": "my shop"}, "'my shop', and should be a word", "Leave it out"),
    ("E009", {"NAMESPACE": ""}, "should be a word", "Leave it out"),
    ("E010", {"NEAR": {}}, "['NEAR'] is set", "Remove it."),
    ("E011", aliases(default={"cache": "wool.Cache"}), "alias 'default' cannot be used", "'wool'"),
    ("E011", aliases(default={"cache": "aiocache.WoolCache"}), "cannot be used", "WoolCache"),
    ("E011", aliases(default={"wool": 1, "serializer": SERIALIZER}), "cannot be used", "'wool'"),
    ("E011", aliases(default={"cache": "aiocache.RedisCache", "port": "sesame"}),
     "cannot be used", "one of its options is wrong"),
    ("E012", aliases(default={"cache": "aiocache.RedisCache"}),
     "'default' holds entries", "'loom_cache.MsgspecSerializer'"),
    ("E013", {"COUNTER_ALIAS": "n", **aliases(default={"serializer": SERIALIZER},
                                             n={"serializer": SERIALIZER})},
     "'n' holds counters", "remove the serializer"),
]  # fmt: skip

RIGHT: list[dict[str, Any]] = [
    {},
    {"LOCATION": "memory://"},
    {"LOCATION": "memory://?ttl_cap=60"},
    {"LOCATION": "redis://127.0.0.1:6379/0"},
    {"LOCATION": "redis://user:p%40ss@host"},
    {"LOCATION": "redis://[::1]:6379/15"},
    {"LOCATION": "rediss://host/1?ssl_cert_reqs=none"},
    {"LOCATION": "unix:///run/redis.sock?db=2"},
    {"TTL": {"News.Article": 600, "news.article_list": 60}, "IGNORE": []},
    {"NAMESPACE": CALLABLE},
    {"DEFAULT_TTL": 201_600, "TTL_JITTER": 0, "STRICT": [], "NEAR": None},
    {"STRICT": True},
    {"STRICT": ["News.Article"]},
    aliases(default={"cache": "aiocache.SimpleMemoryCache", "serializer": SERIALIZER}, other={}),
    {"COUNTER_ALIAS": "default", **aliases(default={"serializer": SERIALIZER})},
    {"COUNTER_ALIAS": "n", **aliases(default={"serializer": SERIALIZER}, n={})},
]


@pytest.mark.parametrize(("number", "raw", "message", "hint"), WRONG)
def test_a_mistake_is_named_with_its_cure(
    number: str, raw: object, message: str, hint: str
) -> None:
    with override_settings(LOOM_CACHE=raw):
        [found] = checks.check_settings()
    assert found.id == f"loom_cache.{number}"
    assert found.is_serious()
    assert message in found.msg
    assert hint in str(found.hint)
    assert "sesame" not in f"{found.msg}{found.hint}"
    assert found.msg.startswith(("LOOM_CACHE", "The cache alias"))
    assert found.msg.endswith(".")
    assert str(found.hint).endswith((".", "?"))


@pytest.mark.parametrize("raw", RIGHT)
def test_right_settings_have_no_problems(raw: dict[str, Any]) -> None:
    with override_settings(LOOM_CACHE=raw):
        assert checks.check_settings() == []
        assert checks.check_labels() == []


def test_every_mistake_is_reported_at_once() -> None:
    assert [p.id[-4:] for p in find({"WOOL": 1, "TTL": 1, "TIMEOUT": "x"})] == [
        "E002",
        "E003",
        "E003",
    ]
    raw = {"DEFAULT_TTL": 0, "NAMESPACE": "", "NEAR": {}, "LOCATION": "x"}
    assert {p.id[-4:] for p in find(raw)} == {"E004", "E007", "E009", "E010"}


@pytest.mark.parametrize(
    ("raw", "message", "hint"),
    [
        (
            {"TTL": {"news.artcle": 5}},
            "['TTL'] names 'news.artcle'",
            "Did you mean 'news.article'?",
        ),
        ({"TTL": {"news.artcle_list": 5}}, "'news.artcle_list'", "mean 'news.article_list'?"),
        ({"IGNORE": ["news.artcle"]}, "['IGNORE'] names 'news.artcle'", "mean 'news.article'?"),
        ({"IGNORE": ["wool"]}, "names 'wool'", "Labels are written 'app_label.Model'."),
    ],
)
def test_labels_of_no_model_are_errors(raw: dict[str, Any], message: str, hint: str) -> None:
    with override_settings(LOOM_CACHE=raw):
        [found] = checks.check_labels()
        assert checks.check_settings() == []
    assert found.id == "loom_cache.E014"
    assert message in found.msg
    assert hint in str(found.hint)


def test_the_models_ignored_by_default_need_not_be_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checks, "_labels", lambda: {"news.article"})
    with override_settings(LOOM_CACHE={}):
        assert checks.check_labels() == []


def test_labels_are_not_judged_while_the_settings_are_wrong() -> None:
    with override_settings(LOOM_CACHE={"TTL": {"wool": 5}, "WOOL": 1}):
        assert checks.check_labels() == []
        assert checks.check_store_is_shared() == []


@pytest.mark.parametrize(
    ("debug", "raw", "warned"),
    [
        (False, {}, True),
        (False, {"LOCATION": "memory://"}, True),
        (True, {}, False),
        (False, {"LOCATION": "redis://127.0.0.1:1/0"}, False),
        (False, aliases(default={"serializer": SERIALIZER}), True),
        (
            False,
            {
                "COUNTER_ALIAS": "n",
                **aliases(default={"cache": "aiocache.RedisCache", "serializer": SERIALIZER}, n={}),
            },
            True,
        ),
    ],
)
def test_memory_is_warned_about_where_there_will_be_several_processes(
    debug: bool, raw: dict[str, Any], warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(mail, "outbox")  # as outside of Django's test runner
    with override_settings(LOOM_CACHE=raw, DEBUG=debug):
        found: list[CheckMessage] = checks.check_store_is_shared()
    assert [message.id for message in found] == (["loom_cache.W001"] if warned else [])
    assert not any(message.is_serious() for message in found)


def test_every_id_is_documented_and_no_other() -> None:
    root = Path(__file__).parent.parent
    ids = re.compile(r"loom_cache\.[EW]\d+")
    used = {
        found for path in root.glob("loom_cache/*.py") for found in ids.findall(path.read_text())
    }
    assert set(ids.findall((root / "docs" / "checks.md").read_text())) == used


def test_every_key_is_documented() -> None:
    text = (Path(__file__).parent.parent / "docs" / "settings.md").read_text()
    table = [line for line in text.splitlines() if line.startswith("| `")]
    for name in CacheConfig.__struct_fields__:
        assert any(f"`{name.upper()}`" in line.split("|")[1] for line in table), name
