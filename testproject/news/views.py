"""The HTML pages: every read goes through a repository, every write is ordinary Django."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.contrib import messages
from django.contrib.messages import get_messages
from django.core.paginator import EmptyPage
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import aget_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from loom_cache import metrics
from testproject.news.forms import CommentForm, TitleForm
from testproject.news.models import Article, Comment
from testproject.news.readings import Readings
from testproject.news.repositories import articles, comments

PAGE_SIZE = 10


@require_GET
async def front(request: HttpRequest) -> HttpResponse:
    """The latest articles, with the newest of them opened."""
    return await _page(request)


@require_GET
async def article(request: HttpRequest, slug: str) -> HttpResponse:
    """The latest articles, with the one of that slug opened."""
    return await _page(request, slug)


@require_POST
async def save_title(request: HttpRequest, slug: str) -> HttpResponse:
    form = TitleForm(request.POST)
    if not form.is_valid():
        return await _page(request, slug, title_form=form)
    # What is about to be changed is asked of the database itself.
    article = await aget_object_or_404(Article, slug=slug)
    article.title = form.cleaned_data["title"]
    with _telling(request, "The title is saved."):
        await article.asave(update_fields=["title"])
    return _back_to(request, slug)


@require_POST
async def flip_published(request: HttpRequest, slug: str) -> HttpResponse:
    article = await aget_object_or_404(Article, slug=slug)
    outcome = "withdrawn" if article.published else "published"
    with _telling(request, f"The article is {outcome}."):
        # An update() sends no signal; it is noticed all the same.
        await Article.objects.filter(pk=article.pk).aupdate(published=not article.published)
    return _back_to(request, slug)


@require_POST
async def add_comment(request: HttpRequest, slug: str) -> HttpResponse:
    form = CommentForm(request.POST)
    if not form.is_valid():
        return await _page(request, slug, comment_form=form)
    article = await aget_object_or_404(Article, slug=slug)
    with _telling(request, "The comment is added."):
        await Comment.objects.acreate(article=article, **form.cleaned_data)
    return _back_to(request, slug)


async def _page(
    request: HttpRequest,
    slug: str | None = None,
    *,
    title_form: TitleForm | None = None,
    comment_form: CommentForm | None = None,
) -> HttpResponse:
    """Render the one page of this site; a form given is one that has to be corrected."""
    reads = Readings()
    published = articles.filter(published=True)
    try:
        latest = await reads.ask(
            "Latest articles", published.apage(_page_number(request), size=PAGE_SIZE)
        )
    except EmptyPage as error:
        raise Http404(str(error)) from error
    if slug is None:
        shown = latest.object_list[0] if latest.object_list else None
    else:
        shown = await reads.ask("This article", articles.aget_or_none(slug=slug))
        if shown is None:
            raise Http404(f"There is no article {slug!r}.")
    context: dict[str, object] = {
        "notices": [(note.message, note.extra_tags.split()) for note in get_messages(request)],
        "latest": latest,
        "article": shown,
        "reads": reads,
        "page_query": f"?page={latest.number}" if latest.number > 1 else "",
    }
    if shown is not None:
        context |= {
            "comments": await reads.ask("Its comments", comments.filter(article=shown).alist()),
            "by_author": await reads.ask(
                "Articles by its author", published.filter(author=shown.author).acount()
            ),
            "title_form": title_form or TitleForm(initial={"title": shown.title}),
            "comment_form": comment_form or CommentForm(),
        }
    context["discussed"] = await reads.ask("Most discussed", articles.most_discussed(5))
    rejected = title_form is not None or comment_form is not None
    return render(request, "news/page.html", context, status=422 if rejected else 200)


def _page_number(request: HttpRequest) -> int:
    try:
        return int(request.GET.get("page", 1))
    except ValueError as error:
        raise Http404("A page's number is a whole number.") from error


@contextmanager
def _telling(request: HttpRequest, done: str) -> Iterator[None]:
    """Tell the next page what was done, and which generations it has moved on."""
    with metrics.recording() as events:
        yield
    bumped = sorted({tag for e in events if isinstance(e, metrics.Bump) for tag in e.tags})
    messages.success(request, done, extra_tags=" ".join(bumped))


def _back_to(request: HttpRequest, slug: str) -> HttpResponse:
    address = reverse("news:article", args=[slug])
    query = request.GET.urlencode()
    return HttpResponseRedirect(f"{address}?{query}" if query else address)
