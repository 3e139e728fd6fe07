"""What each write refreshes, exactly: every answer that is cached before it is either still warm
after it or read anew, as the table in docs/precision.md says.

LOOM_WRITE_DOCS=1 prints its lines instead of comparing them (with `pytest -s`).
"""

import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Prefetch

from loom_cache import CachedRepository, metrics
from testproject.news.models import Article, Author, Comment, Tag
from tests.cases.questions import Question, described, row

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("rows")]

DOCS = Path(settings.BASE_DIR) / "docs" / "precision.md"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

ADA, BEN = 1_000_001, 1_000_002
ONE, TWO, THREE = 2_000_001, 2_000_002, 2_000_003
LOOM, WOOL = 3_000_001, 3_000_002
FIRST, SECOND = 4_000_001, 4_000_002


class Articles(CachedRepository[Article]):
    model = Article


class Authors(CachedRepository[Author]):
    model = Author


class Comments(CachedRepository[Comment]):
    model = Comment


class Tags(CachedRepository[Tag]):
    model = Tag


articles, authors, comments, tags = Articles(), Authors(), Comments(), Tags()

ANSWERS: dict[str, Question] = {
    "article 1 by pk": row(articles, pk=ONE),
    "article 2 by pk": row(articles, pk=TWO),
    "article 2 by slug": row(articles, slug="two"),
    "no such slug": row(articles, slug="new"),
    "article 1 with its author": Question(
        articles, lambda q: q.select_related("author").filter(pk=ONE), "get_or_none"
    ),
    "article 1 with its tags": Question(
        articles, lambda q: q.prefetch_related("tags").filter(pk=ONE), "get_or_none"
    ),
    "article 2 with its tags": Question(
        articles, lambda q: q.prefetch_related("tags").filter(pk=TWO), "get_or_none"
    ),
    "Ada's articles": Question(articles, lambda q: q.filter(author_id=ADA)),
    "Ben's articles": Question(articles, lambda q: q.filter(author_id=BEN)),
    "Ben's second page": Question(articles, lambda q: q.filter(author_id=BEN)[1:2]),
    "how many Ada has": Question(articles, lambda q: q.filter(author_id=ADA), "count"),
    "how many Ben has": Question(articles, lambda q: q.filter(author_id=BEN), "count"),
    "Ben's published titles": Question(
        articles,
        lambda q: q.filter(author_id=BEN, published=True).values_list("title", flat=True),
    ),
    "the newest articles": Question(articles, lambda q: q.order_by("-created")[:2]),
    "comments on 1": Question(comments, lambda q: q.filter(article_id=ONE)),
    "comments on 2": Question(comments, lambda q: q.filter(article_id=TWO)),
    "how many on 2": Question(comments, lambda q: q.filter(article_id=TWO), "count"),
    "author Ada by pk": row(authors, pk=ADA),
    "Ada with all articles": Question(
        authors, lambda q: q.prefetch_related("articles").filter(pk=ADA), "get_or_none"
    ),
    "Ben with all articles": Question(
        authors, lambda q: q.prefetch_related("articles").filter(pk=BEN), "get_or_none"
    ),
    "tag 'wool' with its articles": Question(
        tags,
        lambda q: q.prefetch_related(Prefetch("articles", to_attr="about")).filter(pk=WOOL),
        "get_or_none",
    ),
}


def article(pk: int = ONE) -> Article:
    return Article.objects.get(pk=pk)


def save_article_1() -> None:
    one = article()
    one.title = "New"
    one.save()


def save_article_1_in_a_transaction() -> None:
    with transaction.atomic():
        save_article_1()


def save_its_title_alone() -> None:
    one = article()
    one.title = "New"
    one.save(update_fields=["title"])


def count_a_view() -> None:
    Article.objects.filter(pk=ONE).update(views=F("views") + 1)


def move_it_to_ben() -> None:
    one = article()
    one.author_id = BEN
    one.save()


def move_it_to_ben_in_a_transaction() -> None:
    with transaction.atomic():
        move_it_to_ben()


def unpublish_it() -> None:
    one = article()
    one.published = False
    one.save(update_fields=["published"])


def create_one_of_ada() -> None:
    Article.objects.create(author_id=ADA, slug="new", title="New", created=NOON)


def bulk_create_two_of_ada() -> None:
    made = [Article(author_id=ADA, slug=slug, title="New", created=NOON) for slug in ("new", "x")]
    Article.objects.bulk_create(made)


def delete_article_1() -> None:
    article().delete()


def update_all_of_ada() -> None:
    Article.objects.filter(author_id=ADA).update(title="New")


def update_by_a_range() -> None:
    Article.objects.filter(views__lt=5).update(title="New")


def comment_on_1() -> None:
    Comment.objects.create(article_id=ONE, author_name="Eve", text="New")


def delete_a_comment_on_1() -> None:
    Comment.objects.get(pk=FIRST).delete()


def delete_all_comments_on_1() -> None:
    Comment.objects.filter(article_id=ONE)._raw_delete("default")


def rename_ada() -> None:
    Author.objects.filter(pk=ADA).update(name="Eda")


def tag_article_1_with_wool() -> None:
    article().tags.add(WOOL)


def clear_the_tags_of_1() -> None:
    article().tags.clear()


def rename_wool() -> None:
    Tag.objects.filter(pk=WOOL).update(name="cotton")


def write_in_sql() -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE news_article SET title = %s WHERE id = %s", ["New", ONE])


WRITES: list[Callable[[], None]] = [
    save_article_1,
    save_article_1_in_a_transaction,
    save_its_title_alone,
    count_a_view,
    move_it_to_ben,
    move_it_to_ben_in_a_transaction,
    unpublish_it,
    create_one_of_ada,
    bulk_create_two_of_ada,
    delete_article_1,
    update_all_of_ada,
    update_by_a_range,
    comment_on_1,
    delete_a_comment_on_1,
    delete_all_comments_on_1,
    rename_ada,
    tag_article_1_with_wool,
    clear_the_tags_of_1,
    rename_wool,
    write_in_sql,
]


@pytest.fixture
def rows(transactional_db: None, store: str) -> None:
    Author.objects.create(pk=ADA, name="Ada")
    Author.objects.create(pk=BEN, name="Ben")
    Tag.objects.create(pk=LOOM, name="loom")
    Tag.objects.create(pk=WOOL, name="wool")
    for at, (pk, slug, author) in enumerate(
        [(ONE, "one", ADA), (TWO, "two", BEN), (THREE, "3", BEN)]
    ):
        made = Article.objects.create(
            pk=pk, slug=slug, title=slug, author_id=author, published=True, created=NOON
        )
        made.created = NOON - timedelta(hours=at)
        made.save()
    article(ONE).tags.add(LOOM)
    article(TWO).tags.add(LOOM, WOOL)
    Comment.objects.create(pk=FIRST, article_id=ONE, author_name="Cat", text="1")
    Comment.objects.create(pk=SECOND, article_id=TWO, author_name="Cat", text="2")


def named(write: Callable[[], None]) -> str:
    return write.__name__.replace("_", " ")


def refreshed(write: Callable[[], None]) -> set[str]:
    """The answers that the write makes unreadable. All are right after it."""
    for _ in range(2):
        with metrics.recording() as events:
            before = {name: described(question.cached()) for name, question in ANSWERS.items()}
    assert {event.outcome for event in events if isinstance(event, metrics.Read)} == {"hit"}
    write()
    fresh = set()
    for name, question in ANSWERS.items():
        with metrics.recording() as events:
            answer = described(question.cached())
        assert answer == described(question.plain()), name
        (read,) = (event for event in events if isinstance(event, metrics.Read))
        if read.outcome != "hit":
            fresh.add(name)
        assert read.outcome != "hit" or answer == before[name]
    return fresh


HEADER = "| write | refreshes, of the answers above |"


def documented() -> dict[str, set[str]]:
    """By the name of a write: the answers that the documentation says it refreshes."""
    found: dict[str, set[str]] = {}
    _, _, table = DOCS.read_text().partition(HEADER)
    for line in table.splitlines()[2:]:
        if not line.startswith("|"):
            break
        write, answers = [cell.strip() for cell in line.split("|")[1:-1]]
        found[write] = set() if answers == "nothing" else set(answers.split(", "))
    return found


@pytest.mark.parametrize("write", WRITES, ids=named)
def test_a_write_refreshes_what_the_documentation_says_and_nothing_else(
    write: Callable[[], None],
) -> None:
    found = refreshed(write)
    if os.environ.get("LOOM_WRITE_DOCS"):
        sys.stderr.write(f"\n| {named(write)} | {', '.join(sorted(found)) or 'nothing'} |")
        return
    assert found == documented()[named(write)]


def test_the_documentation_lists_these_answers_and_writes() -> None:
    text, _, _ = DOCS.read_text().partition(HEADER)
    listed = [line[2:] for line in text.splitlines() if line.startswith("- ")]
    assert [line.partition(":")[0] for line in listed] == list(ANSWERS)
    assert list(documented()) == [named(write) for write in WRITES]
