"""A newspaper as it is at first, and what is asked of it and done to it: by the seed alone.

Pure: no Django, no clock. Rows are numbered from 1 in the order in which they are made, as an empty
database numbers them.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from random import Random

AUTHORS = 500
ARTICLES = 10_000
TAGS = 60
COMMENTS = 20_000

WRITES_IN_TEN = 1
WANTED = 0.99
"""The exponent by which few rows get most of the reads and writes: that of YCSB."""
UNEVEN = 0.5
"""The exponent by which some authors have more articles, and some articles more comments."""

READS = {
    "article by pk": 25,
    "article by slug": 15,
    "articles of an author": 12,
    "articles of an author, page 2": 6,
    "number of an author's articles": 5,
    "articles of an author with tags": 5,
    "article with its author": 7,
    "tags of an article": 5,
    "comments on an article": 12,
    "number of comments on an article": 8,
}
"""How often each is asked, in a hundred reads."""

WRITES = {
    "save an article": 25,
    "save one field": 20,
    "update by query": 10,
    "flip a flag": 6,
    "move an article": 4,
    "add a tag": 4,
    "remove a tag": 3,
    "create a comment": 20,
    "delete a comment": 5,
    "rename an author": 3,
}
"""How often each is done, in a hundred writes."""


@dataclass(frozen=True)
class Operation:
    """One read or write: its kind, and the numbers of the rows that it is about."""

    kind: str
    arguments: tuple[int, ...]

    @property
    def is_write(self) -> bool:
        return self.kind in WRITES


@dataclass
class Newspaper:
    """Who wrote what, which tags it has, and which comments."""

    author_of: dict[int, int] = field(default_factory=dict)
    tags_of: dict[int, list[int]] = field(default_factory=dict)
    comments_of: dict[int, list[int]] = field(default_factory=dict)
    comments: int = 0
    """How many comments have ever been made: the last one's number."""

    def add_comment(self, article: int) -> None:
        self.comments += 1
        self.comments_of[article].append(self.comments)


class Skewed:
    """Chooses a few of `items` often and most of them seldom (Zipf's law)."""

    def __init__(self, items: Sequence[int], exponent: float) -> None:
        self._items = items
        self._sums = list(accumulate(rank**-exponent for rank in range(1, len(items) + 1)))

    def choose(self, random: Random) -> int:
        return self._items[bisect(self._sums, random.random() * self._sums[-1])]


def newspaper(seed: int) -> Newspaper:
    """The newspaper before anything happens."""
    random = Random(f"newspaper {seed}")
    made = Newspaper()
    authors = Skewed(range(1, AUTHORS + 1), UNEVEN)
    for article in range(1, ARTICLES + 1):
        made.author_of[article] = authors.choose(random)
        made.tags_of[article] = random.sample(range(1, TAGS + 1), random.randint(1, 3))
        made.comments_of[article] = []
    discussed = Skewed(_shuffled(random, ARTICLES), UNEVEN)
    for _ in range(COMMENTS):
        made.add_comment(discussed.choose(random))
    return made


def operations(seed: int, number: int) -> list[Operation]:
    """What happens: of each ten operations one, at random, is a write."""
    random = Random(f"operations {seed}")
    happening = _Happening(newspaper(seed), random)
    writes = set(random.sample(range(number), number * WRITES_IN_TEN // 10))
    return [happening.write() if at in writes else happening.read() for at in range(number)]


class _Happening:
    """Makes operations that fit the newspaper as the earlier ones have left it."""

    def __init__(self, paper: Newspaper, random: Random) -> None:
        self._paper = paper
        self._random = random
        self._articles = Skewed(_shuffled(random, ARTICLES), WANTED)
        self._authors = Skewed(range(1, AUTHORS + 1), WANTED)
        self._written = 0
        self._making: dict[str, Callable[[], tuple[int, ...]]] = {
            "move an article": self._move,
            "add a tag": self._add_tag,
            "remove a tag": self._remove_tag,
            "create a comment": self._create_comment,
            "delete a comment": self._delete_comment,
            "rename an author": lambda: (self._author(), self._written),
        }

    def read(self) -> Operation:
        kind = self._one_of(READS)
        about_author = kind.startswith(("articles of an author", "number of an author"))
        return Operation(kind, (self._author() if about_author else self._article(),))

    def write(self) -> Operation:
        self._written += 1
        kind = self._one_of(WRITES)
        make = self._making.get(kind, lambda: (self._article(), self._written))
        return Operation(kind, make())

    def _one_of(self, shares: dict[str, int]) -> str:
        return self._random.choices(list(shares), list(shares.values()))[0]

    def _article(self, fits: Callable[[int], bool] = lambda article: True) -> int:
        while not fits(article := self._articles.choose(self._random)):
            pass
        return article

    def _author(self) -> int:
        return self._authors.choose(self._random)

    def _move(self) -> tuple[int, ...]:
        article, author = self._article(), self._author()
        while author == self._paper.author_of[article]:
            author = self._author()
        self._paper.author_of[article] = author
        return article, author

    def _add_tag(self) -> tuple[int, ...]:
        article = self._article(lambda one: len(self._paper.tags_of[one]) < TAGS)
        has = self._paper.tags_of[article]
        tag = self._random.choice([one for one in range(1, TAGS + 1) if one not in has])
        has.append(tag)
        return article, tag

    def _remove_tag(self) -> tuple[int, ...]:
        article = self._article(lambda one: bool(self._paper.tags_of[one]))
        has = self._paper.tags_of[article]
        return article, has.pop(self._random.randrange(len(has)))

    def _create_comment(self) -> tuple[int, ...]:
        article = self._article()
        self._paper.add_comment(article)
        return article, self._written

    def _delete_comment(self) -> tuple[int, ...]:
        article = self._article(lambda one: bool(self._paper.comments_of[one]))
        has = self._paper.comments_of[article]
        return (has.pop(self._random.randrange(len(has))),)


def _shuffled(random: Random, number: int) -> list[int]:
    return random.sample(range(1, number + 1), number)
