"""The JSON endpoints. Each answer's `Server-Timing` header says what its reads cost."""

from django.core.paginator import EmptyPage
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_GET

from testproject.news.models import Article, Comment
from testproject.news.readings import Readings
from testproject.news.repositories import articles, comments

PAGE_SIZE = 20


@require_GET
async def article_list(request: HttpRequest) -> JsonResponse:
    """Published articles, newest first: `?page=2`."""
    reads = Readings()
    published = articles.filter(published=True)
    try:
        page = await reads.ask(
            "articles", published.apage(int(request.GET.get("page", 1)), size=PAGE_SIZE)
        )
    except (EmptyPage, ValueError) as error:
        return _not_found(str(error))
    body = {
        "count": page.paginator.count,
        "page": page.number,
        "pages": page.paginator.num_pages,
        "articles": [_summary(article) for article in page.object_list],
    }
    return _answer(body, reads)


@require_GET
async def article_detail(request: HttpRequest, pk: int) -> JsonResponse:
    """One article with its approved comments."""
    reads = Readings()
    try:
        article = await reads.ask("article", articles.aget(pk=pk))
    except Article.DoesNotExist as error:
        return _not_found(str(error))
    remarks = await reads.ask("comments", comments.filter(article_id=pk).alist())
    body = {
        **_summary(article),
        "body": article.body,
        "editor": article.editor.name if article.editor else None,
        "comments": [_comment(comment) for comment in remarks],
    }
    return _answer(body, reads)


def _summary(article: Article) -> dict[str, object]:
    return {
        "pk": article.pk,
        "slug": article.slug,
        "title": article.title,
        "author": article.author.name,
        "tags": [tag.name for tag in article.tags.all()],
        "published": article.published,
        "created": article.created,
        "views": article.views,
    }


def _comment(comment: Comment) -> dict[str, object]:
    return {"author": comment.author_name, "text": comment.text, "created": comment.created}


def _answer(body: dict[str, object], reads: Readings) -> JsonResponse:
    timings = ", ".join(
        f'{row.question};dur={row.milliseconds:.2f};desc="{row.outcome}, {row.statements} SQL"'
        for row in reads.rows
    )
    return JsonResponse(body, headers={"Server-Timing": timings})


def _not_found(why: str) -> JsonResponse:
    return JsonResponse({"error": why}, status=404)
