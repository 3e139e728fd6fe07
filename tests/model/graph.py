"""The rows that a run begins with: some of each, related to one another in any way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from hypothesis import strategies as st

from tests.model.text import Draw, Text, filled


@st.composite
def graphs(draw: Draw[Any]) -> list[Text]:
    """Texts of writes, each of which refers only to rows that are there by then."""
    return [filled(draw, template) for template in _Graph(draw).templates()]


_FLIPS = st.booleans()


@cache
def _numbers(least: int, most: int) -> st.SearchStrategy[int]:
    """The smallest is the simplest, the largest the likeliest."""
    return st.sampled_from([*range(least, most + 1), most, most])


@cache
def _one_of(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


class _Graph:
    """Keys are 1, 2, 3, ... of each model; shops follow the places that are no shops."""

    def __init__(self, draw: Draw[Any]) -> None:
        self._draw = draw
        self._writers = self._some(1, 3)
        self._topics = ["a", "b", "c"][: len(self._some(0, 3))]
        self._posts = self._some(0, 4)
        self._replies = self._some(0, 4) if self._posts else []
        self._clubs = self._some(0, 2)

    def _some(self, least: int, most: int) -> list[int]:
        return list(range(1, 1 + self._draw(_numbers(least, most))))

    def _one(self, of: Sequence[Any]) -> str:
        return repr(self._draw(_one_of(*of)))

    def _one_or_none(self, of: Sequence[Any]) -> str:
        return self._one([None, *of])

    def templates(self) -> Iterator[str]:
        yield from self._of_writers()
        yield from self._of_posts()
        yield from self._of_replies()
        yield from self._of_clubs()
        yield from self._of_places()
        yield from self._of_notes()
        yield from self._of_samples()

    def _of_writers(self) -> Iterator[str]:
        for pk in self._writers:
            mentor = self._one_or_none(self._writers[: pk - 1])
            yield f"rows(Writer).create(id={pk}, name=<name>, mentor_id={mentor}, active=<flag>)"
            if self._draw(_FLIPS):
                yield f"rows(Profile).create(writer_id={pk}, text=<title>)"

    def _of_posts(self) -> Iterator[str]:
        for code in self._topics:
            yield f"rows(Topic).create(code={code!r}, name=<name>)"
        for pk in self._posts:
            writer, editor = self._one(self._writers), self._one_or_none(self._writers)
            yield (
                f"rows(Post).create(id={pk}, slug={'-pqrs'[pk]!r}, writer_id={writer}, "
                f"editor_id={editor}, score=<score>, title=<title>, public=<flag>, day=<day>)"
            )
            if self._topics and self._draw(_FLIPS):
                yield f"row(Post, {pk}).topics.add({self._one(self._topics)})"

    def _of_replies(self) -> Iterator[str]:
        for pk in self._replies:
            post, above = self._one(self._posts), self._one_or_none(self._replies[: pk - 1])
            yield f"rows(Reply).create(id={pk}, post_id={post}, above_id={above}, text=<title>)"

    def _of_clubs(self) -> Iterator[str]:
        for pk in self._clubs:
            writer = self._one(self._writers)
            yield f"rows(Club).create(id={pk}, name=<name>)"
            yield f"rows(Member).create(id={pk}, club_id={pk}, writer_id={writer}, level=<score>)"

    def _of_places(self) -> Iterator[str]:
        for pk in self._some(0, 2):
            post = self._one_or_none(self._posts)
            yield f"rows(Place).create(id={pk}, name=<name>, post_id={post})"
        for pk in self._some(0, 2):
            owner = self._one_or_none(self._writers)
            yield f"rows(Shop).create(id={pk + 2}, name=<name>, open=<flag>, owner_id={owner})"

    def _of_notes(self) -> Iterator[str]:
        for pk in self._some(0, 3):
            if self._posts and self._draw(_FLIPS):
                about = f"row(Post, {self._one(self._posts)})"
            else:
                about = f"row(Writer, {self._one(self._writers)})"
            yield f"rows(Note).create(id={pk}, about={about}, text=<title>)"

    def _of_samples(self) -> Iterator[str]:
        for pk in self._some(0, 3):
            writer = self._one_or_none(self._writers)
            yield (
                f"rows(Sample).create(id={pk}, writer_id={writer}, price=<price>, moment=<moment>, "
                f"code=<code>, nick=<nick>, weight=<weight>, extra=<extra>, size=<number>)"
            )
