"""The demonstration: questions asked twice, ordinary writes, and what each made fresh.

Every figure is measured, and every answer is compared with the database's own.
"""

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from asgiref.sync import sync_to_async
from django.db import connection, models
from django.db.models import Count, F, Q

from loom_cache.inspection import counters_of
from testproject.news.models import Article, Comment
from testproject.news.readings import Reading, observe
from testproject.news.repositories import Headline, articles, comments

Print = Callable[[str], object]


@dataclass(frozen=True)
class Question:
    """One question, as it is put to the cache and as it is put to the database."""

    name: str
    cached: Callable[[], Awaitable[object]]
    plain: Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Write:
    """One change, and the line of Django that makes it."""

    name: str
    code: str
    run: Callable[[], Awaitable[object]]


class Demonstration:
    """Asks, writes and asks again; keeps a list of the stale answers it was given."""

    def __init__(self, questions: Sequence[Question], out: Print) -> None:
        self._questions = questions
        self._out = out
        self.compared = 0
        self.stale: list[str] = []

    async def ask_twice(self) -> None:
        first = await self._ask_all("at the first read")
        second = await self._ask_all("at the second read")
        self._out("1. Each question is asked twice, and nothing is written in between.")
        rows = [
            [one.question, _sql(one), _ms(one), _sql(two), _ms(two), _factor(one, two)]
            for one, two in zip(first, second, strict=True)
        ]
        self._table(["question", "1st: SQL", "ms", "2nd: SQL", "ms", "factor"], rows)

    async def write_and_ask(self, writes: Sequence[Write]) -> None:
        self._out("2. Ordinary Django writes, one after the other, and the generations they bump.")
        self._out("")
        columns = []
        for number, write in enumerate(writes, start=1):
            before = await _bumps()
            await write.run()
            after = await _bumps()
            self._out(f"   {number}) {write.name:<16}{write.code}")
            for tag in sorted(before):
                if before[tag] != after.get(tag):
                    self._out(f"      {tag:<48} {before[tag]} -> {after.get(tag)}")
            self._out("")
            columns.append(await self._ask_all(f"after write {number}, {write.name}"))
        self._out("3. What each write made fresh; all else stayed warm, read without any SQL.")
        rows = [
            [question.name, *map(_warmth, readings)]
            for question, *readings in zip(self._questions, *columns, strict=True)
        ]
        self._table(["question", *(f"{n}) {w.name}" for n, w in enumerate(writes, 1))], rows)

    async def _ask_all(self, when: str) -> list[Reading]:
        return [await self._ask(question, when) for question in self._questions]

    async def _ask(self, question: Question, when: str) -> Reading:
        answer, reading = await observe(question.name, question.cached())
        self.compared += 1
        if _facts(answer) != _facts(await question.plain()):
            self.stale.append(f"{question.name}, {when}")
        return reading

    def _table(self, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        lines = [head, *rows]
        self._out("")
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for first, *rest in lines:
            cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
            self._out("   " + "   ".join([first.ljust(widths[0]), *cells]))
        self._out("")


async def run(out: Print) -> Demonstration:
    """Show it all on the sample data that the database holds; `out` is given line after line."""
    discussed = Article.objects.filter(published=True).annotate(n=Count("comments"))
    one, *others = [article async for article in discussed.order_by("-n", "pk")[:20]]
    other = next(article for article in others if article.author_id != one.author_id)
    show = Demonstration(_questions(one, other), out)
    await show.ask_twice()
    await show.write_and_ask(_writes(one))
    return show


def _questions(one: Article, other: Article) -> list[Question]:
    by_author = Q(author_id=one.author_id, published=True)
    return [
        _article(one),
        _article(other),
        Question(
            "articles by its author",
            lambda: articles.filter(by_author).order_by("-created")[:10].alist(),
            lambda: _listed(Article.objects.filter(by_author).order_by("-created")[:10]),
        ),
        Question(
            "number of articles",
            lambda: articles.filter(published=True).acount(),
            lambda: Article.objects.filter(published=True).acount(),
        ),
        _comments(one),
        _comments(other),
        Question(
            "most discussed (@cached_query)",
            lambda: articles.most_discussed(3),
            lambda: _most_discussed(3),
        ),
    ]


def _article(article: Article) -> Question:
    return Question(
        f"article {article.pk}",
        lambda: articles.aget(pk=article.pk),
        lambda: Article.objects.aget(pk=article.pk),
    )


def _comments(article: Article) -> Question:
    return Question(
        f"comments on article {article.pk}",
        lambda: comments.filter(article_id=article.pk).alist(),
        lambda: _listed(Comment.objects.filter(article_id=article.pk, approved=True)),
    )


async def _listed(rows: AsyncIterable[models.Model]) -> list[models.Model]:
    return [row async for row in rows]


async def _most_discussed(limit: int) -> list[Headline]:
    approved = Count("comments", filter=Q(comments__approved=True))
    ranked = Article.objects.filter(published=True).annotate(n=approved).order_by("-n", "pk")
    return [Headline(row.slug, row.title, row.n) async for row in ranked[:limit]]


def _writes(article: Article) -> list[Write]:
    async def save_title() -> None:
        fresh = await Article.objects.aget(pk=article.pk)
        fresh.title = f"{fresh.title}, at last"
        await fresh.asave()

    return [
        Write("a title", 'article.title = "..."; await article.asave()', save_title),
        Write(
            "a comment",
            "await article.comments.acreate(...)",
            lambda: article.comments.acreate(author_name="Ada", text="A fine thread."),
        ),
        Write(
            "raw SQL",
            'cursor.execute("UPDATE news_comment SET text = %s WHERE id = %s", ...)',
            lambda: sync_to_async(_amend_first_comment)(article),
        ),
        Write(
            "an update()",
            'await Article.objects.filter(author=author).aupdate(views=F("views") + 1)',
            lambda: Article.objects.filter(author_id=article.author_id).aupdate(
                views=F("views") + 1
            ),
        ),
    ]


def _amend_first_comment(article: Article) -> None:
    comment = article.comments.filter(approved=True)[0]
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE news_comment SET text = %s WHERE id = %s", [f"{comment.text} (sic)", comment.pk]
        )


@sync_to_async
def _bumps() -> dict[str, int]:
    """How often each generation was bumped since it was seeded: what `loom_cache inspect` shows."""
    labels = ["news.Article", "news.Comment"]
    return {f"{one.model} {one.tag}": one.bumps for one in counters_of(labels).shown}


def _facts(answer: object) -> object:
    """What two answers are compared by: every column of every row, in order."""
    if isinstance(answer, models.Model):
        fields = answer._meta.concrete_fields
        return type(answer), [getattr(answer, field.attname) for field in fields]
    if isinstance(answer, list):
        return [_facts(item) for item in answer]
    return answer


def _sql(reading: Reading) -> str:
    return str(reading.statements)


def _ms(reading: Reading) -> str:
    return f"{reading.milliseconds:.2f}"


def _factor(one: Reading, two: Reading) -> str:
    return f"{one.milliseconds / two.milliseconds:.0f}x"


def _warmth(reading: Reading) -> str:
    return "warm" if reading.outcome == "hit" else f"fresh ({reading.statements} SQL)"
