"""Every query shape that Django offers: its second read is a hit, is the database's answer in all
that can be told, and after each write that changes it the answer is the database's again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.contenttypes.prefetch import GenericPrefetch
from django.contrib.postgres import aggregates as postgres
from django.contrib.postgres.expressions import ArraySubquery
from django.contrib.postgres.search import SearchVector
from django.contrib.sessions.models import Session
from django.db import connection, models
from django.db.models import (
    Avg,
    Case,
    Count,
    Exists,
    ExpressionWrapper,
    F,
    FilteredRelation,
    Max,
    Min,
    OuterRef,
    Prefetch,
    Q,
    StdDev,
    Subquery,
    Sum,
    Value,
    Variance,
    When,
    Window,
)
from django.db.models.expressions import RawSQL
from django.db.models.fields.json import KT
from django.db.models.functions import (
    Cast,
    Coalesce,
    Concat,
    ExtractYear,
    FirstValue,
    Greatest,
    JSONObject,
    Lag,
    Length,
    Lower,
    Now,
    NullIf,
    Rank,
    RowNumber,
    StrIndex,
    Substr,
    TruncMonth,
    TruncYear,
    Upper,
)
from django.db.models.lookups import GreaterThan

from loom_cache import CachedRepository, metrics
from tests.cases.conftest import Ask
from tests.cases.questions import Answers, Question, answers, assert_fresh_after_each, warm
from tests.fieldapp.same import assert_same
from tests.library.models import Country
from tests.museum import models as m
from tests.museum.install import (
    ADA,
    ATRIUM,
    BEN,
    CAT,
    CLAY,
    GOOD,
    LOOM,
    NORTH,
    OF_EVE,
    POOR,
    SKY,
    SOUTH,
    TOWER,
    VASE,
    WOOL,
    museum,
    museum_app,
)

__all__ = ["answers", "museum", "museum_app"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("museum")]

POSTGRESQL = connection.vendor == "postgresql"
NEW = 8_000_001


class Works(CachedRepository[m.Work]):
    model = m.Work


class Artists(CachedRepository[m.Artist]):
    model = m.Artist


class LivingArtists(CachedRepository[m.Artist]):
    queryset = m.Artist.living.all()


class Norwegians(CachedRepository[m.Artist]):
    model = m.Artist

    def get_queryset(self) -> models.QuerySet[m.Artist]:
        found: models.QuerySet[m.Artist] = m.Artist.objects.of("NO").with_works()
        return found


class Biographies(CachedRepository[m.Biography]):
    model = m.Biography


class Portraits(CachedRepository[m.Portrait]):
    model = m.Portrait


class Styles(CachedRepository[m.Style]):
    model = m.Style


class Reviews(CachedRepository[m.Review]):
    model = m.Review


class Venues(CachedRepository[m.Venue]):
    model = m.Venue


class Halls(CachedRepository[m.Hall]):
    model = m.Hall


class Galleries(CachedRepository[m.Gallery]):
    model = m.Gallery


class Cabinets(CachedRepository[m.Cabinet]):
    model = m.Cabinet


class Labels(CachedRepository[m.Label]):
    model = m.Label


class Bargains(CachedRepository[m.Bargain]):
    model = m.Bargain
    depends_on = (m.Work,)


class Slots(CachedRepository[m.Slot]):
    model = m.Slot


class Bookings(CachedRepository[m.Booking]):
    model = m.Booking


class Countries(CachedRepository[Country]):
    model = Country


works, artists, styles, reviews = Works(), Artists(), Styles(), Reviews()
venues, halls, galleries, cabinets = Venues(), Halls(), Galleries(), Cabinets()
biographies, portraits, slots, bookings = Biographies(), Portraits(), Slots(), Bookings()
labels, bargains, countries = Labels(), Bargains(), Countries()

Write = Callable[[], object]
Chain = Callable[[Any], Any]


def save(model: Any, pk: Any, **changes: Any) -> Write:
    def write() -> None:
        row = model._base_manager.get(pk=pk)
        for name, value in changes.items():
            setattr(row, name, value)
        row.save()

    return write


def update(model: Any, pk: Any, **changes: Any) -> Write:
    return lambda: model._base_manager.filter(pk=pk).update(**changes)


def create(model: Any, **values: Any) -> Write:
    return lambda: model._base_manager.create(**values)


def delete(model: Any, pk: Any) -> Write:
    return lambda: model._base_manager.get(pk=pk).delete()


def work(number: str = "new", artist: int = ADA, **values: Any) -> Write:
    """A new work."""
    return create(m.Work, number=number, artist_id=artist, **{"pk": NEW, "title": "New", **values})


def biography(text: str) -> Write:
    """Ben gets one."""
    return create(m.Biography, artist_id=BEN, text=text)


def style(add: int, to: int) -> Write:
    return lambda: m.Work.objects.get(pk=to).styles.add(add)


def unstyle(remove: int, of: int) -> Write:
    return lambda: m.Work.objects.get(pk=of).styles.remove(remove)


@dataclass(frozen=True)
class Shape:
    """A question, and writes that change its answer one after the other."""

    question: Question
    writes: tuple[Write, ...]


SHAPES: dict[str, Shape] = {}


def shape(
    name: str,
    repository: CachedRepository[Any],
    chain: Chain,
    *writes: Write,
    terminal: str = "list",
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
) -> None:
    assert name not in SHAPES
    SHAPES[name] = Shape(Question(repository, chain, terminal, args, dict(kwargs or {})), writes)


def everything(query: Any) -> Any:
    return query


def of_outer(**conditions: Any) -> Any:
    """The works of the artist that the outer query asks about."""
    return m.Work.objects.filter(artist=OuterRef("pk"), **conditions)


# Subqueries. -------------------------------------------------------------------------------------

shape(
    "Subquery in annotate",
    artists,
    lambda q: q.annotate(dearest=Subquery(of_outer().order_by("-price").values("title")[:1])),
    save(m.Work, LOOM, price=99),
    update(m.Work, LOOM, title="Renamed"),
    work(price=100),
    delete(m.Work, NEW),
)
shape(
    "Subquery in filter",
    artists,
    lambda q: q.filter(pk__in=Subquery(m.Work.objects.filter(sold=True).values("artist"))),
    save(m.Work, LOOM, sold=True),
    update(m.Work, SKY, sold=False),
)
shape(
    "Subquery in order_by",
    artists,
    lambda q: q.order_by(Coalesce(Subquery(of_outer().values("price")[:1]), Decimal(0)), "pk"),
    update(m.Work, SKY, price=2),
)
shape(
    "a column compared with a Subquery",
    works,
    lambda q: q.filter(price__gt=Subquery(m.Work.objects.filter(pk=LOOM).values("price")[:1])),
    update(m.Work, LOOM, price=25),
    save(m.Work, VASE, price=26),
)
shape(
    "Exists in filter",
    artists,
    lambda q: q.filter(Exists(of_outer(sold=True))),
    update(m.Work, VASE, sold=True),
    save(m.Work, SKY, artist_id=CAT),
)
shape(
    "not Exists in filter",
    artists,
    lambda q: q.filter(~Exists(of_outer())),
    work(artist=CAT),
    delete(m.Work, SKY),
)
shape(
    "Exists in annotate",
    artists,
    lambda q: q.annotate(sells=Exists(of_outer(sold=True))),
    update(m.Work, LOOM, sold=True),
)
shape(
    "Exists in order_by",
    artists,
    lambda q: q.order_by(Exists(of_outer(sold=True)).desc(), "pk"),
    save(m.Work, SKY, sold=False),
)
shape(
    "Exists of one row",
    artists,
    lambda q: q.filter(Exists(m.Work.objects.filter(pk=LOOM, artist=OuterRef("pk"), sold=False))),
    update(m.Work, LOOM, sold=True),
    update(m.Work, LOOM, sold=False, artist=BEN),
)
shape(
    "OuterRef of OuterRef",
    venues,
    lambda q: q.filter(
        Exists(
            m.Work.objects.filter(
                Exists(m.Style.objects.filter(works=OuterRef("pk"), name="clay")),
                gallery=OuterRef("pk"),
            )
        )
    ),
    style(CLAY, to=LOOM),
    unstyle(CLAY, of=SKY),
    save(m.Style, CLAY, name="loam"),
)
shape(
    "OuterRef in a Subquery that aggregates",
    artists,
    lambda q: q.annotate(
        total=Subquery(of_outer().order_by().values("artist").annotate(s=Sum("price")).values("s"))
    ),
    update(m.Work, LOOM, price=6),
    work(artist=CAT, price=3),
)
shape(
    "a foreign key in a QuerySet",
    works,
    lambda q: q.filter(artist__in=m.Artist.objects.filter(country="NO")),
    save(m.Artist, BEN, country="NO"),
    update(m.Artist, ADA, country="DK"),
)
shape(
    "a foreign key in a QuerySet of another's values",
    works,
    lambda q: q.filter(artist__in=m.Biography.objects.values("artist")),
    create(m.Biography, artist_id=BEN, text="He painted."),
)
shape(
    "a foreign key not in a QuerySet",
    works,
    lambda q: q.exclude(artist__in=m.Artist.objects.filter(died=None)),
    save(m.Artist, BEN, died=None),
)
shape(
    "a row by a condition on another table",
    works,
    lambda q: q.filter(pk=LOOM, artist__in=m.Artist.objects.filter(country="NO")),
    update(m.Artist, ADA, country="SE"),
    save(m.Artist, ADA, country="NO"),
    terminal="get_or_none",
)

shape(
    "rows by two columns in a QuerySet",
    slots,
    lambda q: q.filter(pk__in=m.Slot.objects.filter(taken=True)),
    save(m.Slot, (TOWER, 1), taken=True),
    update(m.Slot, (NORTH, 2), taken=True),
)
shape(
    "an aggregate of a Subquery",
    artists,
    lambda q: q.annotate(dearest=Subquery(of_outer().order_by("-price").values("price")[:1])),
    update(m.Work, LOOM, price=50),
    terminal="aggregate",
    kwargs={"sum": Sum("dearest")},
)

# Combinations. -----------------------------------------------------------------------------------


def sold_or_not(query: Any, *, sold: bool) -> Any:
    return query.filter(sold=sold).order_by()


shape(
    "union",
    works,
    lambda q: (
        sold_or_not(q, sold=True)
        .union(m.Work.objects.filter(artist__name="Ada").order_by())
        .order_by("number")
    ),
    update(m.Work, SKY, sold=False),
    save(m.Artist, ADA, name="Eda"),
)
shape(
    "union of all",
    works,
    lambda q: (
        sold_or_not(q, sold=True)
        .union(m.Work.objects.filter(price__gt=10).order_by(), all=True)
        .order_by("number")
    ),
    save(m.Work, VASE, price=1),
)
shape(
    "union of two tables",
    works,
    lambda q: (
        q.order_by()
        .values_list("title")
        .union(m.Style.objects.order_by().values_list("name"))
        .order_by("title")
    ),
    save(m.Style, WOOL, name="felt"),
    update(m.Work, LOOM, title="Renamed"),
)
shape(
    "a count of a union",
    works,
    lambda q: sold_or_not(q, sold=True).union(m.Work.objects.filter(artist=ADA).order_by()),
    work(),
    update(m.Work, SKY, sold=False),
    terminal="count",
)
shape(
    "intersection",
    works,
    lambda q: (
        q.order_by().intersection(m.Work.objects.filter(styles=WOOL).order_by()).order_by("pk")
    ),
    style(WOOL, to=VASE),
    unstyle(WOOL, of=SKY),
)
shape(
    "difference",
    works,
    lambda q: (
        q.order_by().difference(m.Work.objects.filter(reviews__stars=5).order_by()).order_by("pk")
    ),
    save(m.Review, GOOD, stars=1),
    update(m.Review, GOOD, stars=5),
)

shape(
    "whether a union has rows",
    works,
    lambda q: (
        sold_or_not(q, sold=True)
        .filter(artist=CAT)
        .union(m.Work.objects.filter(title="Sea").order_by())
    ),
    update(m.Work, LOOM, title="Sea"),
    terminal="exists",
)
shape(
    "a union with nothing",
    works,
    lambda q: q.none().union(m.Work.objects.filter(sold=True).order_by()).order_by("pk"),
    update(m.Work, SKY, sold=False),
)

# FilteredRelation. -------------------------------------------------------------------------------


def with_dear_works(query: Any) -> Any:
    return query.annotate(dear=FilteredRelation("works", condition=Q(works__price__gte=20)))


shape(
    "FilteredRelation",
    artists,
    lambda q: with_dear_works(q).filter(dear__title__startswith="V"),
    update(m.Work, LOOM, price=50, title="Viola", artist=BEN),
    save(m.Work, VASE, price=1),
)
shape(
    "FilteredRelation in values",
    artists,
    lambda q: with_dear_works(q).values_list("name", "dear__title").order_by("pk", "dear"),
    save(m.Work, LOOM, price=50),
    delete(m.Work, SKY),
)
shape(
    "FilteredRelation in an aggregate",
    artists,
    lambda q: with_dear_works(q).annotate(n=Count("dear")).order_by("pk"),
    work(price=21),
)
shape(
    "FilteredRelation in select_related",
    works,
    lambda q: (
        q.annotate(dead=FilteredRelation("artist", condition=Q(artist__died__isnull=False)))
        .select_related("dead")
        .filter(dead__isnull=False)
    ),
    save(m.Artist, BEN, name="Bengt"),
    update(m.Artist, ADA, died=2000),
)
shape(
    "FilteredRelation to one row in select_related",
    artists,
    lambda q: q.annotate(
        told=FilteredRelation("biography", condition=Q(biography__text__startswith="She"))
    ).select_related("told"),
    create(m.Biography, pk=NEW, artist_id=CAT, text="She sang."),
    save(m.Biography, NEW, text="Nothing is known."),
)

# Windows. ----------------------------------------------------------------------------------------


def by_artist(expression: Any) -> Window:
    return Window(expression, partition_by="artist", order_by=["price", "pk"])


shape(
    "a window",
    works,
    lambda q: q.annotate(place=by_artist(RowNumber())),
    update(m.Work, VASE, price=1),
    save(m.Work, SKY, artist_id=ADA),
)
shape(
    "windows of other rows' values",
    works,
    lambda q: q.annotate(first=by_artist(FirstValue("title")), before=by_artist(Lag("title"))),
    save(m.Work, LOOM, title="Renamed"),
)
shape(
    "a window that is filtered by",
    works,
    lambda q: q.annotate(place=by_artist(RowNumber())).filter(place=1),
    update(m.Work, LOOM, price=100),
    work(price=1),
)
shape(
    "one row of a window",
    works,
    lambda q: q.filter(pk=LOOM).annotate(rank=Window(Rank(), order_by=F("price").desc())),
    save(m.Work, LOOM, title="Renamed"),
    terminal="get",
)
shape(
    "the place of one row among all",
    works,
    lambda q: q.annotate(place=Window(RowNumber(), order_by="price")).filter(place=2),
    update(m.Work, LOOM, price=25),
    terminal="get",
)
shape(
    "a window over an aggregate",
    works,
    lambda q: (
        q.order_by()
        .values("artist")
        .annotate(total=Sum("price"))
        .annotate(rank=Window(Rank(), order_by="total"))
        .order_by("artist")
    ),
    save(m.Work, LOOM, price=3),
)

# Distinct, dates. --------------------------------------------------------------------------------

shape(
    "distinct",
    works,
    lambda q: q.order_by("artist__country").values_list("artist__country", flat=True).distinct(),
    save(m.Artist, BEN, country="DK"),
    update(m.Artist, ADA, country="DK"),
)
shape(
    "distinct over a table between",
    works,
    lambda q: q.filter(styles__name__in=["wool", "clay"]).distinct(),
    style(CLAY, to=VASE),
    unstyle(WOOL, of=LOOM),
)
shape(
    "a count of distinct rows",
    works,
    lambda q: q.filter(styles__isnull=False).distinct(),
    style(CLAY, to=VASE),
    terminal="count",
)
shape(
    "dates",
    works,
    lambda q: q.dates("made", "year", order="DESC"),
    update(m.Work, LOOM, made=date(1901, 1, 1)),
    work(made=date(2001, 1, 1)),
)
shape(
    "dates over a relation",
    styles,
    lambda q: q.dates("works__made", "month"),
    save(m.Work, LOOM, made=date(1901, 1, 1)),
    style(CLAY, to=VASE),
)
shape(
    "datetimes",
    works,
    lambda q: q.datetimes("hung", "hour"),
    update(m.Work, LOOM, hung=datetime(2026, 3, 1, 9, tzinfo=UTC)),
)
shape(
    "parts of dates in conditions",
    works,
    lambda q: q.filter(made__year=1920, made__month__gte=6, made__week_day__gt=1),
    update(m.Work, LOOM, made=date(1920, 8, 4)),
    save(m.Work, SKY, made=date(1921, 7, 1)),
)
shape(
    "parts of moments in conditions",
    works,
    lambda q: q.filter(hung__date=date(2026, 3, 1), hung__hour=12, hung__time__lt="13:00"),
    save(m.Work, SKY, hung=datetime(2026, 3, 2, 12, tzinfo=UTC)),
)

# Annotations. ------------------------------------------------------------------------------------

shape(
    "annotations over one relation",
    artists,
    lambda q: q.annotate(
        number=Count("works"),
        sold=Count("works", filter=Q(works__sold=True)),
        places=Count("works__gallery", distinct=True),
        total=Sum("works__price", default=0),
        mean=Avg("works__price"),
        least=Min("works__price"),
        last=Max("works__made"),
    ).order_by("pk"),
    update(m.Work, LOOM, sold=True),
    save(m.Work, VASE, gallery_id=SOUTH),
    save(m.Work, VASE, price=21),
    work(artist=CAT),
)
shape(
    "annotations over two levels",
    artists,
    lambda q: q.annotate(
        of_styles=Count("works__styles", distinct=True), best=Max("works__reviews__stars")
    ).order_by("pk"),
    style(CLAY, to=VASE),
    save(m.Review, POOR, stars=4),
)
shape(
    "aggregates",
    works,
    everything,
    update(m.Work, LOOM, price=7),
    save(m.Artist, BEN, name="Zoe"),
    delete(m.Work, VASE),
    terminal="aggregate",
    args=(Sum("price"), Avg("price")),
    kwargs={
        "spread": StdDev("price"),
        "variance": Variance("price"),
        "sold": Count("pk", filter=Q(sold=True)),
        "who": Max("artist__name"),
        "kinds": Count("artist__country", distinct=True),
        "none": Sum("price", filter=Q(price__lt=0), default=Decimal(0)),
    },
)
shape(
    "an aggregate over annotations",
    artists,
    lambda q: q.annotate(number=Count("works")),
    work(),
    terminal="aggregate",
    kwargs={"most": Max("number"), "mean": Avg("number")},
)
shape(
    "values grouped",
    works,
    lambda q: (
        q.order_by("artist", "sold")
        .values("artist", "sold")
        .annotate(n=Count("pk"), s=Sum("price"))
    ),
    update(m.Work, VASE, sold=True),
    save(m.Work, SKY, price=31),
)
shape(
    "values grouped by a related column",
    works,
    lambda q: (
        q.order_by("artist__country")
        .values("artist__country")
        .annotate(n=Count("pk"))
        .filter(n__gte=1)
    ),
    save(m.Artist, BEN, country="NO"),
    work(artist=CAT),
)
shape(
    "values grouped by an expression",
    works,
    lambda q: (
        q.annotate(year=ExtractYear("made")).order_by("year").values("year").annotate(n=Count("pk"))
    ),
    update(m.Work, VASE, made=date(1900, 2, 2)),
)
shape(
    "conditions as values",
    works,
    lambda q: q.annotate(
        class_=Case(
            When(sold=True, then=Value("gone")),
            When(artist__country="NO", then=Value("ours")),
            default=Value("theirs"),
        )
    ),
    save(m.Work, LOOM, sold=True),
    save(m.Artist, ADA, country="DK"),
)
shape(
    "functions of text",
    works,
    lambda q: q.annotate(
        both=Concat("title", Value(" by "), "artist__name"),
        low=Lower("artist__name"),
        at=StrIndex("title", Value("o")),
        part=Substr("title", 1, 2),
        size=Length("title"),
    ).filter(size__gte=3),
    update(m.Artist, ADA, name="Eda"),
    save(m.Work, SKY, title="So"),
)
shape(
    "functions of values",
    works,
    lambda q: q.annotate(
        place=Coalesce("gallery__name", Value("store")),
        none=NullIf("price", Value(Decimal(5))),
        as_text=Cast("made", models.CharField()),
        most=Greatest("price", Value(Decimal(10))),
    ),
    update(m.Venue, SOUTH, name="Southern"),
    save(m.Work, VASE, gallery_id=NORTH),
    save(m.Work, LOOM, price=6),
)
shape(
    "parts of dates as values",
    works,
    lambda q: q.annotate(year=TruncYear("made"), month=TruncMonth("hung")),
    save(m.Work, SKY, made=date(1930, 1, 1)),
)
shape(
    "an expression with a type of its own",
    works,
    lambda q: q.annotate(
        taxed=ExpressionWrapper(F("price") * Decimal("1.25"), models.FloatField())
    ).filter(taxed__gt=10),
    update(m.Work, LOOM, price=9),
)
shape(
    "a column of another table in an expression",
    works,
    lambda q: q.annotate(last=F("artist__died")).filter(made__year__lt=F("artist__died")),
    save(m.Artist, BEN, died=1949),
    update(m.Artist, ADA, died=1910),
)
shape(
    "a document made of columns",
    works,
    lambda q: q.annotate(all=JSONObject(title="title", who=Upper("artist__name"))),
    save(m.Artist, BEN, name="Bengt"),
)
shape(
    "an alias",
    artists,
    lambda q: q.alias(number=Count("works")).filter(number__gte=2).order_by("pk"),
    save(m.Work, VASE, artist_id=BEN),
)
shape(
    "an annotation of raw SQL",
    artists,
    lambda q: q.annotate(
        number=RawSQL("SELECT count(*) FROM museum_work WHERE artist_id = museum_artist.id", ())
    ),
    work(),
    update(m.Work, SKY, artist=CAT),
)
shape(
    "a condition of raw SQL",
    works,
    lambda q: q.filter(
        artist__in=RawSQL("SELECT id FROM museum_artist WHERE country = %s", ("NO",))
    ),
    save(m.Artist, BEN, country="NO"),
)

shape(
    "a condition as a value",
    works,
    lambda q: q.annotate(ours=Q(artist__country="NO"), dear=GreaterThan(F("price"), 10)),
    save(m.Artist, BEN, country="NO"),
    update(m.Work, LOOM, price=11),
)

# Prefetches. -------------------------------------------------------------------------------------

shape(
    "a prefetch of a foreign key's other side",
    artists,
    lambda q: q.prefetch_related("works"),
    update(m.Work, LOOM, title="Renamed"),
    save(m.Work, SKY, artist_id=CAT),
    work(artist=CAT),
    delete(m.Work, VASE),
)
shape(
    "one row with a prefetch",
    artists,
    lambda q: q.filter(pk=ADA).prefetch_related("works"),
    save(m.Work, SKY, artist_id=ADA),
    save(m.Work, LOOM, artist_id=BEN),
    update(m.Work, VASE, title="Renamed"),
    work(),
    delete(m.Work, NEW),
    terminal="get",
)
shape(
    "one row with an empty prefetch",
    artists,
    lambda q: q.filter(pk=CAT).prefetch_related("works"),
    save(m.Work, SKY, artist_id=CAT),
    save(m.Work, SKY, title="Renamed"),
    delete(m.Work, SKY),
    terminal="get",
)
shape(
    "one row with a prefetch over a table between",
    works,
    lambda q: q.filter(pk=LOOM).prefetch_related("styles"),
    style(CLAY, to=LOOM),
    save(m.Style, CLAY, name="loam"),
    unstyle(WOOL, of=LOOM),
    terminal="get",
)
shape(
    "a prefetch over a table between, from the other side",
    styles,
    lambda q: q.prefetch_related("works"),
    style(CLAY, to=VASE),
    update(m.Work, VASE, title="Renamed"),
)
shape(
    "a prefetch of three levels",
    artists,
    lambda q: q.prefetch_related("works__gallery__slots"),
    save(m.Slot, (NORTH, 1), taken=True),
    update(m.Venue, SOUTH, name="Southern"),
    save(m.Work, VASE, gallery_id=NORTH),
)
shape(
    "a prefetch through select_related",
    works,
    lambda q: q.select_related("artist").prefetch_related("artist__works", "artist__portraits"),
    create(m.Portrait, pk=NEW, artist_id="ben", title="Ben"),
    update(m.Work, LOOM, title="Renamed"),
    save(m.Artist, ADA, name="Eda"),
)
shape(
    "a prefetch to itself",
    artists,
    lambda q: q.prefetch_related("pupils__pupils", "mentor__pupils"),
    save(m.Artist, CAT, mentor_id=ADA),
    update(m.Artist, CAT, name="Kat"),
)
shape(
    "a prefetch of one related row",
    artists,
    lambda q: q.prefetch_related("biography"),
    biography("He painted."),
    save(m.Artist, BEN, name="Bengt"),
)
shape(
    "Prefetch with a filtered QuerySet",
    artists,
    lambda q: q.prefetch_related(Prefetch("works", m.Work.objects.filter(price__lt=10))),
    save(m.Work, VASE, price=9),
    update(m.Work, LOOM, price=90),
)
shape(
    "Prefetch of one row with a filtered QuerySet",
    artists,
    lambda q: q.filter(pk=ADA).prefetch_related(
        Prefetch("works", m.Work.objects.filter(sold=True), to_attr="gone")
    ),
    save(m.Work, VASE, sold=True),
    save(m.Work, SKY, artist_id=ADA),
    update(m.Work, VASE, title="Renamed"),
    update(m.Work, VASE, sold=False),
    terminal="get",
)
shape(
    "Prefetch with an ordered QuerySet",
    artists,
    lambda q: q.prefetch_related(Prefetch("works", m.Work.objects.order_by("gallery__name", "pk"))),
    update(m.Work, VASE, gallery=SOUTH),
    save(m.Venue, NORTH, name="Up"),
)
shape(
    "Prefetch with a slice",
    artists,
    lambda q: q.prefetch_related(
        Prefetch("works", m.Work.objects.order_by("-price")[:1], to_attr="dearest")
    ),
    update(m.Work, LOOM, price=100),
    delete(m.Work, LOOM),
)
shape(
    "Prefetch with annotations and joins",
    artists,
    lambda q: q.prefetch_related(
        Prefetch(
            "works",
            m.Work.objects.select_related("gallery").annotate(n=Count("styles")).order_by("pk"),
            to_attr="all_works",
        )
    ),
    style(CLAY, to=VASE),
    save(m.Gallery, NORTH, light="candles"),
)
shape(
    "Prefetch within Prefetch",
    artists,
    lambda q: q.prefetch_related(
        Prefetch(
            "works",
            m.Work.objects.filter(price__gte=5).prefetch_related(
                Prefetch("styles", m.Style.objects.exclude(name="clay"), to_attr="others")
            ),
        )
    ),
    style(WOOL, to=VASE),
    save(m.Style, CLAY, name="loam"),
    update(m.Work, SKY, price=1),
)
shape(
    "two prefetches of one relation",
    artists,
    lambda q: q.prefetch_related(
        Prefetch("works", m.Work.objects.filter(sold=True), to_attr="gone"),
        Prefetch("works", m.Work.objects.filter(sold=False), to_attr="there"),
    ),
    save(m.Work, LOOM, sold=True),
)
shape(
    "a prefetch with only some columns",
    artists,
    lambda q: q.prefetch_related(Prefetch("works", m.Work.objects.only("title", "artist"))),
    save(m.Work, LOOM, title="Renamed"),
)

shape(
    "a prefetch of a table between itself",
    artists,
    lambda q: q.prefetch_related("friends__friends"),
    lambda: m.Artist.objects.get(pk=ADA).friends.add(CAT),
    save(m.Artist, BEN, name="Bengt"),
    lambda: m.Artist.objects.get(pk=BEN).friends.clear(),
)
shape(
    "a Prefetch over a table between",
    works,
    lambda q: q.filter(pk=SKY).prefetch_related(
        Prefetch("styles", m.Style.objects.filter(name__contains="l").order_by("-name"))
    ),
    save(m.Style, CLAY, name="loam"),
    save(m.Style, WOOL, name="felt"),
    unstyle(CLAY, of=SKY),
    terminal="get",
)

# Generic relations. ------------------------------------------------------------------------------

shape(
    "a generic relation",
    works,
    lambda q: q.prefetch_related("reviews"),
    save(m.Review, GOOD, stars=4),
    lambda: m.Work.objects.get(pk=VASE).reviews.create(stars=2),
    delete(m.Review, POOR),
)
shape(
    "one row with a generic relation",
    works,
    lambda q: q.filter(pk=LOOM).prefetch_related("reviews"),
    save(m.Review, POOR, key=LOOM),
    save(m.Review, GOOD, stars=4),
    delete(m.Review, GOOD),
    terminal="get",
)
shape(
    "a condition on a generic relation",
    works,
    lambda q: q.filter(reviews__stars__gte=3),
    update(m.Review, POOR, stars=4),
    save(m.Review, GOOD, key=VASE),
)
shape(
    "the other side of a generic relation",
    reviews,
    lambda q: q.filter(work__sold=True),
    update(m.Work, LOOM, sold=True),
)
shape(
    "an annotation over a generic relation",
    works,
    lambda q: q.annotate(mean=Avg("reviews__stars")).order_by("pk"),
    save(m.Review, GOOD, stars=4),
)
shape(
    "a generic foreign key that is prefetched",
    reviews,
    lambda q: q.prefetch_related("about"),
    update(m.Work, LOOM, title="Renamed"),
    save(m.Hall, TOWER, floor=10),
    update(m.Venue, TOWER, name="Spire"),
    save(m.Review, GOOD, key=VASE),
    lambda: m.Review.objects.create(about=m.Gallery.objects.get(pk=SOUTH)),
)
shape(
    "one row with a generic foreign key",
    reviews,
    lambda q: q.filter(pk=GOOD).prefetch_related("about"),
    save(m.Work, LOOM, title="Renamed"),
    update(m.Review, GOOD, key=SKY),
    save(m.Work, SKY, title="Heaven"),
    terminal="get",
)
shape(
    "GenericPrefetch",
    reviews,
    lambda q: q.prefetch_related(
        GenericPrefetch(
            "about", [m.Work.objects.filter(price__lt=10), m.Hall.objects.only("floor")]
        )
    ),
    save(m.Work, LOOM, title="Renamed"),
    save(m.Hall, TOWER, floor=10),
    update(m.Work, SKY, price=1),
)
shape(
    "levels beyond a generic foreign key",
    reviews,
    lambda q: q.filter(pk__in=[GOOD, POOR]).prefetch_related("about__artist"),
    save(m.Artist, BEN, name="Bengt"),
    update(m.Work, LOOM, artist=CAT),
)
shape(
    "a condition on a generic foreign key's parts",
    reviews,
    lambda q: q.filter(kind__model="work", key=LOOM),
    save(m.Review, POOR, key=LOOM),
)

shape(
    "a count over a generic relation",
    works,
    lambda q: (
        q.annotate(n=Count("reviews"))
        .values_list("title", "n", "reviews__stars")
        .order_by("pk", "reviews__stars")
    ),
    lambda: m.Work.objects.get(pk=VASE).reviews.create(stars=2),
    save(m.Review, GOOD, stars=4),
)

# Rows, columns. ----------------------------------------------------------------------------------

shape(
    "in_bulk by another field",
    works,
    everything,
    update(m.Work, LOOM, title="Renamed"),
    save(m.Work, LOOM, number="w9"),
    work(number="w4"),
    terminal="in_bulk",
    args=(["w1", "w4"],),
    kwargs={"field_name": "number"},
)
shape(
    "in_bulk with a prefetch",
    artists,
    lambda q: q.prefetch_related("works"),
    save(m.Work, SKY, artist_id=ADA),
    save(m.Work, SKY, title="Renamed"),
    terminal="in_bulk",
    args=([ADA, CAT],),
)
shape(
    "only some columns over relations",
    works,
    lambda q: q.select_related("artist__mentor").only(
        "title", "artist__name", "artist__mentor__name"
    ),
    update(m.Artist, ADA, name="Eda"),
    save(m.Work, LOOM, title="Renamed"),
)
shape(
    "deferred columns over relations",
    works,
    lambda q: q.select_related("artist").defer("details", "artist__name", "artist__code"),
    save(m.Artist, ADA, country="DK"),
)
shape(
    "a column behind nothing but a relation",
    works,
    lambda q: q.values_list("title", "artist__mentor__name", "gallery__name"),
    save(m.Artist, ADA, name="Eda"),
    update(m.Venue, NORTH, name="Up"),
)
shape(
    "dictionaries over a table between",
    works,
    lambda q: q.values("title", "styles__name").order_by("pk", "styles__pk"),
    style(CLAY, to=VASE),
    save(m.Style, CLAY, name="loam"),
)
shape(
    "a column of the table between",
    works,
    lambda q: q.values_list("pk", "styles").order_by("pk", "styles"),
    unstyle(WOOL, of=SKY),
)

# Primary keys of two columns. --------------------------------------------------------------------

shape(
    "a row by two columns",
    slots,
    lambda q: q.filter(pk=(TOWER, 1)),
    save(m.Slot, (TOWER, 1), taken=True),
    delete(m.Slot, (TOWER, 1)),
    create(m.Slot, hall_id=TOWER, number=1),
    terminal="get_or_none",
)
shape(
    "rows by two columns",
    slots,
    lambda q: q.filter(pk__in=[(TOWER, 1), (NORTH, 9)]),
    update(m.Slot, (TOWER, 1), taken=True),
    create(m.Slot, hall_id=NORTH, number=9),
)
shape(
    "in_bulk by two columns",
    slots,
    everything,
    save(m.Slot, (NORTH, 2), taken=True),
    update(m.Slot, (NORTH, 2), number=3),
    terminal="in_bulk",
    args=([(TOWER, 1), (NORTH, 2)],),
)
shape(
    "rows by one of two columns",
    slots,
    lambda q: q.filter(hall=TOWER),
    create(m.Slot, hall_id=TOWER, number=3),
    update(m.Slot, (NORTH, 1), hall=TOWER, number=4),
)
shape(
    "a row that is referred to by two columns",
    bookings,
    lambda q: q.select_related("slot__hall"),
    save(m.Slot, (TOWER, 1), taken=True),
    update(m.Booking, OF_EVE, number=2),
    save(m.Hall, TOWER, floor=10),
)
shape(
    "rows that refer to two columns",
    slots,
    lambda q: q.prefetch_related("bookings"),
    save(m.Booking, OF_EVE, number=2),
    create(m.Booking, hall_id=NORTH, number=1, who="Bob"),
)
shape(
    "a count of rows with two columns as their key",
    slots,
    lambda q: q.filter(taken=False),
    save(m.Slot, (TOWER, 1), taken=True),
    terminal="count",
)

# Inheritance, proxies, twins, managers. ----------------------------------------------------------

shape(
    "a row of the third level",
    galleries,
    everything,
    save(m.Venue, NORTH, name="Up"),
    update(m.Hall, NORTH, floor=3),
    save(m.Gallery, NORTH, light="candles"),
    terminal="get",
    kwargs={"pk": NORTH},
)
shape(
    "a row of the first level",
    venues,
    lambda q: q.filter(pk=NORTH),
    save(m.Gallery, NORTH, name="Up"),
    update(m.Hall, NORTH, name="Upper"),
    delete(m.Gallery, NORTH),
    terminal="get_or_none",
)
shape(
    "rows of the second level",
    halls,
    everything,
    save(m.Venue, SOUTH, name="Southern"),
    update(m.Gallery, NORTH, floor=7),
    delete(m.Venue, SOUTH),
)
shape(
    "rows of the third level by a column of the first",
    galleries,
    lambda q: q.filter(name__startswith="N", floor__lt=5),
    update(m.Venue, SOUTH, name="New"),
    save(m.Hall, NORTH, floor=9),
    update(m.Gallery, SOUTH, name="Old"),
)
shape(
    "rows of the third level by exactly a column of the first",
    galleries,
    lambda q: q.filter(name="North"),
    update(m.Venue, SOUTH, name="North"),
    save(m.Venue, NORTH, name="Up"),
    save(m.Gallery, SOUTH, light="candles"),
)
shape(
    "a parent with its children",
    venues,
    lambda q: q.select_related("hall__gallery"),
    save(m.Gallery, SOUTH, light="candles"),
    lambda: m.Hall(venue_ptr_id=ATRIUM, name="Atrium", floor=4).save(),
    lambda: m.Gallery.objects.get(pk=SOUTH).delete(keep_parents=True),
)
shape(
    "one parent with a child that comes later",
    venues,
    lambda q: q.filter(pk=ATRIUM).select_related("hall"),
    lambda: m.Hall(venue_ptr_id=ATRIUM, name="Atrium", floor=4).save_base(raw=True),
    save(m.Hall, ATRIUM, floor=5),
    lambda: m.Hall.objects.get(pk=ATRIUM).delete(keep_parents=True),
    terminal="get",
)
shape(
    "a child with the row of its parent",
    galleries,
    lambda q: q.filter(pk=NORTH).select_related("hall_ptr__venue_ptr"),
    save(m.Venue, NORTH, name="Up"),
    update(m.Hall, NORTH, floor=3),
    terminal="get",
)
shape(
    "rows whose child is missing",
    venues,
    lambda q: q.filter(hall__gallery=None),
    create(m.Hall, pk=NEW, name="Wing"),
    lambda: m.Gallery.objects.get(pk=SOUTH).delete(keep_parents=True),
)
shape(
    "a proxy of the third level",
    cabinets,
    everything,
    save(m.Hall, NORTH, floor=7),
    update(m.Gallery, NORTH, light="candles"),
    create(m.Cabinet, pk=NEW, name="Cabinet"),
)
shape(
    "a row of a proxy",
    cabinets,
    everything,
    save(m.Gallery, NORTH, light="candles"),
    save(m.Cabinet, NORTH, name="Up"),
    terminal="get",
    kwargs={"pk": NORTH},
)
shape(
    "an unmanaged twin",
    labels,
    lambda q: q.filter(artist_id=ADA),
    save(m.Work, LOOM, title="Renamed"),
    update(m.Work, SKY, artist=ADA),
    update(m.Label, LOOM, title="By its twin"),
)
shape(
    "a row of an unmanaged twin",
    labels,
    lambda q: q.filter(pk=LOOM),
    save(m.Work, LOOM, title="Renamed"),
    update(m.Label, LOOM, title="By its twin"),
    delete(m.Work, LOOM),
    terminal="get_or_none",
)
shape(
    "a database view that says what it depends on",
    bargains,
    everything,
    update(m.Work, VASE, price=1),
    save(m.Work, LOOM, title="Renamed"),
    delete(m.Work, LOOM),
)
shape(
    "a manager that leaves rows out",
    LivingArtists(),
    everything,
    save(m.Artist, BEN, died=None),
    update(m.Artist, ADA, died=2000),
)
shape(
    "a method of a QuerySet of its own",
    Norwegians(),
    lambda q: q.filter(number__gte=1),
    work(artist=CAT),
    update(m.Artist, ADA, country="DK"),
)
shape(
    "one row by a QuerySet of its own",
    Norwegians(),
    lambda q: q.filter(pk=ADA),
    work(),
    save(m.Artist, ADA, country="DK"),
    terminal="get_or_none",
)

shape(
    "rows of the second level by a column of the third",
    halls,
    lambda q: q.filter(gallery__light="lamps"),
    save(m.Gallery, NORTH, light="lamps"),
    update(m.Gallery, SOUTH, light="candles"),
)
shape(
    "an annotation over the levels",
    venues,
    lambda q: q.annotate(n=Count("hall__gallery__works"), floor=F("hall__floor")).order_by("pk"),
    save(m.Work, VASE, gallery_id=NORTH),
    update(m.Hall, TOWER, floor=10),
)

# One related row. --------------------------------------------------------------------------------

shape(
    "a one-to-one row from the other side",
    artists,
    lambda q: q.select_related("biography"),
    biography("He painted."),
    save(m.Artist, BEN, name="Bengt"),
    lambda: m.Biography.objects.filter(artist=BEN).update(text="He slept."),
    lambda: m.Biography.objects.filter(artist=BEN).update(artist=CAT),
    lambda: m.Biography.objects.filter(artist=CAT).delete(),
)
shape(
    "one row whose one-to-one row comes later",
    artists,
    lambda q: q.select_related("biography"),
    biography("He painted."),
    lambda: m.Biography.objects.get(artist=BEN).delete(),
    terminal="get",
    kwargs={"pk": BEN},
)
shape(
    "a condition on a missing one-to-one row",
    artists,
    lambda q: q.filter(biography=None),
    biography("He painted."),
)
shape(
    "a foreign key that is null",
    works,
    lambda q: q.select_related("gallery"),
    update(m.Work, VASE, gallery=NORTH),
    save(m.Work, VASE, gallery_id=None),
    delete(m.Gallery, SOUTH),
)
shape(
    "one row with a foreign key that is null",
    works,
    lambda q: q.select_related("gallery", "artist__mentor"),
    save(m.Work, VASE, gallery_id=NORTH),
    update(m.Venue, NORTH, name="Up"),
    update(m.Hall, NORTH, floor=8),
    save(m.Artist, ADA, mentor_id=CAT),
    save(m.Artist, CAT, name="Kat"),
    terminal="get",
    kwargs={"pk": VASE},
)
shape(
    "a foreign key to another column",
    portraits,
    lambda q: q.select_related("artist").filter(artist__code="ada"),
    save(m.Artist, ADA, name="Eda"),
    create(m.Portrait, artist_id="ada", title="Ada, old"),
)
shape(
    "rows that refer to another column",
    artists,
    lambda q: q.prefetch_related("portraits"),
    create(m.Portrait, artist_id="cat", title="Cat"),
)
shape(
    "the mentor of a mentor",
    artists,
    lambda q: q.select_related("mentor__mentor").filter(mentor__mentor__name="Ada"),
    save(m.Artist, ADA, country="DK"),
    update(m.Artist, BEN, mentor=CAT),
)
shape(
    "rows with the same parent as another row",
    works,
    lambda q: q.filter(artist__works__number="w1"),
    save(m.Work, SKY, artist_id=ADA),
    save(m.Work, LOOM, number="w9"),
)

shape(
    "whatever is related and never null",
    works,
    lambda q: q.select_related(),
    save(m.Artist, BEN, name="Bengt"),
)
shape(
    "a condition over a table between itself",
    artists,
    lambda q: q.filter(friends__name="Ben"),
    lambda: m.Artist.objects.get(pk=ADA).friends.add(BEN),
    update(m.Artist, CAT, name="Ben"),
)

# Conditions. -------------------------------------------------------------------------------------

shape(
    "a condition over a table between",
    works,
    lambda q: q.filter(styles__name="wool"),
    style(WOOL, to=VASE),
    save(m.Style, WOOL, name="felt"),
    save(m.Style, CLAY, name="wool"),
)
shape(
    "two conditions over a table between",
    works,
    lambda q: q.filter(styles=WOOL).filter(styles=CLAY),
    style(CLAY, to=LOOM),
    unstyle(WOOL, of=SKY),
)
shape(
    "an exclusion over a table between",
    works,
    lambda q: q.exclude(styles__name="clay"),
    unstyle(CLAY, of=SKY),
    style(CLAY, to=VASE),
    save(m.Style, CLAY, name="loam"),
)
shape(
    "an exclusion over a foreign key's other side",
    artists,
    lambda q: q.exclude(works__sold=True),
    update(m.Work, LOOM, sold=True),
    save(m.Work, SKY, sold=False),
)
shape(
    "an exclusion of a column that may be null",
    works,
    lambda q: q.exclude(gallery=NORTH),
    save(m.Work, VASE, gallery_id=NORTH),
    update(m.Work, LOOM, gallery=None),
)
shape(
    "an order by a related row, in a slice",
    works,
    lambda q: q.order_by("artist__name", "-pk")[:2],
    save(m.Artist, BEN, name="Aaron"),
    update(m.Artist, ADA, name="Aad"),
)
shape(
    "an order by two levels, in a slice",
    works,
    lambda q: q.order_by(F("gallery__hall_ptr__venue_ptr__name").desc(nulls_last=True))[:1],
    save(m.Venue, NORTH, name="Zenith"),
    update(m.Venue, SOUTH, name="Zzz"),
)
shape(
    "an order by an annotation, in a slice",
    artists,
    lambda q: q.annotate(n=Count("works")).order_by("-n", "pk")[:1],
    save(m.Work, LOOM, artist_id=BEN),
)
shape(
    "OR",
    works,
    lambda q: q.filter(Q(artist=BEN) | Q(gallery=NORTH)),
    save(m.Work, VASE, gallery_id=NORTH),
    update(m.Work, LOOM, artist=BEN),
    update(m.Work, LOOM, gallery=None),
    save(m.Work, LOOM, artist_id=ADA),
)
shape(
    "XOR",
    works,
    lambda q: q.filter(Q(sold=True) ^ Q(price__gt=10)),
    update(m.Work, SKY, price=1),
    save(m.Work, VASE, sold=True),
)
shape(
    "negation",
    works,
    lambda q: q.filter(~Q(artist=ADA), ~Q(title="x") | Q(sold=False)),
    update(m.Work, LOOM, artist=CAT),
    save(m.Work, SKY, artist_id=ADA),
)
shape(
    "a condition that is always met",
    works,
    lambda q: q.filter(Q(pk__in=[]) | ~Q(pk__in=[])),
    work(),
)
shape(
    "a key of a document",
    works,
    lambda q: q.filter(details__a=1),
    update(m.Work, VASE, details={"a": 1}),
    save(m.Work, LOOM, details={"a": 3}),
)
shape(
    "a path in a document",
    works,
    lambda q: q.filter(details__b__c__1=2, details__has_key="a"),
    save(m.Work, SKY, details={"a": 1, "b": {"c": [1, 3]}}),
    update(m.Work, LOOM, details={"a": 1, "b": {"c": [1, 2]}}),
)
shape(
    "a document's part as a value",
    works,
    lambda q: q.annotate(part=KT("details__b__c")).values_list("part", "details__a"),
    save(m.Work, LOOM, details={"a": 1, "b": {"c": "text"}}),
)
shape(
    "a document as a whole",
    works,
    lambda q: q.filter(details={"a": 1}),
    update(m.Work, VASE, details={"a": 1}),
    save(m.Work, LOOM, details={}),
)
shape(
    "text in any case",
    works,
    lambda q: q.filter(title__iexact="LOOM"),
    save(m.Work, VASE, title="lOOm"),
    update(m.Work, LOOM, title="Renamed"),
)
shape(
    "part of a text in any case",
    works,
    lambda q: q.filter(Q(title__icontains="OO") | Q(artist__name__istartswith="b")),
    update(m.Work, VASE, title="Wood"),
    save(m.Artist, BEN, name="Ken"),
)
shape(
    "a pattern",
    works,
    lambda q: q.filter(title__regex="^[LV]", number__in=["w1", "w2", "w3"]),
    save(m.Work, SKY, title="Light"),
)
shape(
    "a range",
    works,
    lambda q: q.filter(price__range=(1, 10), made__lte=date(1910, 1, 1)),
    update(m.Work, VASE, price=2, made=date(1905, 1, 1)),
)
shape(
    "a condition by another column",
    works,
    lambda q: q.filter(price=F("pk") - LOOM + 5),
    update(m.Work, VASE, price=6),
)

shape(
    "a list of related rows",
    works,
    lambda q: q.filter(artist__in=[BEN, CAT]),
    save(m.Work, LOOM, artist_id=CAT),
    update(m.Work, SKY, artist=ADA),
)
shape(
    "a list of related instances",
    works,
    lambda q: q.filter(artist__in=[m.Artist(pk=BEN, code="ben"), m.Artist(pk=CAT, code="cat")]),
    save(m.Work, LOOM, artist_id=CAT),
    delete(m.Work, SKY),
)
shape(
    "a list of primary keys",
    works,
    lambda q: q.filter(pk__in=[SKY, LOOM, NEW]),
    save(m.Work, LOOM, title="Renamed"),
    work(),
)
shape(
    "a list with null in it",
    works,
    lambda q: q.filter(Q(gallery__in=[SOUTH]) | Q(gallery=None)),
    save(m.Work, LOOM, gallery_id=None),
    update(m.Work, SKY, gallery=NORTH),
)

# Terminals, slices. ------------------------------------------------------------------------------

shape(
    "whether a row is among them",
    works,
    lambda q: q.filter(artist__country="NO"),
    save(m.Artist, ADA, country="DK"),
    terminal="contains",
    args=(m.Work(pk=LOOM),),
)
shape(
    "whether there are rows",
    works,
    lambda q: q.filter(artist=CAT, sold=False),
    work(artist=CAT),
    save(m.Work, NEW, sold=True),
    terminal="exists",
)
shape(
    "the latest",
    works,
    everything,
    update(m.Work, LOOM, made=date(2000, 1, 1)),
    save(m.Work, VASE, made=date(2001, 1, 1)),
    terminal="latest",
    args=("made", "pk"),
)
shape(
    "the earliest by a related column",
    works,
    lambda q: q.select_related("artist"),
    save(m.Artist, ADA, name="Zoe"),
    terminal="earliest",
    args=("artist__name", "pk"),
)
shape(
    "the first of a condition",
    works,
    lambda q: q.filter(artist=ADA),
    delete(m.Work, LOOM),
    update(m.Work, VASE, artist=CAT),
    terminal="first",
)
shape(
    "the last",
    artists,
    lambda q: q.order_by("name"),
    save(m.Artist, ADA, name="Zoe"),
    terminal="last",
)
shape(
    "a row by two conditions",
    works,
    lambda q: q.filter(number="w1", sold=False),
    update(m.Work, LOOM, title="Renamed"),
    save(m.Work, LOOM, sold=True),
    save(m.Work, LOOM, sold=False),
    terminal="get_or_none",
)
shape(
    "a slice with a step",
    works,
    lambda q: q.order_by("title")[0:3:2],
    update(m.Work, SKY, title="Azure"),
)
shape(
    "a page of a condition",
    works,
    lambda q: q.filter(artist=ADA)[1:3],
    work(),
    save(m.Work, LOOM, artist_id=BEN),
)
shape(
    "a count of a slice",
    works,
    lambda q: q.filter(artist=ADA)[:2],
    save(m.Work, VASE, artist_id=BEN),
    terminal="count",
)

# What PostgreSQL alone has. ----------------------------------------------------------------------

if POSTGRESQL:
    shape(
        "distinct on",
        works,
        lambda q: q.order_by("artist_id", "-price").distinct("artist_id"),
        update(m.Work, LOOM, price=100),
        save(m.Work, SKY, artist_id=ADA),
    )
    shape(
        "distinct on a related column",
        works,
        lambda q: q.order_by("artist__country", "-pk").distinct("artist__country"),
        save(m.Artist, BEN, country="NO"),
    )
    shape(
        "arrays and joined texts",
        artists,
        lambda q: q.annotate(
            titles=postgres.ArrayAgg("works__title", order_by="works__pk", default=Value([])),
            dear=postgres.ArrayAgg("works__title", filter=Q(works__price__gt=10), distinct=True),
            text=postgres.StringAgg("works__title", delimiter=", ", order_by="works__title"),
            all_sold=postgres.BoolAnd("works__sold"),
            documents=postgres.JSONBAgg("works__details", order_by="works__pk"),
        ).order_by("pk"),
        save(m.Work, VASE, title="Urn"),
        update(m.Work, LOOM, price=50),
        work(artist=CAT, details={"z": None}),
    )
    shape(
        "a document that contains another",
        works,
        lambda q: q.filter(details__contains={"b": {"c": [2]}}),
        update(m.Work, LOOM, details={"b": {"c": [2]}}),
    )
    shape(
        "an array of a subquery",
        artists,
        lambda q: q.annotate(titles=ArraySubquery(of_outer().values("title"))),
        save(m.Work, LOOM, title="Renamed"),
        work(artist=CAT),
    )
    shape(
        "a search in words",
        works,
        lambda q: q.annotate(words=SearchVector("title", "artist__name")).filter(words="ben"),
        save(m.Artist, BEN, name="Bengt"),
        update(m.Work, LOOM, title="Ben"),
    )
    shape(
        "every second of a slice that is distinct on a column",
        works,
        lambda q: q.order_by("artist_id", "pk").distinct("artist_id")[0:2:2],
        save(m.Work, LOOM, title="Renamed"),
    )


# How they are answered. ---------------------------------------------------------------------------

WAYS = [("memory", "async"), ("redis", "sync")]


def pairs() -> list[Any]:
    """Each shape with one store and one way of asking: in a run on PostgreSQL with the other ones
    than in a run on SQLite."""
    return [
        pytest.param(shape, *WAYS[(at + POSTGRESQL) % 2], id=name)
        for at, (name, shape) in enumerate(SHAPES.items())
    ]


@pytest.mark.parametrize(("shape", "store", "answers"), pairs(), indirect=["store", "answers"])
def test_a_shape_is_a_hit_that_is_the_databases_answer_and_fresh_after_each_write(
    shape: Shape, answers: Answers
) -> None:
    asked = {"it": shape.question}
    assert shape.writes
    assert_fresh_after_each(shape.writes, asked, answers)
    warm(asked, answers)
    assert_same([shape.question.plain()], [shape.question.cached()])


NOT_KEPT: dict[str, tuple[str, CachedRepository[Any], Chain]] = {
    "an order at random": ("in the query", works, lambda q: q.order_by("?")),
    "the time": ("in the query", works, lambda q: q.annotate(now=Now())),
    "the time in a condition": ("in the query", works, lambda q: q.filter(hung__lt=Now())),
    "the time in a subquery": (
        "in the query",
        artists,
        lambda q: q.filter(Exists(of_outer(hung__lt=Now()))),
    ),
    "the time in a Prefetch": (
        "in the query",
        artists,
        lambda q: q.prefetch_related(Prefetch("works", m.Work.objects.filter(hung__lt=Now()))),
    ),
    "raw SQL that is random": (
        "in the query",
        works,
        lambda q: q.annotate(any_=RawSQL("random()", ())),
    ),
    "an ignored table in a subquery": (
        "ignored table",
        works,
        lambda q: q.exclude(title__in=Session.objects.values("session_key")),
    ),
    "a Prefetch within a GenericPrefetch": (
        "not representable",
        reviews,
        lambda q: q.prefetch_related(
            GenericPrefetch(
                "about",
                [
                    m.Work.objects.prefetch_related(
                        Prefetch("styles", m.Style.objects.filter(name="wool"))
                    )
                ],
            )
        ),
    ),
}


@pytest.mark.parametrize("store", ["memory"], indirect=True)
@pytest.mark.parametrize(("reason", "repository", "chain"), NOT_KEPT.values(), ids=NOT_KEPT)
def test_what_cannot_be_kept_is_read_each_time_and_says_why(
    reason: str, repository: CachedRepository[Any], chain: Chain, ask: Ask
) -> None:
    with metrics.recording() as events:
        for _ in range(3):
            ask(chain(repository.all()), "list")
    reads = [event for event in events if isinstance(event, metrics.Read)]
    assert "hit" not in [read.outcome for read in reads]
    assert all(reason in str(read.reason) for read in reads), reads


def test_a_prefetch_within_a_generic_prefetch_is_a_hit_with_an_attribute_of_its_own(
    ask: Ask,
) -> None:
    styled = m.Work.objects.prefetch_related(
        Prefetch("styles", m.Style.objects.filter(name="wool"), to_attr="some")
    )
    query = reviews.filter(pk=GOOD).prefetch_related(GenericPrefetch("about", [styled]))
    for _ in range(3):
        with metrics.recording() as events:
            found = ask(query, "get")
    assert [read.outcome for read in events if isinstance(read, metrics.Read)] == ["hit"]
    assert found.about.some == [m.Style.objects.get(pk=WOOL)]


@pytest.mark.parametrize("store", ["memory"], indirect=True)
def test_what_a_hit_left_out_is_loaded_as_it_is_now(ask: Ask) -> None:
    """A deferred column, of a related row too; a generic foreign key that was not prefetched."""
    query = works.select_related("artist").defer("title", "artist__name").filter(pk=LOOM)
    for _ in range(2):
        ask(query, "get")
        ask(reviews, "get", pk=GOOD)
    hit, review = ask(query, "get"), ask(reviews, "get", pk=GOOD)
    assert hit.get_deferred_fields() == {"title"}
    assert hit.artist.get_deferred_fields() == {"name"}
    save(m.Work, LOOM, title="Renamed")()
    save(m.Artist, ADA, name="Eda")()
    assert (hit.title, hit.artist.name, review.about.title) == ("Renamed", "Eda", "Renamed")


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
@pytest.mark.parametrize("store", ["memory"], indirect=True)
def test_a_database_that_the_model_is_not_written_to_is_read_each_time(ask: Ask) -> None:
    """It may be a replica, which lags behind what was written."""
    for database in ("default", "other"):
        Country.objects.using(database).create(code="NO", name=database)
    with metrics.recording() as events:
        for _ in range(2):
            assert ask(countries.using("other"), "get", pk="NO").name == "other"
    assert {(read.outcome, read.reason) for read in events if isinstance(read, metrics.Read)} == {
        ("bypass", "replica")
    }
