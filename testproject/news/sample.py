"""A newspaper's worth of data: about 2,000 rows, the same ones every time."""

from datetime import UTC, datetime, timedelta
from random import Random

from django.db import transaction
from django.utils.text import slugify

from testproject.news.models import Article, Author, Comment, Tag

SEED = 1805  # the year of Jacquard's loom
AUTHORS = 24
ARTICLES = 320
COMMENTS = 1_000
NEWEST = datetime(2026, 9, 1, 8, 0, tzinfo=UTC)

FIRST_NAMES = "Ada Amar Bela Clara Edo Femi Grace Hana Ines Joris Kofi Leila Mira Noor Otis".split()
LAST_NAMES = "Abara Brandt Castell Dufour Eriksen Falk Grieve Hollis Ibarra Jansen Keita".split()
TAGS = (
    "Architecture Books City Cloth Craft Economy Energy Farming Film Food Health History Law "
    "Markets Music Nature Ports Rail Schools Science Sport Theatre Weather Work"
).split()
OPENINGS = [
    "Why", "How", "The year", "The morning", "Where", "What happened when", "Ten years after",
    "Nobody noticed when",
]  # fmt: skip
SUBJECTS = [
    "the old mill", "a night train", "the harbour council", "a village choir", "the last weaver",
    "the school kitchen", "a forgotten archive", "the river", "the city's clocks", "the new tram",
    "a small museum", "the fish market",
]  # fmt: skip
TURNS = [
    "came back", "changed hands", "fell silent", "found its voice", "learnt to wait",
    "opened its doors", "went dark", "started over", "paid its debts", "outlived its critics",
]  # fmt: skip
SENTENCES = [
    "It began, as these things do, with a letter that nobody answered.",
    "The figures were never in dispute; what they meant was another matter.",
    "On the day itself it rained, and everyone who was there remembers the umbrellas.",
    "Three people were asked to look into it, and two of them did.",
    "There is a thread that runs through all of this, if one has the patience to pull it.",
    "The committee met on Thursdays, which explains a good deal.",
    "Visitors expect noise; what they find is a room full of people paying attention.",
    "Asked whether she would do it again, she laughed for rather a long time.",
    "A pattern is only a habit that someone has written down.",
    "By the autumn there was a waiting list, and by the winter a second one.",
    "Most of the work is done before anyone arrives, and most of the rest after they have left.",
    "He keeps the receipts in a biscuit tin, in order, back to the first.",
    "Nobody had thought to ask the people who used it every day.",
    "The paint was donated, which is why it is that particular green.",
    "What looked like an ending turned out to be a change of hands.",
    "You can still see the marks on the floor where the machines stood.",
    "There were plans for a second phase; there are always plans for a second phase.",
    "For a while it was the only lit window on the street.",
]
REMARKS = [
    "My grandmother worked there. She would have enjoyed this.",
    "The second paragraph alone was worth the subscription.",
    "I disagree, but I have read it twice.",
    "Is there a map of this somewhere?",
    "More of this, please, and fewer opinion pieces.",
    "It was a Wednesday, in fact. I was there.",
    "Thank you for writing this down before it is forgotten.",
    "I had no idea, and I live around the corner.",
    "Could we hear from the other side as well?",
    "I have sent this to my brother, who will write to you at length.",
    "The photograph must be older than that; look at the shoes.",
]


@transaction.atomic
def load() -> int:
    """Fill an empty database; return how many rows were made, 0 if there were articles already."""
    if Article.objects.exists():
        return 0
    random = Random(SEED)
    authors = Author.objects.bulk_create(_authors(random))
    tags = Tag.objects.bulk_create([Tag(name=name) for name in TAGS])
    articles = Article.objects.bulk_create(_articles(random, authors))
    tagging = Article.tags.through
    links = tagging.objects.bulk_create(
        tagging(article=article, tag=tag)
        for article in articles
        for tag in random.sample(tags, random.randint(1, 3))
    )
    comments = Comment.objects.bulk_create(_comments(random, articles))
    return len(authors) + len(tags) + len(articles) + len(links) + len(comments)


def _authors(random: Random) -> list[Author]:
    names = random.sample(
        [f"{first} {last}" for first in FIRST_NAMES for last in LAST_NAMES], AUTHORS
    )
    return [Author(name=name, email=f"{slugify(name)}@example.com") for name in names]


def _articles(random: Random, authors: list[Author]) -> list[Article]:
    titles = random.sample(
        [f"{start} {what} {turn}" for start in OPENINGS for what in SUBJECTS for turn in TURNS],
        ARTICLES,
    )
    return [
        Article(
            author=random.choice(authors),
            editor=random.choice([None, *authors]),
            slug=slugify(title),
            title=title,
            body=_paragraphs(random.sample(SENTENCES, 16)),
            published=random.random() < 0.9,
            created=NEWEST - timedelta(hours=5 * age, minutes=random.randrange(120)),
            views=random.randrange(5_000),
        )
        for age, title in enumerate(titles)
    ]


def _paragraphs(sentences: list[str]) -> str:
    return "\n\n".join(" ".join(sentences[start : start + 4]) for start in range(0, 16, 4))


def _comments(random: Random, articles: list[Article]) -> list[Comment]:
    chosen = random.choices(articles, k=COMMENTS)
    return [
        Comment(
            article=article,
            author_name=random.choice(FIRST_NAMES),
            text=random.choice(REMARKS),
            created=article.created + timedelta(minutes=random.randrange(1, 3_000)),
            approved=random.random() < 0.95,
        )
        for article in chosen
    ]
