"""Which questions share an answer and which never do (cases 3, 40), and how long one is kept."""

import re
import zoneinfo
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
from django.conf import settings
from django.db.models import (
    CharField,
    Count,
    Exists,
    F,
    Max,
    Min,
    OuterRef,
    Prefetch,
    Q,
    QuerySet,
    Subquery,
    Sum,
    Value,
)
from django.db.models.functions import Concat, Length
from django.test import override_settings
from django.utils import timezone, translation
from django.utils.translation import gettext_lazy

from loom_cache import CachedRepository, bypass, hints
from loom_cache.exceptions import ConfigurationError
from testproject.news.models import Article, Author
from tests.cases import stored
from tests.cases.conftest import Ask, outcomes, statements
from tests.fieldapp.same import assert_same
from tests.library.models import Country, Memo, Shelf, tenant
from tests.services.redis import RedisServer

pytestmark = pytest.mark.django_db(transaction=True)

language: ContextVar[Any] = ContextVar("language", default="en")
section: ContextVar[str] = ContextVar("section", default="")


class Articles(CachedRepository[Article]):
    model = Article


class Countries(CachedRepository[Country]):
    model = Country


class Memos(CachedRepository[Memo]):
    """The manager of its model asks who is there."""

    model = Memo


class StaticMemos(CachedRepository[Memo]):
    model = Memo
    static = True


class ArticlesOfSection(CachedRepository[Article]):
    model = Article

    def get_queryset(self) -> QuerySet[Article]:
        return Article.objects.filter(title__startswith=section.get())


class VaryingArticles(CachedRepository[Article]):
    model = Article

    def vary(self) -> Any:
        return language.get()


class SecondArticles(CachedRepository[Article]):
    model = Article
    version = 2


class PublishedArticles(CachedRepository[Article]):
    queryset = Article.objects.filter(published=True)


class ArticlesElsewhere(CachedRepository[Article]):
    queryset = Article.objects.using("other")


class DeclaredElsewhere(CachedRepository[Article]):
    model = Article
    using = "other"


class Loud(QuerySet[Article]):
    """Of the same SQL, but not of the same objects."""

    def _fetch_all(self) -> None:
        super()._fetch_all()
        for row in self._result_cache or ():
            vars(row)["loud"] = row.title.upper()


class LoudArticles(CachedRepository[Article]):
    queryset = Loud(Article)


articles = Articles()
countries = Countries()
memos: Any = Memos()  # Django's stubs know only QuerySets as arguments


@pytest.fixture(autouse=True)
def process_without_memories() -> None:
    """What questions of a kind depend on is known to nobody yet."""
    hints.forget()


@pytest.fixture
def author() -> Author:
    return Author.objects.create(name="Ada")


@pytest.fixture
def article(author: Author) -> Article:
    return Article.objects.create(author=author, slug="one", title="One")


@contextmanager
def settings_with(**more: Any) -> Iterator[None]:
    """LOOM_CACHE with these keys, too."""
    with override_settings(LOOM_CACHE={**settings.LOOM_CACHE, **more}):
        yield


@contextmanager
def while_set(variable: ContextVar[Any], value: Any) -> Iterator[None]:
    token = variable.set(value)
    yield
    variable.reset(token)


# Look-alikes and odd texts (case 40).

ODD_TEXTS = [
    "",
    " ",
    "one",
    "One",
    "a b",
    "a:b",
    "a\nb",
    "{a}",
    "a%sb",
    "*",
    "ä",
    "a\u0308",
    "日本語",
    "\U0001f9f6",
    "'; DROP TABLE news_article; --",
    "x" * 10_000,
    "x" * 10_001,
]


def test_every_odd_text_is_a_question_of_its_own(ask: Ask, author: Author) -> None:
    for number, text in enumerate(ODD_TEXTS):
        Article.objects.create(author=author, slug=str(number), title="t", body=text)
    for outcome in ("miss", "hit"):
        for number, text in enumerate(ODD_TEXTS):
            with outcomes(outcome):
                found = ask(articles.filter(body=text), "list")
            assert [article.slug for article in found] == [str(number)]
    assert len(stored.entries()) == len(ODD_TEXTS)


def test_keys_are_short_and_plain_whatever_is_asked_for(ask: Ask) -> None:
    for text in ODD_TEXTS:
        ask(articles, "get_or_none", body=text)
        ask(countries, "get_or_none", code=text.replace("\n", " "))
    plain = re.compile(r"[!-~]{1,160}")
    assert all(plain.fullmatch(key) for key in (*stored.entries(), *stored.counters()))


LOOK_ALIKES: list[Any] = [1, "1", True, 1.0, Decimal(1), Decimal("1.0")]


def test_look_alike_values_are_questions_of_their_own(ask: Ask, article: Article) -> None:
    Article.objects.update(views=1)
    for number, value in enumerate(LOOK_ALIKES):
        with outcomes("miss"):
            assert ask(articles.filter(views=value), "list") == [article]
        assert len(stored.entries()) == number + 1


ODD_KEYS = ["{}", "a:", ": ", "*?", "%s", "ä", "日本", "A", "a"]


def test_odd_primary_keys_are_refreshed_one_by_one(ask: Ask) -> None:
    """But for those that differ in case alone: a column may take them for one (citext)."""
    for code in ODD_KEYS:
        Country.objects.create(code=code, name=f"old {code}")
        ask(countries, "get", pk=code)
    for number, code in enumerate(ODD_KEYS):
        Country.objects.filter(pk=code).update(name=f"new {code}")
        for later, other in enumerate(ODD_KEYS):
            with outcomes("miss" if other.lower() == code.lower() else "hit"):
                found = ask(countries, "get", pk=other)
            assert found.name == f"{'new' if later <= number else 'old'} {other}"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"slug": "a", "title": "b"}, {"slug": "b", "title": "a"}),
        ({"slug": "ab", "title": ""}, {"slug": "a", "title": "b"}),
        ({"slug__in": ["a", "b"]}, {"slug__in": ["ab"]}),
        ({"slug__in": ["a,b"]}, {"slug__in": ["a", "b"]}),
        ({"slug": "a"}, {"slug__exact": "b"}),
        ({"slug": "a"}, {"slug__iexact": "a"}),
        ({"pk": 1}, {"views": 1}),
        ({"pk": 1}, {"author": 1}),
    ],
)
def test_different_conditions_never_share_an_entry(
    ask: Ask, one: dict[str, Any], other: dict[str, Any]
) -> None:
    with outcomes("miss", "miss"):
        ask(articles.filter(**one), "list")
        ask(articles.filter(**other), "list")
    assert len(stored.entries()) == 2


def test_filter_and_exclude_never_share_an_entry(ask: Ask, article: Article) -> None:
    assert ask(articles.filter(slug="one"), "list") == [article]
    assert ask(articles.exclude(slug="one"), "list") == []


def test_the_order_of_conditions_does_not_matter(ask: Ask, article: Article) -> None:
    ask(articles.filter(slug="one", title="One"), "list")
    with outcomes("hit"):
        assert ask(articles.filter(title="One", slug="one"), "list") == [article]


# The same columns in other clothes (case 3).

CLOTHES: dict[str, Callable[[Any], Any]] = {
    "rows": lambda q: q.only("title", "created"),
    "deferred": lambda q: q.defer("title"),
    "values": lambda q: q.values("title", "created"),
    "values in another order": lambda q: q.values("created", "title"),
    "values_list": lambda q: q.values_list("title", "created"),
    "values_list in another order": lambda q: q.values_list("created", "title"),
    "named": lambda q: q.values_list("title", "created", named=True),
    "one in a dict": lambda q: q.values("title"),
    "one in a tuple": lambda q: q.values_list("title"),
    "one, flat": lambda q: q.values_list("title", flat=True),
    "one, named": lambda q: q.values_list("title", named=True),
    "by another name": lambda q: q.values(name=F("title")),
    "named by another name": lambda q: q.values_list(Value("x"), "title", named=True),
    "annotated": lambda q: q.annotate(name=F("title")),
    "annotated by another name": lambda q: q.annotate(caption=F("title")),
    "aliased": lambda q: q.alias(name=F("title")),
    "days": lambda q: q.dates("created", "day"),
    "months": lambda q: q.dates("created", "month"),
    "days backwards": lambda q: q.dates("created", "day", order="DESC"),
    "datetimes": lambda q: q.datetimes("created", "day"),
    "with the author": lambda q: q.select_related("author"),
    "with tags": lambda q: q.prefetch_related("tags"),
    "with comments": lambda q: q.prefetch_related("comments"),
    "a slice": lambda q: q.all()[:1],
    "another slice": lambda q: q.all()[:2],
    "the rest": lambda q: q.all()[1:],
    "distinct": lambda q: q.distinct(),
    "backwards": lambda q: q.reverse(),
    "counted": lambda q: q.values("title").annotate(n=Count("pk")),
    "summed": lambda q: q.values("title").annotate(n=Sum("pk")),
}


@pytest.mark.parametrize(
    "base",
    [lambda q: q.all(), lambda q: q.filter(Exists(Author.objects.filter(pk=OuterRef("author"))))],
    ids=["spelled by its arguments", "spelled by its SQL"],
)
def test_the_same_columns_in_other_clothes_never_share_an_entry(
    ask: Ask, author: Author, base: Callable[[Any], Any]
) -> None:
    for number in range(3):
        created = datetime(2026, number + 1, 10, tzinfo=UTC)
        Article.objects.create(author=author, slug=str(number), title="t", created=created)
    for outcome in ("miss", "hit"):
        for clothes in CLOTHES.values():
            with outcomes(outcome):
                found = ask(clothes(base(articles)), "list")
            assert_same(list(clothes(base(Article.objects))), found)


def test_terminals_of_one_chain_never_share_an_entry(ask: Ask, article: Article) -> None:
    asked: dict[str, tuple[Any, ...]] = {
        "list": (),
        "get": (),
        "first": (),
        "last": (),
        "latest": ("pk",),
        "earliest": ("pk",),
        "count": (),
        "exists": (),
        "contains": (article,),
        "aggregate": (Max("views"),),
    }
    for terminal, args in asked.items():
        with outcomes("miss"):
            ask(articles.filter(slug="one"), terminal, *args)
    assert len(stored.entries()) == len(asked)


def test_an_aggregate_by_another_name_comes_by_that_name(ask: Ask, article: Article) -> None:
    for _ in range(2):
        assert ask(articles, "aggregate", most=Max("views")) == {"most": 0}
        assert ask(articles, "aggregate", highest=Max("views")) == {"highest": 0}
        assert ask(articles, "aggregate", most=Min("views")) == {"most": 0}
        assert ask(articles, "aggregate", Max("views")) == {"views__max": 0}
    assert len(stored.entries()) == 4


def test_one_sql_with_another_output_field_is_another_question(ask: Ask, article: Article) -> None:
    def created(**options: Any) -> Any:
        own = Article.objects.filter(pk=OuterRef("pk")).values("created")[:1]
        return lambda q: q.annotate(at=Subquery(own, **options)).values_list("at", flat=True)

    for chain in (created(), created(output_field=CharField())) * 2:
        assert_same(list(chain(Article.objects)), ask(chain(articles), "list"))


def test_expressions_that_differ_in_one_argument_never_share_an_entry(
    ask: Ask, article: Article
) -> None:
    chains: list[Callable[[Any], Any]] = [
        lambda q: q.annotate(x=Concat("title", Value("a"))),
        lambda q: q.annotate(x=Concat("title", Value("b"))),
        lambda q: q.annotate(x=Concat("slug", Value("b"))),
        lambda q: q.annotate(x=Length("title")),
        lambda q: q.filter(Q(title="One") | Q(slug="x")),
        lambda q: q.filter(Q(title="One") & Q(slug="x")),
        lambda q: q.filter(~Q(title="One")),
        lambda q: q.filter(Q(title="One")),
        lambda q: q.order_by(F("views").asc()),
        lambda q: q.order_by(F("views").desc()),
        lambda q: q.order_by(F("editor").asc(nulls_first=True)),
        lambda q: q.order_by(F("editor").asc(nulls_last=True)),
    ]
    for outcome in ("miss", "hit"):
        for chain in chains:
            with outcomes(outcome):
                assert_same(list(chain(Article.objects)), ask(chain(articles), "list"))


# A query is fixed when it is made.


def test_a_chain_method_leaves_the_query_it_is_called_on_as_it_was(
    ask: Ask, article: Article
) -> None:
    query = articles.filter(slug="one")
    query.filter(slug="two").order_by("pk").values("pk").none()
    query.fresh().cache_for(5).using("other")
    assert ask(query, "list") == [article]
    with outcomes("hit"):
        ask(query, "list")


def test_a_list_changed_after_it_was_given_changes_nothing(ask: Ask, article: Article) -> None:
    slugs = ["one"]
    query = articles.filter(slug__in=slugs)
    condition = articles.filter(Q(slug__in=slugs))
    slugs[:] = ["two"]
    assert ask(query, "list") == ask(condition, "list") == [article]


def test_an_iterator_is_read_once_and_answers_always(ask: Ask, article: Article) -> None:
    query = articles.filter(slug__in=(slug for slug in ["one"]))
    for outcome in ("miss", "hit"):
        with outcomes(outcome):
            assert ask(query, "list") == [article]
    with bypass():
        assert ask(query, "list") == [article]


@pytest.mark.parametrize(
    "chain",
    [
        lambda text: articles.filter(title=text),
        lambda text: articles.filter(title__in=[text]),
        lambda text: articles.filter(Q(title=text)),
    ],
)
def test_a_lazy_text_is_what_it_was_when_it_was_given_as_in_django(
    ask: Ask, author: Author, chain: Callable[[Any], Any]
) -> None:
    for text in ("Yes", "Ja"):
        Article.objects.create(author=author, slug=text, title=text)
    query = chain(gettext_lazy("Yes"))
    with translation.override("de"):
        assert [article.slug for article in ask(query, "list")] == ["Yes"]
        assert [article.slug for article in ask(chain(gettext_lazy("Yes")), "list")] == ["Ja"]
    assert [article.slug for article in ask(query, "list")] == ["Yes"]


# Who asks, and where.


@pytest.fixture
def memo_of_each() -> None:
    for owner in ("ada", "ben"):
        Memo.everybodys.create(owner=owner, text=f"{owner}'s")


def texts(rows: Any) -> list[str]:
    return [memo.text for memo in rows]


@pytest.mark.usefixtures("memo_of_each")
def test_a_manager_that_looks_who_asks_is_asked_at_every_read(ask: Ask) -> None:
    for outcome in ("miss", "hit"):
        for owner in ("ada", "ben"):
            with while_set(tenant, owner), outcomes(outcome):
                assert texts(ask(memos, "list")) == [f"{owner}'s"]


@pytest.mark.usefixtures("memo_of_each")
def test_a_row_of_another_tenant_is_not_found_by_its_key(ask: Ask) -> None:
    pk = Memo.everybodys.get(owner="ada").pk
    for _ in range(2):
        with while_set(tenant, "ada"):
            assert ask(memos, "get", pk=pk).text == "ada's"
            assert list(ask(memos, "in_bulk", [pk])) == [pk]
        with while_set(tenant, "ben"):
            assert ask(memos, "get_or_none", pk=pk) is None
            assert ask(memos, "in_bulk", [pk]) == {}


@pytest.mark.usefixtures("memo_of_each")
def test_who_asks_is_looked_at_when_a_query_is_read_not_when_it_is_made(ask: Ask) -> None:
    with while_set(tenant, "ada"):
        query = memos.filter(text__contains="s")
    with while_set(tenant, "ben"):
        assert texts(ask(query, "list")) == ["ben's"]


@pytest.mark.usefixtures("memo_of_each")
def test_a_query_that_looks_who_asks_does_so_as_a_part_of_another(ask: Ask) -> None:
    query = memos.filter(pk__in=memos.values("pk"))
    for owner in ("ada", "ben", "ada"):
        with while_set(tenant, owner):
            assert texts(ask(query, "list")) == [f"{owner}'s"]


class EverybodysMemos(CachedRepository[Memo]):
    queryset = Memo.everybodys.all()


everybodys_memos = EverybodysMemos()

WITHIN: dict[str, Any] = {
    "in": everybodys_memos.filter(pk__in=memos.values("pk")),
    "in a repository": everybodys_memos.filter(pk__in=memos),
    "in a Q": everybodys_memos.filter(Q(pk__in=memos.values("pk"))),
    "in one in another": everybodys_memos.filter(
        pk__in=everybodys_memos.filter(pk__in=memos.values("pk")).values("pk")
    ),
    "in one of another kind": everybodys_memos.filter(
        pk__in=memos.filter(Q(pk__in=Memo.everybodys.all())).values("pk")
    ),
    "intersection": everybodys_memos.intersection(memos),
}


@pytest.mark.usefixtures("memo_of_each")
@pytest.mark.parametrize("query", WITHIN.values(), ids=WITHIN)
def test_who_asks_is_looked_at_by_a_query_within_another(ask: Ask, query: Any) -> None:
    for outcome in ("miss", "hit"):
        for owner in ("ada", "ben"):
            with while_set(tenant, owner), outcomes(outcome):
                assert texts(ask(query, "list")) == [f"{owner}'s"]


class Shelves(CachedRepository[Shelf]):
    model = Shelf


class ShelvesWithMemos(CachedRepository[Shelf]):
    queryset = Shelf.objects.prefetch_related("memos")


shelves = Shelves()

PREFETCHED: dict[str, Any] = {
    "by name": shelves.prefetch_related("memos"),
    "by the base": ShelvesWithMemos().all(),
    "by a Prefetch": shelves.prefetch_related(Prefetch("memos")),
    "by a cached query": shelves.prefetch_related(Prefetch("memos", memos.all())),
    "beyond another": shelves.prefetch_related("below__memos", "memos"),
    "beyond a Prefetch": shelves.prefetch_related(
        Prefetch("below", Shelf.objects.prefetch_related("memos")), "memos"
    ),
    "beyond an attribute": shelves.prefetch_related(
        Prefetch("below", to_attr="under"), "under__memos", "memos"
    ),
}


@pytest.mark.parametrize("query", PREFETCHED.values(), ids=PREFETCHED)
def test_who_asks_is_looked_at_by_the_managers_that_prefetches_go_through(
    ask: Ask, query: Any
) -> None:
    top = Shelf.objects.create(name="top")
    low = Shelf.objects.create(name="low", above=top)
    for owner in ("ada", "ben"):
        for shelf in (top, low):
            Memo.everybodys.create(owner=owner, text=f"{owner}'s", shelf=shelf)
    for outcome in ("miss", "hit"):
        for owner in ("ada", "ben"):
            with while_set(tenant, owner), outcomes(outcome):
                found = ask(query.filter(pk=top.pk), "get")
            assert texts(found.memos.all()) == [f"{owner}'s"]
            below = getattr(found, "under", None) or found._prefetched_objects_cache.get("below")
            for shelf in below or ():
                assert texts(shelf.memos.all()) == [f"{owner}'s"]


def test_a_query_within_another_varies_with_what_its_repository_says(
    ask: Ask, article: Article
) -> None:
    query = articles.filter(pk__in=VaryingArticles().values("pk"))
    for outcome in ("miss", "hit"):
        for spoken in ("en", "de"):
            with while_set(language, spoken), outcomes(outcome):
                assert ask(query, "list") == [article]


def test_a_query_within_another_brings_what_its_repository_depends_on(
    ask: Ask, article: Article
) -> None:
    query = articles.filter(author__in=DependentAuthors().filter(name="Ada"))
    ask(query, "list")
    with outcomes("hit"):
        ask(query, "list")
    Country.objects.create(code="SE")
    with outcomes("miss"):
        ask(query, "list")


class DependentAuthors(CachedRepository[Author]):
    model = Author
    depends_on = (Country,)


def test_a_get_queryset_that_looks_around_is_asked_at_every_read(ask: Ask, author: Author) -> None:
    for title in ("News", "Sports"):
        Article.objects.create(author=author, slug=title, title=title)
    for outcome in ("miss", "hit"):
        for title in ("News", "Sports"):
            with while_set(section, title), outcomes(outcome):
                assert [row.title for row in ask(ArticlesOfSection(), "list")] == [title]


@pytest.mark.usefixtures("memo_of_each")
def test_a_static_base_is_the_same_for_everybody(ask: Ask) -> None:
    """It is what `static` says, right or wrong: whoever asks first asks for all."""
    static = StaticMemos()
    with while_set(tenant, "ada"):
        assert texts(ask(static, "list")) == ["ada's"]
    with while_set(tenant, "ben"), outcomes("hit"):
        assert texts(ask(static, "list")) == ["ada's"]


def test_an_answer_varies_with_what_vary_says(ask: Ask, article: Article) -> None:
    for outcome in ("miss", "hit"):
        for spoken in ("en", "de", None, 1, True, ("en", "de")):
            with while_set(language, spoken), outcomes(outcome):
                assert ask(VaryingArticles(), "get", pk=article.pk) == article


def test_a_vary_without_canonical_form_is_read_each_time(ask: Ask, article: Article) -> None:
    with while_set(language, object()):
        for _ in range(2):
            with statements(1), outcomes("bypass"):
                assert ask(VaryingArticles(), "get", pk=article.pk) == article


def test_another_version_abandons_the_entries_of_the_first(ask: Ask, article: Article) -> None:
    with outcomes("miss", "miss", "hit"):
        for repository in (articles, SecondArticles(), SecondArticles()):
            assert ask(repository, "get", pk=article.pk) == article


def test_repositories_over_other_rows_never_share_an_entry(ask: Ask, article: Article) -> None:
    Article.objects.update(published=False)
    for _ in range(2):
        assert ask(articles, "get_or_none", pk=article.pk) == article
        assert ask(PublishedArticles(), "get_or_none", pk=article.pk) is None


def test_repositories_over_other_kinds_of_queryset_never_share_an_entry(
    ask: Ask, article: Article
) -> None:
    for _ in range(2):
        (plain,) = ask(articles, "list")
        (loud,) = ask(LoudArticles(), "list")
        assert not hasattr(plain, "loud")
        assert loud.loud == "ONE"


def test_the_active_time_zone_is_part_of_the_question(ask: Ask, author: Author) -> None:
    late = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)
    article = Article.objects.create(author=author, slug="late", title="Late", created=late)
    query = articles.filter(created__date=date(2026, 3, 1))
    for outcome in ("miss", "hit"):
        with timezone.override(UTC), outcomes(outcome):
            assert ask(query, "list") == [article]
        with timezone.override(zoneinfo.ZoneInfo("Europe/Paris")), outcomes(outcome):
            assert ask(query, "list") == []


class Both:
    """Everything is read from the alias in `place`, and written there."""

    place: ContextVar[str] = ContextVar("place", default="default")

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return self.place.get()

    db_for_write = db_for_read


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_the_database_is_part_of_the_question(ask: Ask) -> None:
    with override_settings(DATABASE_ROUTERS=[Both()]):
        for place in ("default", "other"):
            with while_set(Both.place, place):
                author = Author.objects.create(name=place)
                Article.objects.create(pk=1, author=author, slug="one", title=place)
        for outcome in ("miss", "hit"):
            for place in ("default", "other"):
                with while_set(Both.place, place), outcomes(outcome):
                    assert ask(articles, "get", pk=1).title == place


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
@pytest.mark.parametrize(
    "query",
    [ArticlesElsewhere().all(), DeclaredElsewhere().all(), articles.using("other")],
    ids=["the base queryset's", "the repository's", "the chain's"],
)
def test_using_says_which_database_is_read(ask: Ask, article: Article, query: Any) -> None:
    assert ask(query, "list") == []
    author = Author.objects.using("other").create(name="Eve")
    Article.objects.using("other").create(author=author, slug="there", title="There")
    (found,) = ask(query, "list")
    assert (found.slug, found._state.db) == ("there", "other")


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_a_cached_query_within_another_reads_from_that_ones_database(ask: Ask) -> None:
    author = Author.objects.using("other").create(name="Eve")
    Article.objects.using("other").create(author=author, slug="there", title="There")
    inner = articles.filter(title="There").values("pk")
    assert len(ask(articles.using("other").filter(pk__in=inner), "list")) == 1


# NAMESPACE.


def test_what_is_stored_begins_with_the_namespace(ask: Ask, article: Article) -> None:
    ask(articles, "get", pk=article.pk)
    space = settings.LOOM_CACHE["NAMESPACE"]
    found = [*stored.entries(), *stored.counters()]
    assert found
    assert all(key.startswith(f"{space}:") for key in found)


def test_namespaces_share_nothing(
    redis_server: RedisServer, ask: Ask, store: str, article: Article
) -> None:
    with settings_with(NAMESPACE="another"), outcomes("miss", "hit"):
        ask(articles, "get", pk=article.pk)
        ask(articles, "get", pk=article.pk)
    with outcomes("miss"):
        ask(articles, "get", pk=article.pk)


def namespace_of_tenant() -> str:
    return tenant.get()


def test_a_namespace_that_is_called_keeps_tenants_apart(ask: Ask, article: Article) -> None:
    with settings_with(NAMESPACE=f"{__name__}.namespace_of_tenant"):
        for outcome in ("miss", "hit"):
            for name in ("", "ada", "a:e:b", "ä", "x" * 100):
                with while_set(tenant, name), outcomes(outcome):
                    assert ask(articles, "get", pk=article.pk) == article


def test_a_write_of_one_tenant_is_seen_by_all(ask: Ask, article: Article) -> None:
    with settings_with(NAMESPACE=f"{__name__}.namespace_of_tenant"):
        for name in ("ada", "ben"):
            with while_set(tenant, name):
                ask(articles, "get", pk=article.pk)
        with while_set(tenant, "ada"):
            Article.objects.update(title="New")
        for name in ("ada", "ben"):
            with while_set(tenant, name):
                assert ask(articles, "get", pk=article.pk).title == "New"


# How long an answer is kept.


class TimedArticles(CachedRepository[Article]):
    model = Article
    ttl = 700
    list_ttl = 70


class Lasting(NamedTuple):
    """What is asked, and for how many seconds the answer is kept."""

    seconds: float
    ask: Callable[[Any], Any]
    repository: CachedRepository[Article] = articles
    settings: dict[str, Any] = {}


TTL = {"TTL": {"News.Article": 400, "news.article_LIST": 40}}
timed = TimedArticles()

LASTING = [
    Lasting(300, lambda q: q.get(slug="one")),
    Lasting(300, lambda q: q.first()),
    Lasting(300, lambda q: q.last()),
    Lasting(300, lambda q: q.latest("pk")),
    Lasting(300, lambda q: q.earliest("pk")),
    Lasting(300, lambda q: q.in_bulk(list(Article.objects.values_list("pk", flat=True)))),
    Lasting(120, list),
    Lasting(120, lambda q: q.count()),
    Lasting(120, lambda q: q.exists()),
    Lasting(120, lambda q: q.aggregate(Max("views"))),
    Lasting(120, lambda q: q.in_bulk()),
    Lasting(120, lambda q: q.page(1, size=5)),
    Lasting(333, lambda q: q.get(slug="one"), settings={"DEFAULT_TTL": 333}),
    Lasting(33, list, settings={"DEFAULT_LIST_TTL": 33}),
    Lasting(400, lambda q: q.get(slug="one"), settings=TTL),
    Lasting(40, list, settings=TTL),
    Lasting(40, lambda q: q.count(), settings=TTL),
    Lasting(700, lambda q: q.get(slug="one"), timed, TTL),
    Lasting(70, list, timed, TTL),
    Lasting(70, lambda q: q.exists(), timed, TTL),
    Lasting(800, lambda q: q.cache_for(800).get(slug="one"), timed, TTL),
    Lasting(8, lambda q: list(q.cache_for(8)), timed, TTL),
    Lasting(8, lambda q: q.filter(slug="one").cache_for(8).count(), timed, TTL),
    Lasting(8, lambda q: q.cache_for(8).page(1, size=5), timed, TTL),
    Lasting(0.5, lambda q: q.cache_for(0.5).get(slug="one")),
    Lasting(10, lambda q: q.get_or_none(slug="nobody's")),
    Lasting(10, lambda q: q.filter(slug="nobody's").first()),
    Lasting(10, lambda q: list(q.filter(slug="nobody's")), timed),
    Lasting(5, lambda q: q.get_or_none(slug="nobody's"), settings={"MISSING_TTL": 5}),
    Lasting(3, lambda q: q.cache_for(3).get_or_none(slug="nobody's")),
]


@contextmanager
def on_redis(server: RedisServer, **more: Any) -> Iterator[None]:
    """A store where it can be seen how long a key has still to live."""
    server.reset()
    given = {"LOCATION": server.url, "TIMEOUT": 5, "TTL_JITTER": 0, **more}
    with override_settings(LOOM_CACHE=given):
        yield


def seconds_left(server: RedisServer) -> list[float]:
    return [server.client.pttl(key) / 1000 for key in stored.entries()]


@pytest.mark.parametrize("lasting", LASTING)
def test_an_answer_is_kept_as_long_as_the_nearest_ttl_says(
    redis_server: RedisServer, article: Article, lasting: Lasting
) -> None:
    with on_redis(redis_server, **lasting.settings):
        lasting.ask(lasting.repository)
        found = seconds_left(redis_server)
    assert found
    for seconds in found:
        assert lasting.seconds * 0.8 < seconds <= lasting.seconds


def test_jitter_only_shortens(redis_server: RedisServer, author: Author) -> None:
    rows = [Article.objects.create(author=author, slug=f"{n}", title="t") for n in range(100)]
    with on_redis(redis_server, TTL_JITTER=0.5, DEFAULT_TTL=1000):
        articles.in_bulk([row.pk for row in rows])
        found = seconds_left(redis_server)
    assert len({int(seconds) for seconds in found}) > 10
    assert all(490 < seconds <= 1000 for seconds in found)


@pytest.mark.parametrize(
    ("location", "cap"), [("memory://", 5), ("memory://?ttl_cap=50", 50), (None, 5)]
)
def test_in_memory_an_answer_is_kept_no_longer_than_the_cap(
    article: Article, location: str | None, cap: int
) -> None:
    given = {"LOCATION": location} if location else {}
    now = [1000.0]
    with (
        override_settings(LOOM_CACHE={**given, "TTL_JITTER": 0}),
        patch("loom_cache.backends.memory.time.monotonic", lambda: now[0]),
    ):
        with outcomes("miss", "hit"):
            articles.get(pk=article.pk)
            now[0] += cap - 0.5
            articles.get(pk=article.pk)
        with outcomes("miss"):
            now[0] += 0.5
            articles.get(pk=article.pk)


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan"), True, "60", None])
def test_cache_for_wants_a_positive_number_of_seconds(seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match="cache_for"):
        articles.cache_for(seconds)


def test_an_answer_kept_for_longer_is_still_refreshed_by_a_write(
    ask: Ask, article: Article
) -> None:
    query = articles.cache_for(100_000)
    ask(query, "get", pk=article.pk)
    Article.objects.update(title="New")
    assert ask(query, "get", pk=article.pk).title == "New"


def test_how_long_an_answer_is_kept_is_no_part_of_the_question(ask: Ask, article: Article) -> None:
    ask(articles.cache_for(50), "get", pk=article.pk)
    with outcomes("hit"):
        assert ask(articles.cache_for(60), "get", pk=article.pk) == article
