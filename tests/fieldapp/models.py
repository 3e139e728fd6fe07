"""Models with every kind of field and relation."""

from __future__ import annotations

import copy
import json
import uuid
from collections import OrderedDict
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, Self

from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models.base import ModelBase
from django.utils import timezone
from django.utils.functional import SimpleLazyObject

from tests.fieldapp import own


class ExactDecoder(json.JSONDecoder):
    """JSON with numbers as they are written, and objects in their order."""

    def __init__(self, **options: Any) -> None:
        super().__init__(parse_float=Decimal, object_pairs_hook=OrderedDict, **options)


class FieldAppModel(models.Model):
    """Names its app, so that the models can be imported before the app is installed."""

    objects: ClassVar[models.Manager[Any]] = models.Manager()

    class Meta:
        abstract = True
        app_label = "fieldapp"


class Everything(FieldAppModel):
    """Every built-in type of field that holds a value, none of them nullable."""

    class Size(models.TextChoices):
        SMALL = "s", "small"
        LARGE = "l", "large"

    class Rank(models.IntegerChoices):
        LOW = 1
        HIGH = 2

    boolean = models.BooleanField(default=True)
    big = models.BigIntegerField(default=0)
    integer = models.IntegerField(default=0)
    small = models.SmallIntegerField(default=0)
    positive = models.PositiveIntegerField(default=0)
    positive_big = models.PositiveBigIntegerField(default=0)
    positive_small = models.PositiveSmallIntegerField(default=0)
    number = models.FloatField(default=0.0)
    money = models.DecimalField(max_digits=12, decimal_places=2, default=0)
    title = models.CharField(max_length=100, default="")
    body = models.TextField(default="")
    slug = models.SlugField(default="")
    email = models.EmailField(default="")
    url = models.URLField(default="")
    size = models.CharField(max_length=1, choices=Size.choices, default=Size.SMALL)
    rank = models.IntegerField(choices=Rank.choices, default=Rank.LOW)
    address = models.GenericIPAddressField(default="127.0.0.1")
    path = models.FilePathField(path="/tmp", default="")
    file = models.FileField(default="")
    data = models.JSONField(default=dict)
    encoded = models.JSONField(default=dict, encoder=DjangoJSONEncoder)
    decoded = models.JSONField(default=dict, decoder=ExactDecoder)
    raw = models.BinaryField(default=b"")
    code = models.UUIDField(default=uuid.uuid4)
    day = models.DateField(default=timezone.now)
    moment = models.DateTimeField(default=timezone.now)
    hour = models.TimeField(default=timezone.now)
    span = models.DurationField(default=timedelta)


class Nullable(FieldAppModel):
    """The same, all of them nullable."""

    boolean = models.BooleanField(null=True)
    integer = models.IntegerField(null=True)
    number = models.FloatField(null=True)
    money = models.DecimalField(max_digits=30, decimal_places=10, null=True)
    title = models.CharField(max_length=100, null=True)  # noqa: DJ001
    address = models.GenericIPAddressField(null=True)
    file = models.FileField(null=True)
    data = models.JSONField(null=True)
    raw = models.BinaryField(null=True)
    code = models.UUIDField(null=True)
    day = models.DateField(null=True)
    moment = models.DateTimeField(null=True)
    hour = models.TimeField(null=True)
    span = models.DurationField(null=True)
    decoded = models.JSONField(null=True, decoder=ExactDecoder)


if TYPE_CHECKING:
    CharField = models.CharField[Any, Any]
else:
    CharField = models.CharField


class Upper(CharField):
    """A field that changes what the database gives."""

    def from_db_value(self, value: str | None, *args: Any) -> str | None:
        return value and value.upper()


class Pair(CharField):
    """A field that makes tuples."""

    def from_db_value(self, value: str | None, *args: Any) -> tuple[str, ...] | None:
        return None if value is None else tuple(value.split("|"))

    def get_prep_value(self, value: Any) -> Any:
        return "|".join(value)


class Thing:
    """Something that the cache knows nothing of."""

    def __init__(self, text: str) -> None:
        self.text = text


class Opaque(CharField):
    """A field that makes objects the cache cannot give back."""

    def from_db_value(self, value: str | None, *args: Any) -> Thing | None:
        return None if value is None else Thing(value)

    def get_prep_value(self, value: Any) -> Any:
        return value.text if isinstance(value, Thing) else value


class Custom(FieldAppModel):
    shout = Upper(max_length=20)
    pair = Pair(max_length=20)


class Strange(FieldAppModel):
    thing = Opaque(max_length=20)


class Sale(FieldAppModel):
    """Values of types that nobody knows unless they are registered."""

    price = own.MoneyField()
    bonus = own.BonusField(null=True)
    colour = own.ColourField(null=True)


class Place2D(FieldAppModel):
    """Values of a type that its field can write."""

    name = models.CharField(max_length=20, default="")
    spot = own.SpotField(null=True)
    near = models.ForeignKey("self", models.SET_NULL, null=True)

    def __str__(self) -> str:
        return self.name


class Landmark(FieldAppModel):
    """Such a value is its primary key."""

    spot = own.SpotField(primary_key=True)


class Visit(FieldAppModel):
    landmark = models.ForeignKey(Landmark, models.CASCADE)
    remark = own.BlankField(default="")
    seen = own.BlankSpotField(default="")


class Imprecise(FieldAppModel):
    """Values that their field writes wrongly, or not at all."""

    rounding = own.RoundingSpotField(null=True)
    unspeakable = own.UnspeakableSpotField(null=True)
    surrogate = own.SurrogateSpotField(null=True)
    failing = own.FailingSpotField(null=True)
    incomparable = own.IncomparableSpotField(null=True)


class Small(FieldAppModel):
    id = models.SmallAutoField(primary_key=True)


class Middling(FieldAppModel):
    id = models.AutoField(primary_key=True)


class Verse(FieldAppModel):
    small = models.ForeignKey(Small, models.CASCADE)

    class Meta:
        app_label = "fieldapp"
        order_with_respect_to = "small"


class Author(FieldAppModel):
    name = models.CharField(max_length=50)
    mentor = models.ForeignKey("self", models.SET_NULL, null=True, related_name="students")
    friends = models.ManyToManyField("self")

    def __str__(self) -> str:
        return self.name


class Tag(FieldAppModel):
    name = models.CharField(max_length=50, primary_key=True)

    def __str__(self) -> str:
        return self.name


class Book(FieldAppModel):
    title = models.CharField(max_length=50)
    author = models.ForeignKey(Author, models.CASCADE, related_name="books")
    editor = models.ForeignKey(Author, models.SET_NULL, null=True, related_name="+")
    tags = models.ManyToManyField(Tag, related_name="tagged_books", related_query_name="tagged")
    notes = GenericRelation("fieldapp.Note")

    def __str__(self) -> str:
        return self.title


class Passport(FieldAppModel):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    owner = models.OneToOneField(Author, models.CASCADE, related_name="passport")


class Place(FieldAppModel):
    name = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.name


class Restaurant(Place):
    stars = models.IntegerField(default=0)

    class Meta:
        app_label = "fieldapp"


class Eatery(Restaurant):
    class Meta:
        proxy = True
        app_label = "fieldapp"


class Note(FieldAppModel):
    text = models.CharField(max_length=50)
    content_type = models.ForeignKey(ContentType, models.CASCADE)
    object_id = models.PositiveIntegerField()
    target = GenericForeignKey("content_type", "object_id")

    def __str__(self) -> str:
        return self.text


class Country(FieldAppModel):
    """Referred to by something else than its primary key."""

    code = models.CharField(max_length=2, unique=True)
    name = models.CharField(max_length=50, unique=True)
    motto = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.name


class City(FieldAppModel):
    country = models.ForeignKey(Country, models.CASCADE, to_field="code")
    twin = models.ForeignKey(Country, models.CASCADE, to_field="name", related_name="+")


class Remembering(FieldAppModel):
    """Its from_db adds what it was given, as Django's documentation suggests."""

    name = models.CharField(max_length=50)
    size = models.IntegerField(default=0)

    @classmethod
    def from_db(cls, db: str | None, field_names: Any, values: Any, **options: Any) -> Self:
        instance = super().from_db(db, field_names, values, **options)
        instance.loaded = dict(zip(field_names, values, strict=False))
        return instance

    loaded: dict[str, Any]


class Tracker:
    """What a library that watches the fields of an instance leaves in it."""

    def __init__(self, owner: models.Model) -> None:
        self.owner = owner
        self.saved = dict(owner.__dict__)


class Tracked(FieldAppModel):
    """Its __init__ leaves an object behind that refers to the instance."""

    name = models.CharField(max_length=50)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tracker = Tracker(self)


class Shouting(FieldAppModel):
    """Its __init__ changes the value of a field every time."""

    name = models.CharField(max_length=50)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.name += "!"


class ExclaimingBase(ModelBase):
    """Has a hand in every instance of its classes."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        instance = super().__call__(*args, **kwargs)
        instance.name += "!"
        return instance


class Exclaiming(FieldAppModel, metaclass=ExclaimingBase):
    name = models.CharField(max_length=50)


class Refusing(FieldAppModel):
    """Its from_db cannot read what it has made itself."""

    name = models.CharField(max_length=50)

    @classmethod
    def from_db(cls, db: str | None, field_names: Any, values: Any, **options: Any) -> Self:
        key, secret = values
        if not str(secret).startswith("secret:"):
            raise KeyError("it is not encrypted")
        return super().from_db(db, field_names, (key, secret[7:]), **options)


class Picture(FieldAppModel):
    image = models.ImageField(width_field="width", height_field="height", null=True)
    width = models.IntegerField(null=True)
    height = models.IntegerField(null=True)
    thumbnail = models.ImageField(default="")


class Rectangle(FieldAppModel):
    """Its area is worked out by the database."""

    width = models.IntegerField()
    height = models.IntegerField()
    area = models.GeneratedField(
        expression=models.F("width") * models.F("height"),
        output_field=models.BigIntegerField(),
        db_persist=True,
    )


class OrderLine(FieldAppModel):
    """Two columns make its primary key."""

    pk = models.CompositePrimaryKey("order", "position")
    order = models.IntegerField()
    position = models.IntegerField()


class Listened(FieldAppModel):
    """For receivers of post_init."""

    name = models.CharField(max_length=50)


class Copying(FieldAppModel):
    """Its __init__ keeps a copy of the instance."""

    name = models.CharField(max_length=50)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.original = copy.copy(self)


class Shifting(FieldAppModel):
    """Its from_db gives an instance of another class, and that one's gives this."""

    @classmethod
    def from_db(cls, db: str | None, field_names: Any, values: Any, **options: Any) -> Self:
        instance = super().from_db(db, field_names, values, **options)
        instance.__class__ = Shifting if cls is Shifted else Shifted  # type: ignore[assignment]
        return instance


class Shifted(Shifting):
    class Meta:
        proxy = True
        app_label = "fieldapp"


def _never() -> None:
    raise AssertionError("it was loaded")


class Lazy(FieldAppModel):
    """Its __init__ leaves something behind that is loaded when it is first used."""

    name = models.CharField(max_length=50)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.later = SimpleLazyObject(_never)


class Grudging:
    """Cannot be compared."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise LookupError


class Incomparable(FieldAppModel):
    """Its __init__ leaves something behind that cannot be compared."""

    name = models.CharField(max_length=50)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.grudge = Grudging()


class PublishedManager(models.Manager[Any]):
    """A default manager that prefetches with a queryset of its own."""

    def get_queryset(self) -> models.QuerySet[Any]:
        chosen = models.Prefetch("pages", queryset=Page.objects.filter(number__gt=1))
        return super().get_queryset().prefetch_related(chosen)


class Leaflet(FieldAppModel):
    objects: ClassVar[models.Manager[Any]] = PublishedManager()


class Page(FieldAppModel):
    leaflet = models.ForeignKey(Leaflet, models.CASCADE, related_name="pages")
    number = models.IntegerField()
