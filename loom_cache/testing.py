"""For the tests of your project."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from loom_cache import watch
from loom_cache.undeclared import required as requiring_depends_on

__all__ = ["caching_in_testcases", "requiring_depends_on"]


@contextmanager
def caching_in_testcases() -> Iterator[None]:
    """Use the cache inside Django's TestCase (and pytest-django's `db` fixture).

    Such a test is one transaction that never commits, so that reads through a repository go past
    the cache there. Inside this block they are looked up and stored as in production, under keys
    of this block and of this test alone, and a write invalidates as its statement returns:

        class ArticleTests(TestCase):
            def test_a_saved_article_is_fresh(self):
                with caching_in_testcases():
                    articles.get(pk=self.article.pk)
                    self.article.title = "New"
                    self.article.save()
                    self.assertEqual(articles.get(pk=self.article.pk).title, "New")

    Inside an atomic block of the test's own, or of the code it tests, reads follow the rules of any
    transaction: after the first write they go past the cache. Also a decorator of functions. It
    holds for the whole process, in threads and tasks as well; tests that commit
    (TransactionTestCase, `transaction=True`) do not need it.
    """
    previous = watch.cache_in_testcases
    if previous is None:
        watch.cache_in_testcases = uuid4().hex
    try:
        yield
    finally:
        watch.cache_in_testcases = previous
