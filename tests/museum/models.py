"""A museum: models that a query can be asked about in every shape, and written by every path."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, Self

from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import connection, models
from django.db.models.functions import Upper


class MuseumModel(models.Model):
    """Names its app, so that the models can be imported before the app is installed."""

    objects: ClassVar[models.Manager[Any]] = models.Manager()

    class Meta:
        abstract = True
        app_label = "museum"
        ordering = ["pk"]


# Three levels of inheritance. -------------------------------------------------------------------


class Venue(MuseumModel):
    name = models.CharField(max_length=50)


class Hall(Venue):
    floor = models.IntegerField(default=0)

    class Meta(MuseumModel.Meta):
        app_label = "museum"


class Gallery(Hall):
    light = models.CharField(max_length=50, default="daylight")

    class Meta(MuseumModel.Meta):
        app_label = "museum"


class Cabinet(Gallery):
    """A proxy of the third level, with an order of its own."""

    class Meta:
        app_label = "museum"
        proxy = True
        ordering = ["-floor", "pk"]


# What hangs there. ------------------------------------------------------------------------------


class ArtistQuerySet(models.QuerySet[Any]):
    def of(self, country: str) -> Self:
        return self.filter(country=country)

    def with_works(self) -> Self:
        return self.annotate(number=models.Count("works")).order_by("pk")


class Living(models.Manager[Any]):
    def get_queryset(self) -> models.QuerySet[Any]:
        return super().get_queryset().filter(died=None)


class Artist(MuseumModel):
    """Refers to itself, and is referred to by its code, too."""

    code = models.SlugField(unique=True)
    name = models.CharField(max_length=50)
    country = models.CharField(max_length=2)
    died = models.IntegerField(null=True)
    mentor = models.ForeignKey("self", models.SET_NULL, null=True, related_name="pupils")
    friends = models.ManyToManyField("self")

    objects: ClassVar[Any] = ArtistQuerySet.as_manager()
    living = Living()

    class Meta(MuseumModel.Meta):
        app_label = "museum"


class Biography(MuseumModel):
    """Not every artist has one."""

    artist = models.OneToOneField(Artist, models.CASCADE, related_name="biography")
    text = models.CharField(max_length=50)


class Portrait(MuseumModel):
    """Refers to an artist by something else than the primary key."""

    artist = models.ForeignKey(Artist, models.CASCADE, to_field="code", related_name="portraits")
    title = models.CharField(max_length=50)


class Style(MuseumModel):
    name = models.CharField(max_length=50, unique=True)


class Work(MuseumModel):
    title = models.CharField(max_length=50)
    number = models.SlugField(unique=True)
    artist = models.ForeignKey(Artist, models.CASCADE, related_name="works")
    gallery = models.ForeignKey(Gallery, models.SET_NULL, null=True, related_name="works")
    price = models.DecimalField(max_digits=8, decimal_places=2, default=Decimal(0))
    sold = models.BooleanField(default=False)
    made = models.DateField(default=date(1900, 1, 1))
    hung = models.DateTimeField(null=True)
    details = models.JSONField(default=dict)
    styles = models.ManyToManyField(Style, related_name="works")
    reviews = GenericRelation("museum.Review", "key", "kind", related_query_name="work")


class Review(MuseumModel):
    """About a row of any model."""

    # Without a constraint: ContentType's rows are flushed in their own time.
    kind = models.ForeignKey(ContentType, models.CASCADE, db_constraint=False)
    key = models.PositiveBigIntegerField()
    about = GenericForeignKey("kind", "key")
    stars = models.IntegerField(default=3)
    text = models.CharField(max_length=50, default="")


class Label(MuseumModel):
    """The rows of Work as an unmanaged twin sees them."""

    title = models.CharField(max_length=50)
    artist_id = models.IntegerField()

    class Meta(MuseumModel.Meta):
        app_label = "museum"
        managed = False
        db_table = "museum_work"


class Bargain(MuseumModel):
    """The rows of a database view over Work."""

    title = models.CharField(max_length=50)

    class Meta(MuseumModel.Meta):
        app_label = "museum"
        managed = False
        db_table = "museum_bargain"


VIEWS = {"museum_bargain": "SELECT id, title FROM museum_work WHERE price < 10"}


class Slot(MuseumModel):
    """Two columns make its primary key."""

    pk = models.CompositePrimaryKey("hall_id", "number")
    hall = models.ForeignKey(Hall, models.CASCADE, related_name="slots")
    number = models.IntegerField()
    taken = models.BooleanField(default=False)


class Booking(MuseumModel):
    """Refers to both columns."""

    hall = models.ForeignKey(Hall, models.CASCADE)
    number = models.IntegerField()
    slot: Any = models.ForeignObject(
        Slot, models.CASCADE, ["hall_id", "number"], ["hall_id", "number"], related_name="bookings"
    )
    who = models.CharField(max_length=50)


# A field of every type that a condition can compare. ---------------------------------------------

ANY_CASE = {"sqlite": "NOCASE", "postgresql": "museum_any_case"}[connection.vendor]
"""A collation that takes Ada and ADA for equal."""

if TYPE_CHECKING:
    IntegerField = models.IntegerField[Any, Any]
else:  # Django's class is generic for type checkers alone
    IntegerField = models.IntegerField


class CentsField(IntegerField):
    """1.5 in Python, 150 in the database."""

    def from_db_value(self, value: int | None, *_: object) -> float | None:
        return None if value is None else value / 100

    def to_python(self, value: Any) -> Any:
        return value if value is None else float(value)

    def get_prep_value(self, value: Any) -> int | None:
        return None if value is None else round(float(value) * 100)


class Grade(models.TextChoices):
    GOOD = "g", "good"
    POOR = "p", "poor"


class Rank(models.IntegerChoices):
    FIRST = 1
    SECOND = 2


class Item(MuseumModel):
    flag = models.BooleanField(default=False)
    number = models.IntegerField(default=0)
    big = models.BigIntegerField(default=0)
    price = models.DecimalField(max_digits=8, decimal_places=2, default=Decimal(0))
    ratio = models.FloatField(default=0.0)
    name = models.CharField(max_length=50, default="")
    text = models.TextField(default="")
    any_case = models.CharField(max_length=50, default="", db_collation=ANY_CASE)
    code = models.UUIDField(default=uuid.uuid4)
    day = models.DateField(default=date(2000, 1, 1))
    moment = models.DateTimeField(default=datetime(2000, 1, 1, tzinfo=UTC))
    hour = models.TimeField(default=time(0))
    span = models.DurationField(default=timedelta)
    raw = models.BinaryField(default=b"")
    address = models.GenericIPAddressField(default="127.0.0.1")
    data = models.JSONField(default=dict)
    grade = models.CharField(max_length=1, choices=Grade.choices, default=Grade.POOR)
    rank = models.IntegerField(choices=Rank.choices, default=Rank.SECOND)
    cents = CentsField(default=0)
    maybe = models.IntegerField(null=True)
    artist = models.ForeignKey(Artist, models.CASCADE, null=True, related_name="+")
    portrayed = models.ForeignKey(Artist, models.CASCADE, to_field="code", null=True)


class Frame(MuseumModel):
    """The database works out one column, and fills others."""

    width = models.IntegerField()
    height = models.IntegerField(db_default=1)
    area = models.GeneratedField(
        expression=models.F("width") * models.F("height"),
        output_field=models.IntegerField(),
        db_persist=True,
    )
    wood = models.CharField(max_length=50, default="oak")
    shouted = models.GeneratedField(
        expression=Upper("wood"), output_field=models.CharField(max_length=50), db_persist=True
    )
    finish = models.CharField(max_length=50, db_default=models.Value("plain"))


# Ways to go. ------------------------------------------------------------------------------------

CARETAKER = 9_000_009
"""The keeper who takes over what SET_DEFAULT and SET() leave."""


class Keeper(MuseumModel):
    name = models.CharField(max_length=50)


def caretaker() -> int:
    return CARETAKER


class Duty(MuseumModel):
    """What happens to it when its keeper goes depends on the relation."""

    name = models.CharField(max_length=50)
    cascading = models.ForeignKey(Keeper, models.CASCADE, null=True, related_name="+")
    nulled = models.ForeignKey(Keeper, models.SET_NULL, null=True, related_name="+")
    defaulted = models.ForeignKey(
        Keeper, models.SET_DEFAULT, null=True, default=None, related_name="+"
    )
    passed_on = models.ForeignKey(Keeper, models.SET(caretaker), null=True, related_name="+")
    left = models.ForeignKey(
        Keeper, models.DO_NOTHING, null=True, db_constraint=False, related_name="+"
    )
    protecting = models.ForeignKey(Keeper, models.PROTECT, null=True, related_name="+")
    restricting = models.ForeignKey(Keeper, models.RESTRICT, null=True, related_name="+")


class Task(MuseumModel):
    """Goes with its duty."""

    duty = models.ForeignKey(Duty, models.CASCADE, related_name="tasks")
    name = models.CharField(max_length=50)


class Lock(MuseumModel):
    """Goes with its keeper: not by Django, but by ON DELETE of its table."""

    keeper = models.ForeignKey(Keeper, models.DO_NOTHING, related_name="+")
    door = models.CharField(max_length=50)

    class Meta(MuseumModel.Meta):
        app_label = "museum"
        managed = False


class Sign(MuseumModel):
    """Its table is older than Django, and says nothing of where its keys lead."""

    style = models.ForeignKey(Style, models.DO_NOTHING, related_name="+")
    text = models.CharField(max_length=50)

    class Meta(MuseumModel.Meta):
        app_label = "museum"
        managed = False


OLD_TABLES = {
    "museum_lock": "id bigint PRIMARY KEY, door varchar(50), "
    "keeper_id bigint REFERENCES museum_keeper (id) ON DELETE CASCADE",
    "museum_sign": "id bigint PRIMARY KEY, text varchar(50), style_id bigint",
}


class Ledger(MuseumModel):
    """Where a trigger is set, the database itself keeps its state."""

    amount = models.IntegerField(default=0)
    state = models.CharField(max_length=50, default="new")
