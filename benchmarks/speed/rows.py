"""The rows: of 9 columns and about 0.5 kB each, twenty to an author.

Made by SQL alone, so that they are the same for everybody.
"""

from __future__ import annotations

from typing import Final

AUTHORS: Final = 500
ARTICLES: Final = 10_000
OF_AN_AUTHOR: Final = 20
BODY: Final = 300  # characters

_AUTHORS = """
INSERT INTO news_author (id, name, email)
SELECT n, 'Author ' || n, 'author' || n || '@example.com' FROM generate_series(1, %s) AS n
"""
_ARTICLES = """
INSERT INTO news_article (id, author_id, editor_id, slug, title, body, published, created, views)
SELECT n, 1 + (n - 1) / %s %% %s, NULL, 'article-' || n, 'Article number ' || n,
    repeat('thread ', %s), n %% 10 <> 0,
    TIMESTAMPTZ '2026-01-01 00:00Z' + n * INTERVAL '1 minute', 0
FROM generate_series(%s, %s) AS n
"""


def fill() -> None:
    """Into empty tables."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(_AUTHORS, [AUTHORS])
    add(1, ARTICLES)
    with connection.cursor() as cursor:
        for table in ("news_author", "news_article"):
            cursor.execute(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), 10000000)")
        cursor.execute("VACUUM ANALYZE")


def add(first: int, last: int) -> None:
    """Articles of these numbers."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(_ARTICLES, [OF_AN_AUTHOR, AUTHORS, BODY // len("thread "), first, last])
