"""The example site, visited as a browser would: its pages show what is in the database, and a
second visit asks the database nothing."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import AsyncClient
from django.utils import timezone

from testproject.news import sample
from testproject.news.models import Article, Author, Comment, Tag

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def paper(transactional_db: None) -> Article:
    """Two published articles by one author; the newer one is returned and has a comment."""
    author = Author.objects.create(name="Ada Falk")
    yesterday = timezone.now() - timedelta(days=1)
    Article.objects.create(author=author, slug="older", title="Older news", created=yesterday)
    newest = Article.objects.create(author=author, slug="newest", title="The newest news")
    newest.tags.add(Tag.objects.create(name="Cloth"))
    Comment.objects.create(article=newest, author_name="Otis", text="I was there.")
    return newest


async def visit(
    client: AsyncClient, address: str = "/articles/newest/"
) -> tuple[str, dict[str, str]]:
    """The page's HTML, and for each of its reads what the cache said."""
    response = await client.get(address)
    assert response.status_code == 200
    return response.content.decode(), _outcomes(response)


def _outcomes(response: Any) -> dict[str, str]:
    return {read.question: read.outcome for read in response.context["reads"].rows}


async def test_the_front_page_lists_articles_and_opens_the_newest(
    paper: Article, async_client: AsyncClient
) -> None:
    html, _ = await visit(async_client, "/")
    for text in ("Older news", "<h1>The newest news</h1>", "Ada Falk", "Cloth", "I was there."):
        assert text in html


async def test_a_second_visit_runs_no_sql(paper: Article, async_client: AsyncClient) -> None:
    await visit(async_client)
    response = await async_client.get("/articles/newest/")
    assert set(_outcomes(response).values()) == {"hit"}
    assert response.context["reads"].statements == 0


async def test_a_saved_title_is_shown_and_the_comments_stay_warm(
    paper: Article, async_client: AsyncClient
) -> None:
    await visit(async_client)
    saved = await async_client.post("/articles/newest/title/", {"title": "Second edition"})
    assert (saved.status_code, saved.headers["Location"]) == (302, "/articles/newest/")
    html, outcomes = await visit(async_client)
    assert "<h1>Second edition</h1>" in html
    assert outcomes["This article"] == "miss"
    assert outcomes["Its comments"] == "hit"


async def test_a_new_comment_is_shown_and_the_article_stays_warm(
    paper: Article, async_client: AsyncClient
) -> None:
    await visit(async_client)
    await async_client.post(
        "/articles/newest/comments/", {"author_name": "Mira", "text": "So was I."}
    )
    html, outcomes = await visit(async_client)
    assert "So was I." in html
    assert outcomes["Its comments"] == "miss"
    assert outcomes["Most discussed"] == "miss"
    assert outcomes["This article"] == "hit"
    assert outcomes["Latest articles"] == "hit"


async def test_a_withdrawn_article_leaves_the_list_and_comes_back(
    paper: Article, async_client: AsyncClient
) -> None:
    html, _ = await visit(async_client, "/articles/older/")
    assert "The newest news" in html
    await async_client.post("/articles/newest/publish/")
    html, _ = await visit(async_client, "/articles/older/")
    assert "The newest news" not in html
    assert "who has 1 article here" in html
    await async_client.post("/articles/newest/publish/")
    html, _ = await visit(async_client, "/articles/older/")
    assert "The newest news" in html


async def test_the_page_after_a_write_tells_which_generations_it_moved(
    paper: Article, async_client: AsyncClient
) -> None:
    await visit(async_client)
    await async_client.post("/articles/newest/title/", {"title": "Second edition"})
    html, _ = await visit(async_client)
    assert "The title is saved." in html
    assert f"g:{{news_article}}:id:{paper.pk}" in html
    html, _ = await visit(async_client)
    assert "The title is saved." not in html


async def test_a_form_that_is_not_valid_is_shown_again_and_writes_nothing(
    paper: Article, async_client: AsyncClient
) -> None:
    response = await async_client.post("/articles/newest/title/", {"title": ""})
    assert response.status_code == 422
    assert "This field is required." in response.content.decode()
    assert (await Article.objects.aget(pk=paper.pk)).title == "The newest news"


async def test_a_form_without_its_token_is_refused(paper: Article) -> None:
    strict = AsyncClient(enforce_csrf_checks=True)
    response = await strict.post("/articles/newest/title/", {"title": "Forged"})
    assert response.status_code == 403


@pytest.mark.parametrize(
    "address",
    [
        "/articles/none/",
        "/?page=2",
        "/?page=0",
        "/?page=x",
        "/api/articles/0/",
        "/api/articles/?page=9",
    ],
)
async def test_what_is_not_there_is_not_found(
    paper: Article, async_client: AsyncClient, address: str
) -> None:
    assert (await async_client.get(address)).status_code == 404


async def test_an_article_that_was_not_found_is_found_once_it_is_there(
    paper: Article, async_client: AsyncClient
) -> None:
    assert (await async_client.get("/articles/extra/")).status_code == 404
    await Article.objects.acreate(author_id=paper.author_id, slug="extra", title="Extra!")
    assert (await async_client.get("/articles/extra/")).status_code == 200


async def test_an_empty_paper_has_a_front_page(async_client: AsyncClient) -> None:
    html, _ = await visit(async_client, "/")
    assert "Nothing has been published." in html


async def test_the_json_list_has_the_published_articles(
    paper: Article, async_client: AsyncClient
) -> None:
    body = (await async_client.get("/api/articles/")).json()
    assert (body["count"], body["page"], body["pages"]) == (2, 1, 1)
    assert [article["slug"] for article in body["articles"]] == ["newest", "older"]
    assert body["articles"][0]["tags"] == ["Cloth"]


async def test_the_json_article_says_what_its_reads_cost(
    paper: Article, async_client: AsyncClient
) -> None:
    first = await async_client.get(f"/api/articles/{paper.pk}/")
    second = await async_client.get(f"/api/articles/{paper.pk}/")
    assert first.json() == second.json()
    assert first.json()["comments"][0]["author"] == "Otis"
    assert 'desc="miss' in first.headers["Server-Timing"]
    assert second.headers["Server-Timing"].count('desc="hit, 0 SQL"') == 2


def test_the_sample_data_is_loaded_once_and_is_about_2_000_rows(transactional_db: None) -> None:
    assert 1_900 <= sample.load() <= 2_100
    assert sample.load() == 0
    assert Article.objects.count() == sample.ARTICLES


async def test_what_the_admin_writes_is_shown(
    paper: Article, admin_user: User, async_client: AsyncClient
) -> None:
    html, _ = await visit(async_client)
    assert "Cloth" in html
    await async_client.aforce_login(admin_user)
    tag = await Tag.objects.aget(name="Cloth")
    saved = await async_client.post(f"/admin/news/tag/{tag.pk}/change/", {"name": "Weaving"})
    assert saved.status_code == 302
    html, _ = await visit(async_client)
    assert "Weaving" in html
    assert "Cloth" not in html
