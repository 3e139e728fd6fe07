"""`manage.py loom_cache verify`: what is cached is compared with what the database says."""

import enum
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any
from unittest.mock import patch
from uuid import UUID

import msgspec
import pytest
from asgiref.sync import async_to_sync
from django.core.management import CommandError, call_command
from django.db.models import Count, F, Q, Sum
from django.test import override_settings
from django.utils import timezone

from loom_cache import CachedRepository, cached_query, confidence, entries, metrics, verifying
from loom_cache.comparing import Verdict, compared
from loom_cache.plans import RowsPlan
from loom_cache.questions import CALL, MAX_BYTES, QUERY
from loom_cache.rebuilding import NotVerifiable, asked_again
from loom_cache.verifying import IN_CONTEXT, Report, verify
from testproject.news.models import Article, Author, Comment, Tag
from tests.cases import stored
from tests.cases.interleaving import Elsewhere, committed_but_not_bumped, elsewhere
from tests.services.redis import RedisServer

__all__ = ["elsewhere"]

pytestmark = pytest.mark.django_db(transaction=True)

ONE, TWO, THREE = 1_000_001, 1_000_002, 1_000_003


class Kind(enum.Enum):
    NEWS = "news"


class Articles(CachedRepository[Article]):
    model = Article

    @cached_query(depends_on=[Article])
    def titles(self, author: int) -> list[str]:
        written = Article.objects.filter(author_id=author).order_by("pk")
        return list(written.values_list("title", flat=True))

    @cached_query(depends_on=[Article])
    async def title(self, pk: int) -> str | None:
        row = await self.filter(pk=pk).aget_or_none()
        return None if row is None else row.title

    @cached_query
    def echo(self, value: object) -> str:
        return repr(value)

    def burn(self) -> None:
        called.append("burn")

    def _burn(self) -> None:
        called.append("_burn")


class OfTenant(CachedRepository[Article]):
    model = Article

    def vary(self) -> str:
        return tenant.get()


articles, of_tenant = Articles(), OfTenant()
tenant: ContextVar[str] = ContextVar("tenant", default="")
called: list[str] = []
wait_for_invalidations = verifying._wait_for_invalidations


@pytest.fixture(autouse=True)
def store(request: pytest.FixtureRequest) -> Iterator[None]:
    """An empty store, and in the database an author with three articles."""
    location = "memory://?ttl_cap=600"
    if getattr(request, "param", "memory") == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        server.reset()
        location = server.url
    settings = {"LOCATION": location, "TIMEOUT": 5, "WRITE_TIMEOUT": 5}
    with (
        override_settings(LOOM_CACHE=settings),
        patch.object(verifying, "_wait_for_invalidations"),
    ):
        author = Author.objects.create(pk=ONE, name="Ada")
        tag = Tag.objects.create(name="tag")
        for pk, slug in ((ONE, "one"), (TWO, "two"), (THREE, "three")):
            made = Article.objects.create(pk=pk, author=author, slug=slug, title=slug)
            made.tags.add(tag)
        called.clear()
        yield


in_each_store = pytest.mark.parametrize("store", ["memory", "redis"], indirect=True)


def run(*arguments: str) -> str:
    """What the command says."""
    said = StringIO()
    call_command("loom_cache", "verify", *arguments, stdout=said, stderr=StringIO())
    return said.getvalue()


def failing(*arguments: str) -> tuple[str, str]:
    """What the command says, and what it complains of."""
    said = StringIO()
    with pytest.raises(CommandError) as raised:
        call_command("loom_cache", "verify", *arguments, stdout=said, stderr=StringIO())
    return said.getvalue(), str(raised.value)


def retitle(pk: int = ONE, title: str = "unseen") -> None:
    """Behind Django's back."""
    stored.run_unseen(f"UPDATE news_article SET title = '{title}' WHERE id = {pk}")


def article(pk: int = ONE) -> Article:
    return articles.get(pk=pk)


# What can be verified. ----------------------------------------------------------------------------

QUESTIONS: dict[str, Callable[[], object]] = {
    "get": article,
    "get_or_none of a row that is there": lambda: articles.filter(slug="one").get_or_none(),
    "get_or_none of none": lambda: articles.get_or_none(pk=7),
    "aget": lambda: async_to_sync(articles.aget)(pk=ONE),
    "list": lambda: list(articles.all()),
    "alist": lambda: async_to_sync(articles.filter(author_id=ONE).alist)(),
    "an empty list": lambda: list(articles.filter(author_id=7)),
    "none": lambda: list(articles.none()),
    "slice": lambda: list(articles.order_by("title")[1:3]),
    "slice with a step": lambda: list(articles.order_by("pk")[0:3:2]),
    "first": lambda: articles.first(),
    "last": lambda: articles.order_by("title").last(),
    "latest": lambda: articles.latest("created"),
    "earliest": lambda: articles.earliest("created", "pk"),
    "count": lambda: articles.count(),
    "exists": lambda: articles.filter(title="x").exists(),
    "contains": lambda: articles.contains(Article.objects.get(pk=ONE)),
    "aggregate": lambda: articles.aggregate(n=Count("pk", distinct=True), views=Sum("views")),
    "in_bulk by primary key": lambda: articles.in_bulk([ONE, 7]),
    "in_bulk by slug": lambda: articles.in_bulk(["one", "two"], field_name="slug"),
    "in_bulk of all": lambda: articles.filter(author_id=ONE).in_bulk(),
    "page": lambda: articles.order_by("pk").page(1, size=2),
    "values": lambda: list(articles.values("pk", "title")),
    "values_list": lambda: list(articles.values_list("pk", "title", named=True)),
    "flat values, distinct": lambda: list(articles.values_list("author", flat=True).distinct()),
    "dates": lambda: list(articles.dates("created", "year")),
    "datetimes": lambda: list(articles.datetimes("created", "day")),
    "relations": lambda: list(articles.select_related("author").prefetch_related("tags")),
    "only, exclude, reverse": lambda: list(articles.exclude(pk=TWO).only("title").reverse()),
    "defer, using": lambda: list(articles.using("default").defer("body")),
    "annotate": lambda: list(
        articles.annotate(n=Count("tags", filter=Q(tags__name="tag"))).order_by(F("n").desc())
    ),
    "alias": lambda: list(articles.alias(more=F("views") + 1).filter(more__gt=0)),
    "Q": lambda: list(articles.filter(Q(views=0) & ~Q(title="x"), author__name="Ada")),
    "a query within": lambda: list(articles.filter(pk__in=articles.filter(views=0).values("pk"))),
    "union": lambda: list(
        articles.filter(pk=ONE).order_by().union(articles.filter(pk=TWO).order_by())
    ),
    "an instance": lambda: list(articles.filter(author=Author.objects.get(pk=ONE))),
    "moments": lambda: list(articles.filter(created__gt=datetime(2020, 1, 1, tzinfo=UTC))),
    "a method": lambda: articles.titles(ONE),
    "an asynchronous method": lambda: async_to_sync(articles.title)(ONE),
}


@in_each_store
def test_every_kind_of_answer_is_found_right() -> None:
    for name, ask in QUESTIONS.items():
        stored.remove(*stored.entries())
        with metrics.recording() as events:
            ask()
            ask()  # what a method depends on shows when it is asked first
        read = [event for event in events if isinstance(event, metrics.Read)]
        assert read[-1].outcome == "hit", name
        number = len(stored.entries())
        assert number > 0, name
        assert verify() == Report(right=number), name


VALUES: list[object] = [
    *(None, True, 7, 2**80, 0.5, "text", b"bytes", Decimal("1.50")),
    *(UUID(int=7), date(2026, 1, 2), datetime(2026, 1, 2, 3, 4, tzinfo=UTC), timedelta(days=1)),
    *([1, "two"], (1, None), {"a": [1]}, frozenset((1, 2)), Kind.NEWS, [Kind.NEWS]),
]


def test_every_plain_value_may_be_an_argument() -> None:
    for value in VALUES:
        articles.echo(value)
        articles.echo(value)
    assert len(stored.entries()) == len(VALUES)
    report = verify()
    assert report.right == len(VALUES) - 1
    assert report.not_verifiable == {"its question has an argument that cannot be written down": 1}


def test_verifying_neither_reads_the_cache_nor_fills_it() -> None:
    async_to_sync(articles.title)(ONE)
    async_to_sync(articles.title)(ONE)
    before = stored.entries()
    with metrics.recording() as events:
        verify()
    reads = [event for event in events if isinstance(event, metrics.Read)]
    assert [event.outcome for event in reads] == ["bypass"], "the one inside the method"
    assert stored.entries() == before


# Wrong entries. -----------------------------------------------------------------------------------


@pytest.mark.parametrize("within", [lambda one: one, lambda one: [one], lambda one: Q(author=one)])
def test_instances_in_a_question_are_shown_by_their_keys(within: Callable[[Author], Any]) -> None:
    """Of one that has nothing else `__str__` cannot be asked; it might read the database."""

    def refuse(author: Author) -> str:
        raise ZeroDivisionError

    author = Author.objects.get(pk=ONE)
    given = within(author)
    query = {
        Q: lambda: articles.filter(given),
        list: lambda: articles.filter(author__in=given),
    }.get(type(given), lambda: articles.filter(author=given))()
    list(query)
    with patch.object(Author, "__str__", refuse):
        assert verify().right == 1


@pytest.mark.parametrize("kind", [Articles, Author])
def test_what_the_projects_own_classes_raise_is_no_error_of_the_command(kind: type) -> None:
    list(articles.filter(author=Author.objects.get(pk=ONE)))
    with patch.object(kind, "__init__", side_effect=RuntimeError("There is no tenant.")):
        report = verify()
    assert report.not_verifiable == {"its question cannot be read": 1}


def test_a_wrong_entry_is_shown_as_code_with_both_answers_and_is_an_error() -> None:
    article()
    list(articles.filter(author_id=ONE).order_by("pk")[:2])
    article(TWO)
    retitle()
    said, complaint = failing()
    assert "Wrong: Articles.filter(pk=1000001).aget()" in said
    assert "Wrong: Articles.filter(author_id=1000001).order_by('pk')[:2].alist()" in said
    assert said.count("the cache says     news.Article 1000001: title='one'\n") == 2
    assert said.count("the database says  news.Article 1000001: title='unseen'\n") == 2
    assert "1 of 3 verified entries were right" in said
    assert complaint.startswith("2 entries are wrong. Somebody writes past Django")


@in_each_store
def test_repair_has_wrong_entries_read_no_more() -> None:
    article()
    articles.titles(ONE)
    articles.titles(ONE)
    retitle()
    assert article().title == "one"
    said, complaint = failing("--repair")
    assert "Repaired: bumped" in said
    assert complaint == "2 entries are wrong; what they depend on has been invalidated."
    assert article().title == "unseen"
    assert articles.titles(ONE)[0] == "unseen"
    assert verify().mismatches == []


def test_without_repair_nothing_is_bumped() -> None:
    article()
    retitle()
    before = stored.counters()
    failing()
    assert stored.counters() == before


Plant = tuple[Callable[[], object], str, str, str]

GONE = (
    f"DELETE FROM news_article_tags WHERE article_id = {ONE};"
    f"DELETE FROM news_article WHERE id = {ONE}"
)
PLANTS: dict[str, Plant] = {
    "a row that is gone": (
        article,
        GONE,
        "news.Article 1000001",
        "no such row",
    ),
    "a row that is there now": (
        lambda: articles.get_or_none(slug="new"),
        f"UPDATE news_article SET slug = 'new' WHERE id = {ONE}",
        "no such row",
        "news.Article 1000001",
    ),
    "two rows instead of one": (
        lambda: articles.get(title="one"),
        f"UPDATE news_article SET title = 'one' WHERE id = {TWO}",
        "[news.Article 1000001]",
        "raises Article.MultipleObjectsReturned",
    ),
    "a row more": (
        lambda: list(articles.filter(title="one")),
        f"UPDATE news_article SET title = 'one' WHERE id = {TWO}",
        "no such row",
        "news.Article 1000002",
    ),
    "a number": (
        lambda: articles.filter(title="one").count(),
        f"UPDATE news_article SET title = 'one' WHERE id = {TWO}",
        "1",
        "2",
    ),
    "values": (
        lambda: list(articles.order_by("pk").values_list("title", flat=True)[:1]),
        f"UPDATE news_article SET title = 'new' WHERE id = {ONE}",
        "['one']",
        "['new']",
    ),
    "a relation": (
        lambda: list(articles.filter(pk=ONE).select_related("author")),
        f"UPDATE news_author SET name = 'Eve' WHERE id = {ONE}",
        "news.Article 1000001: author=(news.Author 1000001: name='Ada')",
        "news.Article 1000001: author=(news.Author 1000001: name='Eve')",
    ),
    "what a method returns": (
        lambda: (articles.titles(ONE), articles.titles(ONE)),
        f"UPDATE news_article SET title = 'new' WHERE id = {ONE}",
        "['one', 'two', 'three']",
        "['new', 'two', 'three']",
    ),
}


@pytest.mark.parametrize(("ask", "write", "cached", "now"), PLANTS.values(), ids=PLANTS)
def test_whatever_was_written_unseen_is_found(
    ask: Callable[[], object], write: str, cached: str, now: str
) -> None:
    ask()
    for statement in write.split(";"):
        stored.run_unseen(statement)
    (wrong,) = verify().mismatches
    assert (wrong.cached, wrong.database) == (cached, now)


def test_a_method_is_asked_past_the_cached_reads_that_it_makes() -> None:
    async_to_sync(articles.title)(ONE)
    async_to_sync(articles.title)(ONE)
    retitle()
    wrong = verify().mismatches
    assert {one.question for one in wrong} == {
        f"Articles.title({ONE})",
        f"Articles.filter(pk={ONE}).aget_or_none()",
    }


# Races. -------------------------------------------------------------------------------------------


@contextmanager
def written_at(step: int, write: Callable[[], object]) -> Iterator[None]:
    """`write` happens at the step: before (even) or after (odd) the database is asked."""
    steps: list[None] = []
    ask = verifying._asked_now

    def asking(plan: Any) -> Any:
        for moment in ("before", "after"):
            if len(steps) == step:
                write()
            steps.append(None)
            if moment == "before":
                answer = ask(plan)
        return answer

    with patch.object(verifying, "_asked_now", asking):
        yield


def seen_write() -> None:
    Article.objects.filter(pk=ONE).update(title="seen")


@pytest.mark.parametrize("step", range(4))
def test_a_write_while_an_entry_is_looked_at_is_no_mismatch(step: int) -> None:
    article()
    if step > 0:
        retitle()  # so that there is a second look
    with written_at(step, seen_write):
        report = verify()
    assert report == Report(changed=1)


def test_an_invalidation_that_is_on_its_way_is_waited_for(elsewhere: Elsewhere) -> None:
    article()
    with ExitStack() as until_bumped:
        until_bumped.enter_context(committed_but_not_bumped(elsewhere, seen_write))
        with patch.object(verifying, "_wait_for_invalidations", lambda _: until_bumped.close()):
            report = verify()
    assert report == Report(changed=1)


def test_it_waits_as_long_as_an_invalidation_may_take() -> None:
    with patch.object(verifying, "time") as clock:
        clock.monotonic.return_value = 101.0
        wait_for_invalidations(100.0)
    clock.sleep.assert_called_once_with(4.0)


def test_a_database_that_says_something_else_each_time_is_no_mismatch() -> None:
    article()
    retitle()
    with written_at(2, lambda: retitle(title="again")):
        assert verify() == Report(changed=1)


# What cannot be verified. -------------------------------------------------------------------------


def _old_entry() -> None:
    article()
    for key, data in stored.entries().items():
        stored.put(key, msgspec.msgpack.encode(msgspec.msgpack.decode(data)[:3]))


def _of_another_tenant() -> None:
    token = tenant.set("another")
    of_tenant.get(pk=ONE)
    tenant.reset(token)


def _in_another_time_zone() -> None:
    with timezone.override("Europe/Stockholm"):
        article()


REASONS: dict[str, tuple[Callable[[], object], str]] = {
    "an entry of an older release": (
        _old_entry,
        "it was stored by a release that noted no question",
    ),
    "another tenant": (_of_another_tenant, IN_CONTEXT),
    "another time zone": (_in_another_time_zone, IN_CONTEXT),
    "a QuerySet as an argument": (
        lambda: list(articles.filter(author__in=Author.objects.all())),
        "its question has an argument of type django.db.models.query.QuerySet",
    ),
    "an instance as the argument of a method": (
        lambda: [articles.echo(value=Article.objects.get(pk=ONE)) for _ in range(2)],
        "its question has an argument of type testproject.news.models.Article",
    ),
    "a list of many keys": (
        lambda: list(articles.filter(pk__in=list(range(MAX_BYTES)))),
        "its question has arguments that are longer than the cache keeps",
    ),
}


@pytest.mark.parametrize(("ask", "reason"), REASONS.values(), ids=REASONS)
def test_what_cannot_be_verified_is_counted_with_the_reason(
    ask: Callable[[], object], reason: str
) -> None:
    ask()
    assert verify() == Report(not_verifiable=Counter({reason: 1}))
    said = run()
    assert f"  {reason}" in said
    assert "No entry could be verified." in said


def test_an_entry_without_a_question_is_a_hit() -> None:
    _old_entry()
    with metrics.recording() as events:
        article()
    assert [event.outcome for event in events if isinstance(event, metrics.Read)] == ["hit"]


def _asking(name: str, steps: Any = (), terminal: str = "get", *rest: Any) -> list[Any]:
    return [QUERY, name, None, list(steps), terminal, *(rest or ([], {}))]


HERE = f"{__name__}:Articles"
TAMPERED: dict[str, Any] = {
    "an unknown class": _asking("os:system", [["filter", ["rm"]]]),
    "a class that is no repository": _asking(f"{__name__}:Kind"),
    "a private method": _asking(HERE, [["_burn", []]]),
    "a method of its own in the chain": _asking(HERE, [["burn", []]]),
    "a method of QuerySet": _asking(HERE, [["delete", []]]),
    "raw SQL": _asking(HERE, [["raw", ["DROP TABLE news_article"]]]),
    "another terminal": _asking(HERE, [], "delete"),
    "a private terminal": _asking(HERE, [], "_raw_delete", ["default"], {}),
    "a connector": _asking(HERE, [["filter", [], {"pk": ONE, "_connector": "OR 1=1 OR"}]]),
    "a connector of Q": _asking(HERE, [["filter", [["?Q", "OR 1=1 OR", False, []]]]]),
    "an operator": _asking(
        HERE,
        [["annotate", [], {"x": ["?x", "CombinedExpression", [1, "); DROP", 2], {}]}]],
    ),
    "SQL in an expression": _asking(
        HERE, [], "aggregate", [], {"n": ["?x", "Count", ["pk"], {"template": "1; DROP"}]}
    ),
    "an expression that is not known": _asking(
        HERE, [], "aggregate", [], {"n": ["?x", "RawSQL", ["1", []], {}]}
    ),
    "an enumeration that is not there": _asking(HERE, [["filter", [["?n", "os:path", 1]]]]),
    "a field that is no name": _asking(HERE, [["order_by", ['title" ; DROP']]]),
    "a call of a method that is not decorated": [CALL, HERE, "burn", [], {}],
    "a call of a private method": [CALL, HERE, "_burn", [], {}],
    "a call of what there is not": [CALL, HERE, "nothing", [], {}],
    "no question at all": {"a": 1},
    "a number": 7,
    "values that are none": _asking(HERE, [["filter", [["?", 1], [], [[]]]]]),
}


def _is_refused(question: Any) -> bool:
    try:
        asked_again(msgspec.Raw(msgspec.msgpack.encode(question)))
    except NotVerifiable:
        return True
    return False


def test_a_tampered_question_is_refused_whatever_key_it_leads_to() -> None:
    assert {name for name, question in TAMPERED.items() if not _is_refused(question)} == set()
    assert called == []


def test_a_tampered_question_is_not_verifiable_and_nothing_is_called() -> None:
    article()
    ((key, data),) = stored.entries().items()
    entry = entries.read(data)
    assert entry is not None
    another = _asking(HERE, [["filter", [], {"pk": TWO}]])
    for name, question in {**TAMPERED, "another question": another}.items():
        raw = msgspec.Raw(msgspec.msgpack.encode(question))
        made = entries.write(entry.incarnation, entry.generations, bytes(entry.body), raw)
        stored.put(key, made)
        with patch.object(verifying, "_asked_now") as asked:
            report = verify()
        assert report == Report(not_verifiable=report.not_verifiable), name
        assert (report.not_verifiable.total(), asked.called, called) == (1, False, []), name


# Which entries. -----------------------------------------------------------------------------------


@in_each_store
def test_what_no_reader_would_be_given_is_not_compared() -> None:
    article()
    seen_write()
    article(TWO)
    retitle(title="unseen")
    assert verify() == Report(right=1, not_readable=1)


def test_what_is_not_readable_counts_as_that_whatever_it_asks() -> None:
    _of_another_tenant()
    seen_write()
    assert verify() == Report(not_readable=1)


def test_an_entry_that_is_damaged_is_not_compared() -> None:
    article()
    for key in stored.entries():
        stored.put(key, b"damaged")
    assert verify() == Report(not_readable=1)


def test_an_entry_of_another_life_of_the_server_is_not_compared() -> None:
    article()
    for key, data in stored.entries().items():
        entry = entries.read(data)
        assert entry is not None
        made = entries.write("another", entry.generations, bytes(entry.body), entry.question)
        stored.put(key, made)
    assert verify() == Report(not_readable=1)


class Comments(CachedRepository[Comment]):
    model = Comment


def test_labels_say_whose_entries_are_looked_at() -> None:
    article()
    Comments().count()
    assert verify(["news.Comment"]) == Report(right=1)
    assert verify(["news"]) == Report(right=2)
    assert verify(["auth"]) == Report()
    with pytest.raises(CommandError, match=r"Did you mean 'news\.Article'"):
        run("news.Artcle")


@in_each_store
def test_a_sample_looks_at_so_many_entries() -> None:
    for pk in (ONE, TWO, THREE):
        article(pk)
    assert verify(sample=2) == Report(right=2)
    assert verify(sample=7) == Report(right=3)
    assert "2 of 2 verified entries" in run("--sample", "2")


def test_a_sample_picks_any_entry() -> None:
    keys = [f"e:news.article:{at}" for at in range(5)]
    found = {key for _ in range(300) for key in verifying._chosen(keys, None, 1)}
    assert found == set(keys)


# What is said. ------------------------------------------------------------------------------------


def test_right_entries_are_no_error_and_say_how_much_they_show() -> None:
    article()
    assert run() == (
        "ENTRIES                COUNT\n"
        "right                  1\n"
        "wrong                  0\n"
        "changed meanwhile      0\n"
        "not readable any more  0\n"
        "not verifiable         0\n"
        "\n"
        "1 of 1 verified entries were right: at least 5 % with 95 % confidence.\n"
    )


def test_as_json_it_gives_every_number_and_every_mismatch() -> None:
    article()
    article(TWO)
    retitle()
    said, _ = failing("--format", "json")
    found = json.loads(said)
    (wrong,) = found.pop("mismatches")
    assert found == {
        "right": 1,
        "wrong": 1,
        "changed_meanwhile": 0,
        "not_readable": 0,
        "not_verifiable": {},
        "at_least": 0.025321,
        "confidence": 0.95,
        "nines": 0,
        "repaired": None,
    }
    assert wrong["question"] == f"Articles.filter(pk={ONE}).aget()"
    assert f"g:{{news_article}}:id:{ONE}" in wrong["tags"]


BOUNDS = [(2000, 0, "99.85 %", 2), (1998, 2, "99.68 %", 2), (300_000, 0, "99.99900 %", 5)]


@pytest.mark.parametrize(("right", "wrong", "said", "nines"), BOUNDS)
def test_the_bound_is_the_exact_binomial_one(right: int, wrong: int, said: str, nines: int) -> None:
    share = confidence.least_share(right, wrong)
    assert (confidence.percent(share), confidence.nines(share)) == (said, nines)


# Orders that a query leaves open. -----------------------------------------------------------------


def _rows(*views: int) -> list[Article]:
    made = [Article(pk=pk, views=n) for pk, n in zip((ONE, TWO, THREE), views, strict=False)]
    for row in made:
        row._state.adding = False
    return made


def test_rows_that_tie_may_come_in_any_order() -> None:
    one, two = _rows(0, 0)
    plan = RowsPlan(articles.order_by("views"), "list")
    assert compared(plan, [one, two], [two, one]) is Verdict.SAME


def test_rows_that_do_not_tie_come_in_theirs() -> None:
    one, two = _rows(0, 1)
    plan = RowsPlan(articles.order_by("views"), "list")
    assert compared(plan, [one, two], [two, one]) is Verdict.OTHER


def test_rows_that_are_ordered_by_primary_key_come_in_one_order() -> None:
    one, two = _rows(0, 0)
    plan = RowsPlan(articles.order_by("views", "pk"), "list")
    assert compared(plan, [one, two], [two, one]) is Verdict.OTHER


def test_which_of_the_rows_that_tie_a_slice_takes_is_undecided() -> None:
    one, two = _rows(0, 0)
    plan = RowsPlan(articles.order_by("views")[:1], "list")
    assert compared(plan, [one], [two]) is Verdict.UNDECIDED


def test_a_slice_that_leaves_out_a_row_before_its_rows_is_another_answer() -> None:
    one, two = _rows(0, 1)
    plan = RowsPlan(articles.order_by("views")[:1], "list")
    assert compared(plan, [two], [one]) is Verdict.OTHER


def test_a_row_with_other_contents_is_another_answer_whatever_ties() -> None:
    one, two = _rows(0, 0)
    (again,) = _rows(0)
    again.title = "other"
    plan = RowsPlan(articles.order_by("views")[:2], "list")
    assert compared(plan, [one, two], [two, again]) is Verdict.OTHER
