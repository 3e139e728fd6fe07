"""What can be asked: chains and terminals, as text."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.model.text import Draw, Text, any_of, some_of


class Question(Text):
    """A chain on a repository (or, to compare, on Django's QuerySet), and its terminal."""

    chain: str
    terminal: str

    @classmethod
    def of(cls, chain: str, terminal: str) -> Question:
        question = cls(f"{chain}.{terminal}")
        question.chain, question.terminal = chain, terminal
        return question

    @property
    def is_method(self) -> bool:
        """Whether it is a @cached_query of the repository's own."""
        return self.terminal.startswith(("ranking(", "replied(", "newest("))


FILTERS = {
    "posts": """
        writer_id=<writer>
        writer=<writer>
        writer=<writer>, public=<flag_or_like>
        writer__in=[<writer>, <writer>]
        writer_id=<writer>, score=<score>
        editor=<writer>
        editor=None
        writer=<writer>, editor__isnull=<flag>
        score=<score>
        score=<score_or_like>
        score__in=[<score_or_like>, <number_or_like>]
        score__isnull=<flag>
        score__gt=<number>
        score__gte=<number>, score__lt=<number>
        score__range=(<number>, <number>)
        public=<flag_or_like>
        day=<day_or_like>
        day__gt=<date>
        day__year=2026
        title=<title_or_like>
        title__iexact=<title>
        title__contains=<title>
        slug=<slug>
        slug__in=[<slug>, <slug>, <slug>]
        slug__lte=<slug>
        pk=<post>
        pk__in=[<post>, <post>, <post>]
        pk__in=[]
        writer__active=<flag>
        writer__name=<name>, public=<flag>
        writer__mentor=<writer>
        writer__mentor__active=<flag>
        editor__profile__text=<title>
        topics=<topic>
        topics__name=<name>
        topics__isnull=<flag>
        replies__text=<title>
        replies__below__text=<title>
        notes__text=<title>
        writer__clubs=<club>
        places__name=<name>
        score=F('writer_id')
        score__lt=F('editor_id')
        Q(writer=<writer>) | Q(score=<score>)
        Q(writer=<writer>) & ~Q(score=<score>)
        Q(writer=<writer>, public=True) | Q(editor=<writer>, public=False)
        ~Q(topics=<topic>)
        Exists(replies.filter(post=OuterRef('pk')))
        ~Exists(replies.filter(post=OuterRef('pk'), text=<title>))
        pk__in=replies.filter(text=<title>).values('post')
        writer__in=writers.filter(active=<flag>)
        writer__in=writers.filter(mentor=<writer>).values('pk')
        score=Subquery(members.filter(writer=OuterRef('writer')).values('level')[:1])
    """,
    "posts_in_full": """
        writer=<writer>
        score=<score>
        pk__in=[<post>, <post>]
        topics=<topic>
        writer__mentor=<writer>
    """,
    "writers": """
        name=<name>
        active=<flag_or_like>
        mentor=<writer>
        mentor=None
        mentor__name=<name>
        pk__in=[<writer>, <writer>]
        posts=<post>
        posts__score=<score>
        posts__topics=<topic>
        pupils__isnull=<flag>
        clubs=<club>
        member__level=<score>
        profile__text=<title>
        profile__isnull=<flag>
        edited__public=<flag>
        pk__in=posts.filter(public=<flag>).values('writer')
        Exists(posts.filter(writer=OuterRef('pk'), score=<score>))
    """,
    "topics": """
        name=<name>
        code=<topic>
        code__in=[<topic>, <topic>]
        posts=<post>
        posts__writer=<writer>
        posts__isnull=<flag>
    """,
    "replies": """
        post=<post>
        post=<post>, text=<title>
        post_id__in=[<post>, <post>]
        above=<reply>
        above=None
        above__isnull=<flag>, post=<post>
        text=<title_or_like>
        post__writer=<writer>
        post__topics=<topic>
        above__text=<title>
    """,
    "clubs": """
        name=<name>
        members=<writer>
        member__level=<score>
        members__name=<name>
    """,
    "members": """
        club=<club>
        writer=<writer>
        club=<club>, writer=<writer>
        writer=<writer>, level=<score_or_like>
        level=<score>
        writer__active=<flag>
    """,
    "places": """
        name=<name>
        post=<post>
        post=None
        shop__isnull=<flag>
        shop__open=<flag>
        post__writer=<writer>
    """,
    "shops": """
        name=<name>
        name=<name>, open=<flag_or_like>
        open=<flag>
        owner=<writer>
        post=<post>
        owner__name=<name>
        pk__in=[<shop>, <shop>]
    """,
    "open_shops": """
        name=<name>
        owner=<writer>
        owner=None
    """,
    "notes": """
        text=<title>
        key=<post>
        kind=ContentType.objects.get_for_model(Post), key=<post>
        kind__model='writer'
    """,
    "samples": """
        price=<price>
        price__in=[<price>, <price>]
        moment=<moment>
        moment__gte=datetime(2026, 1, 1, 12, tzinfo=UTC)
        moment__date=date(2026, 1, 1)
        code=<code>
        nick=<nick>
        nick__in=[<nick>]
        weight=<weight>
        extra=<extra>
        extra__a=1
        size=<number_or_like>
        twice=<number>
        twice=2
        state=<state>
        writer=<writer>, nick=<nick>
        writer=<writer>, price=<price>
        writer=<writer>, state=<state>
    """,
}

LOOKUPS = {
    "posts": """
        pk=<post>
        id=<post>
        slug=<slug>
        slug=<slug>, public=<flag>
        pk=<post>, writer=<writer>
    """,
    "posts_in_full": "pk=<post>\nslug=<slug>",
    "writers": "pk=<writer>",
    "topics": "pk=<topic>\ncode=<topic>",
    "replies": "pk=<reply>",
    "clubs": "pk=<club>",
    "members": "club=<club>, writer=<writer>\npk=<member>",
    "places": "pk=<place>",
    "shops": "pk=<shop>\nplace_ptr=<shop>",
    "open_shops": "pk=<shop>",
    "notes": "pk=<note>",
    "samples": "pk=<sample>\ncode=<code>",
}
"""What one row may be looked up by, or more than one: Django's errors are answers, too."""

WITH = {
    "posts": """
        select_related('writer')
        select_related('writer__mentor', 'editor')
        select_related('editor__profile')
        annotate(n=Count('replies')).order_by('pk')
        annotate(n=Count('topics', filter=Q(topics__name=<name>))).order_by('-n', 'pk')
        annotate(n=Count('notes'), of=F('writer__name')).order_by('-pk')
        annotate(last=Subquery(
            replies.filter(post=OuterRef('pk')).order_by('-pk').values('text')[:1]))
        annotate(said=Exists(replies.filter(post=OuterRef('pk'), text=<title>)))
        alias(n=Count('replies')).filter(n__gt=<number>).order_by('pk')
        only('title')
        only('slug', 'writer__name').select_related('writer')
        defer('title', 'score')
        order_by('-score', 'pk')
        order_by('writer__name', '-pk').select_related('writer')
        order_by('editor__name', 'title', 'pk').reverse()
        reverse()
        distinct()
    """,
    "writers": """
        select_related('mentor')
        select_related('profile')
        annotate(n=Count('posts', distinct=True), best=Max('posts__score')).order_by('pk')
        order_by('name', '-pk')
    """,
    "topics": "annotate(n=Count('posts')).order_by('pk')",
    "replies": """
        select_related('post__writer')
        select_related('above')
        order_by('-text', 'pk')
    """,
    "members": "select_related('club', 'writer')",
    "places": """
        select_related('shop')
        select_related('post')
    """,
    "shops": """
        select_related('owner')
        select_related('post__writer')
        only('name')
        defer('open')
        annotate(n=Count('owner__posts')).order_by('pk')
    """,
    "samples": """
        select_related('writer')
        only('twice', 'price')
        order_by('size', 'pk')
    """,
}

PREFETCHES = {
    "posts": """
        'topics'
        'replies'
        'replies__below', 'writer'
        'writer__clubs', 'topics'
        'notes'
        'places__shop'
        Prefetch('replies', replies.filter(text=<title>))
        Prefetch('replies', replies.select_related('above'), to_attr='said')
        Prefetch('topics', topics.filter(name=<name>), to_attr='some'), 'topics'
        Prefetch('writer', writers.prefetch_related('pupils'))
        Prefetch('writer__edited', posts.filter(score=<score>).only('slug', 'editor'))
    """,
    "writers": """
        'posts'
        'edited', 'pupils__posts'
        'clubs'
        'posts__topics'
        'samples', 'shops'
        Prefetch('posts', posts.filter(score=<score>), to_attr='good')
        Prefetch('posts', posts.select_related('editor').order_by('-slug'))
        Prefetch('posts__replies', replies.filter(text=<title>), to_attr='said')
    """,
    "topics": """
        'posts'
        'posts__writer'
        Prefetch('posts', posts.filter(public=<flag>))
    """,
    "replies": """
        'below'
        'post__topics'
    """,
    "members": "'writer__posts'",
    "places": "'shop__owner'",
    "shops": "'owner__posts', 'post'",
}

ROWS = """
    list()
    list()
    count()
    exists()
    first()
    last()
    page(1, size=2)
    page(2, size=1)
    aggregate(n=Count('pk'), last=Max('pk'))
"""

ENDS = {
    "posts": """
        in_bulk([<post>, <post>, <post>])
        in_bulk(['p', <slug>], field_name='slug')
        contains(Post(pk=<post>))
        aggregate(total=Sum('score'), n=Count('writer', distinct=True))
        aggregate(n=Count('replies'), best=Max('writer__posts__score'))
        latest('day', 'pk')
        earliest('score', 'pk')
    """,
    "posts_in_full": "in_bulk([<post>, <post>])",
    "writers": "in_bulk([<writer>, <writer>])\ncontains(Writer(pk=<writer>))",
    "topics": "in_bulk(['a', <topic>])",
    "places": "in_bulk([<place>, <place>])",
    "shops": "in_bulk([<shop>, <shop>])\naggregate(n=Count('owner', distinct=True))",
    "samples": "in_bulk([<sample>, <sample>])\naggregate(total=Sum('twice'))",
}
"""More terminals of all rows."""

VALUES = {
    "posts": """
        values('pk', 'score', 'writer__name')
        values_list('slug', flat=True)
        values_list('slug', 'day', named=True)
        values_list('topics__code', 'pk').order_by('topics__code', 'pk')
        values('writer').annotate(n=Count('pk')).order_by('writer')
        values('score').distinct().order_by('score')
        dates('day', 'month')
        order_by('writer', '-day', 'pk')[:2]
        order_by('-pk')[1:3]
        order_by().union(posts.filter(score=<score>).order_by()).order_by('pk')
        order_by().union(posts.filter(writer=<writer>).order_by(), all=True).order_by('pk')[:2]
        order_by().difference(posts.filter(public=<flag>).order_by()).order_by('pk')
        order_by().intersection(posts.filter(topics=<topic>).order_by()).order_by('pk')
        filter(pk__in=posts.filter(writer=<writer>)[:2])
    """,
    "writers": """
        values_list('name', 'mentor__name')
        order_by('-name', 'pk')[:2]
        values('mentor').annotate(n=Count('pk'), all=Sum('posts__score')).order_by('mentor')
        filter(pk__in=posts.filter(score=<score>).values('editor')).values_list('pk', flat=True)
    """,
    "topics": "values_list('code', 'posts__slug').order_by('code', 'posts__slug')",
    "shops": "values('name', 'open')\nvalues_list('post__slug', 'owner__name', 'pk')",
    "samples": """
        values('price', 'moment', 'twice')
        values_list('extra', 'weight')
        datetimes('moment', 'hour')
    """,
}
"""What is no list of instances any more, or not of all of them."""

VALUES_ENDS = """
    list()
    list()
    count()
    exists()
"""

METHODS = {
    "writers": "ranking(<number>)\nranking(least=<number>)",
    "posts": "replied(<writer>)\nnewest(<topic>)",
}


@st.composite
def questions(draw: Draw[Any]) -> Question:
    """Any question: of rows, of one row by a key, of values, or to a method."""
    chain, terminal = draw(_KINDS)(draw)
    return Question.of(chain, terminal)


@st.composite
def catechisms(draw: Draw[Any]) -> list[Question]:
    """None or few or, most likely, many."""
    return [draw(_QUESTION) for _ in range(draw(_NUMBERS))]


def _of_rows(draw: Draw[Any]) -> tuple[str, str]:
    repository = draw(_FILTERED)
    chain = [_filtered(draw, repository), *_steps(draw, repository)]
    return ".".join(chain), draw(any_of(ROWS, ENDS.get(repository, "")))


def _of_lookup(draw: Draw[Any]) -> tuple[str, str]:
    repository = draw(_LOOKED_UP)
    chain = [repository, *_steps(draw, repository)]
    return ".".join(chain), f"{draw(_GETS)}({draw(any_of(LOOKUPS[repository]))})"


def _of_values(draw: Draw[Any]) -> tuple[str, str]:
    repository = draw(_VALUED)
    chain = [_filtered(draw, repository), draw(any_of(VALUES[repository]))]
    return ".".join(chain), draw(any_of(VALUES_ENDS))


def _of_method(draw: Draw[Any]) -> tuple[str, str]:
    repository = draw(_HAVE_METHODS)
    return repository, draw(any_of(METHODS[repository]))


def _filtered(draw: Draw[Any], repository: str) -> str:
    """Up to two conditions."""
    conditions = draw(some_of(FILTERS[repository], 2))
    return ".".join([repository, *(f"{draw(_VERBS)}({one})" for one in conditions)])


def _steps(draw: Draw[Any], repository: str) -> list[str]:
    """What comes with the rows, and in which order."""
    prefetches = draw(some_of(PREFETCHES.get(repository, ""), 1))
    return [
        *draw(some_of(WITH.get(repository, ""), 1)),
        *(f"prefetch_related({one})" for one in prefetches),
    ]


_KINDS = st.sampled_from([_of_rows, _of_lookup, _of_rows, _of_values, _of_method])
_VERBS = st.sampled_from(["filter", "filter", "exclude"])
_GETS = st.sampled_from(["get", "get_or_none"])
_FILTERED = st.sampled_from(["posts", "posts", *FILTERS])
_LOOKED_UP = st.sampled_from(["posts", *LOOKUPS])
_VALUED = st.sampled_from(["posts", *VALUES])
_HAVE_METHODS = st.sampled_from(sorted(METHODS))
_QUESTION = questions()
_NUMBERS = st.sampled_from([0, 2, 8, 16, 16, 16])
