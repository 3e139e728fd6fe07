"""Models of every kind that an invalidation has to follow and the example site does not have."""

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import models


class Place(models.Model):
    """The parent of a multi-table child."""

    name = models.CharField(max_length=50)


class Shop(Place):
    """A multi-table child: its rows are rows of Place, too."""

    open = models.BooleanField(default=True)


class OpenShop(Shop):
    class Meta:
        proxy = True


class Shelf(models.Model):
    """Refers to itself."""

    name = models.CharField(max_length=50)
    above = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, related_name="below")
    shop = models.ForeignKey(Shop, on_delete=models.CASCADE, null=True, related_name="shelves")


class Visible(models.Manager["Book"]):
    def get_queryset(self) -> models.QuerySet["Book"]:
        return super().get_queryset().filter(hidden=False)


class Book(models.Model):
    """Its default manager leaves rows out; its m2m has a model of its own."""

    title = models.CharField(max_length=50)
    hidden = models.BooleanField(default=False)
    stock = models.IntegerField(default=0)
    isbn = models.CharField(max_length=20, unique=True, null=True)  # noqa: DJ001  "" is not unique
    shelf = models.ForeignKey(Shelf, on_delete=models.SET_NULL, null=True, related_name="books")
    readers: "models.ManyToManyField[Reader, Loan]" = models.ManyToManyField(
        "Reader", through="Loan", related_name="books"
    )

    objects = Visible()
    everything = models.Manager["Book"]()

    class Meta:
        constraints = (
            models.CheckConstraint(condition=models.Q(stock__gte=0), name="stock_not_negative"),
        )


class Reader(models.Model):
    """Its primary key is a UUID."""

    id = models.UUIDField(primary_key=True, default=uuid4)
    name = models.CharField(max_length=50)


class Loan(models.Model):
    book = models.ForeignKey(Book, on_delete=models.CASCADE)
    reader = models.ForeignKey(Reader, on_delete=models.CASCADE)
    days = models.IntegerField(default=14)


class Country(models.Model):
    """Its primary key is text."""

    code = models.CharField(max_length=2, primary_key=True)
    name = models.CharField(max_length=50)


class Letter(models.Model):
    """A unique constraint that is checked at COMMIT (PostgreSQL)."""

    number = models.IntegerField()
    country = models.ForeignKey(Country, on_delete=models.CASCADE)

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=["number"], name="number_once", deferrable=models.Deferrable.DEFERRED
            ),
        )


class Firm(models.Model):
    number = models.AutoField(primary_key=True)
    owner = models.CharField(max_length=50)


class Cafe(Place, Firm):
    """A child of two tables; its rows have one primary key in each."""

    seats = models.IntegerField(default=0)


class Isbn(models.Model):
    """The rows of Book by another key, as an unmanaged twin sees them."""

    isbn = models.CharField(max_length=20, primary_key=True)
    title = models.CharField(max_length=50)

    class Meta:
        managed = False
        db_table = "library_book"


class Day(models.Model):
    """Its primary key is neither a number nor text, its table's name no plain word."""

    date = models.DateField(primary_key=True)
    visitors = models.IntegerField(default=0)

    class Meta:
        db_table = "library Open days"


class Seat(models.Model):
    """Its primary key is made of two columns."""

    pk = models.CompositePrimaryKey("cafe_id", "number")
    cafe = models.ForeignKey(Cafe, on_delete=models.CASCADE)
    number = models.IntegerField()
    taken = models.BooleanField(default=False)


class Remark(models.Model):
    """About a row of any model."""

    text = models.CharField(max_length=50)
    # Without a constraint: tables of apps without migrations are made before ContentType's.
    kind = models.ForeignKey(ContentType, on_delete=models.CASCADE, db_constraint=False)
    key = models.PositiveBigIntegerField()
    about = GenericForeignKey("kind", "key")


tenant: ContextVar[str] = ContextVar("tests.library.tenant", default="")
"""Who is asking."""


class OfTenant(models.Manager["Memo"]):
    def get_queryset(self) -> models.QuerySet["Memo"]:
        return super().get_queryset().filter(owner=tenant.get())


class Memo(models.Model):
    """Each tenant sees its own rows."""

    owner = models.CharField(max_length=50)
    text = models.CharField(max_length=50)
    shelf = models.ForeignKey(Shelf, on_delete=models.CASCADE, null=True, related_name="memos")

    objects = OfTenant()
    everybodys = models.Manager["Memo"]()


class Edition(models.Model):
    """Its number only grows: whoever reads a smaller one than was acknowledged got old news."""

    number = models.IntegerField(default=0)


if TYPE_CHECKING:
    IntegerField = models.IntegerField[str | int, str]
else:  # Django's class is generic for type checkers alone
    IntegerField = models.IntegerField


class ParcelNumberField(IntegerField):
    """p7 in Python, 7 in the database."""

    def from_db_value(self, value: int | None, *_: object) -> str | None:
        return None if value is None else f"p{value}"

    def to_python(self, value: Any) -> Any:
        return f"p{value}" if isinstance(value, int) else value

    def get_prep_value(self, value: Any) -> int | None:
        return None if value is None else int(str(value).removeprefix("p"))


class Parcel(models.Model):
    """Its primary key is one value in Python and another in the database."""

    number = ParcelNumberField(primary_key=True)
    content = models.CharField(max_length=50)


class Anthem(models.Model):
    """Its primary key is another row, whose key is text."""

    country = models.OneToOneField(Country, on_delete=models.CASCADE, primary_key=True)
    text = models.CharField(max_length=50)


class Census(models.Model):
    """Each of its rows asks the database when it is made."""

    year = models.IntegerField()
    countries: int

    @classmethod
    def from_db(cls, *args: Any, **kwargs: Any) -> Self:
        made = super().from_db(*args, **kwargs)
        made.countries = Country.objects.count()
        return made
