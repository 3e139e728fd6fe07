"""The trace's operations as the Django that everybody writes, on the models of the example site.

Reads start from `sources`, which a library may replace; everything else is the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from django.db import connection, models, transaction
from django.db.models import F

from benchmarks import trace
from testproject.news.models import Article, Author, Comment, Tag

FIRST_DAY = datetime(2026, 1, 1, tzinfo=UTC)
BODY = "There is a thread that runs through all of this, if one has the patience to pull it. " * 12
PAGE = 20


@dataclass(frozen=True)
class Sources:
    """What reads start from: Django's managers, or what a library offers in their place."""

    articles: Any
    comments: Any
    tags: Any


class Writing(Protocol):
    """What a library's users do differently when they write."""

    def load(self, model: type[models.Model], pk: int) -> Any:
        """A row that is going to be changed, as the database has it."""

    def update(self, rows: Any, **changes: Any) -> None:
        """Change the rows of a QuerySet by one statement."""


def slug(article: int) -> str:
    return f"article-{article}"


def created(number: int) -> datetime:
    """Later for a higher number: the order of a list is never left to chance."""
    return FIRST_DAY + timedelta(minutes=number)


@transaction.atomic
def fill(paper: trace.Newspaper) -> None:
    """Put the newspaper into an empty database."""
    numbers = range(1, trace.AUTHORS + 1)
    _make(Author, (Author(name=f"Author {n}", email=f"a{n}@example.com") for n in numbers))
    _make(Tag, (Tag(name=f"Tag {n}") for n in range(1, trace.TAGS + 1)))
    _make(Article, (_article(n, author) for n, author in paper.author_of.items()))
    tagging = Article.tags.through
    pairs = ((n, tag) for n, tags in paper.tags_of.items() for tag in tags)
    _make(tagging, (tagging(article_id=article, tag_id=tag) for article, tag in pairs))
    about = sorted((n, article) for article, some in paper.comments_of.items() for n in some)
    _make(Comment, (_comment(article, n) for n, article in about))


def analyse() -> None:
    """Let the database know what it holds, so that it plans alike in every run."""
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")


def _make(model: type[models.Model], rows: Iterable[Any]) -> None:
    model._default_manager.bulk_create(rows, batch_size=1_000)


def _article(number: int, author: int) -> Article:
    return Article(
        author_id=author,
        slug=slug(number),
        title=f"Article {number}",
        body=BODY,
        published=number % 10 != 0,
        created=created(number),
    )


def _comment(article: int, number: int) -> Comment:
    return Comment(
        article_id=article, author_name=f"Reader {number}", text=BODY[:85], created=created(number)
    )


# Reads: each gives what its page would show, so that nothing is left to be loaded later. --------


def _article_by_pk(sources: Sources, article: int) -> Any:
    return sources.articles.get(pk=article)


def _article_by_slug(sources: Sources, article: int) -> Any:
    return sources.articles.get(slug=slug(article))


def _newest_of(sources: Sources, author: int) -> Any:
    return sources.articles.filter(author_id=author).order_by("-created")


def _articles_of_an_author(sources: Sources, author: int) -> Any:
    return list(_newest_of(sources, author)[:PAGE])


def _second_page(sources: Sources, author: int) -> Any:
    return list(_newest_of(sources, author)[PAGE : 2 * PAGE])


def _articles_with_tags(sources: Sources, author: int) -> Any:
    found = _newest_of(sources, author).prefetch_related("tags")[:PAGE]
    return [[article, *article.tags.all()] for article in found]


def _number_of_articles(sources: Sources, author: int) -> Any:
    return sources.articles.filter(author_id=author, published=True).count()


def _article_with_author(sources: Sources, article: int) -> Any:
    found = sources.articles.select_related("author").get(pk=article)
    return [found, found.author]


def _tags_of_an_article(sources: Sources, article: int) -> Any:
    return list(sources.tags.filter(articles=article))


def _comments_on_an_article(sources: Sources, article: int) -> Any:
    return list(sources.comments.filter(article_id=article).order_by("created"))


def _number_of_comments(sources: Sources, article: int) -> Any:
    return sources.comments.filter(article_id=article).count()


READS: dict[str, Callable[[Sources, int], Any]] = {
    "article by pk": _article_by_pk,
    "article by slug": _article_by_slug,
    "articles of an author": _articles_of_an_author,
    "articles of an author, page 2": _second_page,
    "number of an author's articles": _number_of_articles,
    "articles of an author with tags": _articles_with_tags,
    "article with its author": _article_with_author,
    "tags of an article": _tags_of_an_article,
    "comments on an article": _comments_on_an_article,
    "number of comments on an article": _number_of_comments,
}


def plain(answer: Any) -> Any:
    """The answer as plain data: two answers are the same if these are."""
    if isinstance(answer, list):
        return [plain(item) for item in answer]
    if isinstance(answer, models.Model):
        return [getattr(answer, column.attname) for column in answer._meta.concrete_fields]
    return answer


# Writes. ----------------------------------------------------------------------------------------


def _save_an_article(writing: Writing, article: int, number: int) -> None:
    row = writing.load(Article, article)
    row.title = f"Article {article}, edition {number}"
    row.views += 1
    row.save()


def _save_one_field(writing: Writing, article: int, _number: int) -> None:
    row = writing.load(Article, article)
    row.views += 1
    row.save(update_fields=["views"])


def _update_by_query(writing: Writing, article: int, _number: int) -> None:
    writing.update(Article.objects.filter(pk=article), views=F("views") + 1)


def _flip_a_flag(writing: Writing, article: int, _number: int) -> None:
    row = writing.load(Article, article)
    row.published = not row.published
    row.save(update_fields=["published"])


def _move_an_article(writing: Writing, article: int, author: int) -> None:
    row = writing.load(Article, article)
    row.author_id = author
    row.save()


def _add_a_tag(writing: Writing, article: int, tag: int) -> None:
    writing.load(Article, article).tags.add(tag)


def _remove_a_tag(writing: Writing, article: int, tag: int) -> None:
    writing.load(Article, article).tags.remove(tag)


def _create_a_comment(_writing: Writing, article: int, number: int) -> None:
    _comment(article, trace.COMMENTS + number).save()


def _delete_a_comment(writing: Writing, comment: int) -> None:
    writing.load(Comment, comment).delete()


def _rename_an_author(writing: Writing, author: int, number: int) -> None:
    row = writing.load(Author, author)
    row.name = f"Author {author}, once more {number}"
    row.save()


WRITES: dict[str, Callable[..., None]] = {
    "save an article": _save_an_article,
    "save one field": _save_one_field,
    "update by query": _update_by_query,
    "flip a flag": _flip_a_flag,
    "move an article": _move_an_article,
    "add a tag": _add_a_tag,
    "remove a tag": _remove_a_tag,
    "create a comment": _create_a_comment,
    "delete a comment": _delete_a_comment,
    "rename an author": _rename_an_author,
}
