"""The questions that the site asks: each is ordinary Django, asked through a repository."""

from dataclasses import dataclass

from django.db.models import Count, Q

from loom_cache import CachedRepository, cached_query
from testproject.news.models import Article, Comment


@dataclass(frozen=True)
class Headline:
    """One line of the list of the most discussed articles."""

    slug: str
    title: str
    comments: int


class ArticleRepository(CachedRepository[Article]):
    queryset = Article.objects.select_related("author", "editor").prefetch_related("tags")
    ttl = 600
    list_ttl = 120

    @cached_query(ttl=60, depends_on=[Comment])
    async def most_discussed(self, limit: int) -> list[Headline]:
        """The `limit` published articles with most approved comments, most discussed first."""
        ranked = (
            Article.objects.filter(published=True)
            .annotate(answers=Count("comments", filter=Q(comments__approved=True)))
            .order_by("-answers", "pk")
            .values_list("slug", "title", "answers")
        )
        return [Headline(*row) async for row in ranked[:limit]]


class CommentRepository(CachedRepository[Comment]):
    queryset = Comment.objects.filter(approved=True)


articles = ArticleRepository()
comments = CommentRepository()
