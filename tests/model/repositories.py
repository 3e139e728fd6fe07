"""The repositories that the model-based test asks, by the names that its questions use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import Avg, Count

from loom_cache import CachedRepository, cached_query
from tests.model.app.models import (
    Club,
    Member,
    Note,
    OpenShop,
    Place,
    Post,
    Reply,
    Sample,
    Shop,
    Topic,
    Writer,
)


@dataclass(frozen=True)
class Line:
    """One line of a ranking."""

    name: str
    posts: int
    average: float | None


class Writers(CachedRepository[Writer]):
    model = Writer

    @cached_query(depends_on=["press.Post"])
    def ranking(self, least: int) -> list[Line]:
        """Its tables are declared, one of them as a join."""
        found = Writer.objects.annotate(n=Count("posts"), average=Avg("posts__score"))
        ranked = found.filter(n__gte=least).order_by("-n", "pk")
        return [Line(one.name, one.n, one.average) for one in ranked]

    @cached_query(depends_on=["press.Post"])
    async def aranking(self, least: int) -> list[Line]:
        found = Writer.objects.annotate(n=Count("posts"), average=Avg("posts__score"))
        ranked = found.filter(n__gte=least).order_by("-n", "pk")
        return [Line(one.name, one.n, one.average) async for one in ranked]


class Posts(CachedRepository[Post]):
    model = Post

    @cached_query
    def replied(self, writer: int) -> dict[str, int]:
        """Its tables are found out: which they are depends on what the first query gives."""
        answers = {}
        for post in Post.objects.filter(writer=writer):
            if post.score:
                answers[post.slug] = post.replies.count()
        return answers

    @cached_query
    async def areplied(self, writer: int) -> dict[str, int]:
        answers = {}
        async for post in Post.objects.filter(writer=writer):
            if post.score:
                answers[post.slug] = await post.replies.acount()
        return answers

    @cached_query
    def newest(self, topic: str) -> Post | None:
        """A model instance, read through repositories: no statement may run."""
        topics_posts = PostsInFull().filter(topics=topic)
        return topics_posts.order_by("-pk").first()

    @cached_query
    async def anewest(self, topic: str) -> Post | None:
        topics_posts = PostsInFull().filter(topics=topic)
        return await topics_posts.order_by("-pk").afirst()


class PostsInFull(CachedRepository[Post]):
    queryset = Post.objects.select_related("writer__mentor", "editor").prefetch_related(
        "topics", "replies__below"
    )


class Topics(CachedRepository[Topic]):
    model = Topic


class Replies(CachedRepository[Reply]):
    model = Reply


class Clubs(CachedRepository[Club]):
    queryset = Club.objects.prefetch_related("members")


class Members(CachedRepository[Member]):
    model = Member


class Places(CachedRepository[Place]):
    model = Place


class Shops(CachedRepository[Shop]):
    model = Shop


class OpenShops(CachedRepository[OpenShop]):
    queryset = OpenShop.objects.filter(open=True)


class Notes(CachedRepository[Note]):
    queryset = Note.objects.prefetch_related("about")


class Samples(CachedRepository[Sample]):
    model = Sample


REPOSITORIES: dict[str, CachedRepository[Any]] = {
    "posts": Posts(),
    "posts_in_full": PostsInFull(),
    "writers": Writers(),
    "topics": Topics(),
    "replies": Replies(),
    "clubs": Clubs(),
    "members": Members(),
    "places": Places(),
    "shops": Shops(),
    "open_shops": OpenShops(),
    "notes": Notes(),
    "samples": Samples(),
}
