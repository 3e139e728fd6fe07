"""Related rows of every kind that an invalidation has to follow, with columns whose values can be
spelled in several ways. Everything is ordered, so that an answer is one answer."""

from __future__ import annotations

from typing import Any, ClassVar

from django.conf import settings
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.db.models import F

_SQLITE = "sqlite" in settings.DATABASES["default"]["ENGINE"]
FOLDS_CASE = "NOCASE" if _SQLITE else None
"""A collation under which 'n' = 'N'. (PostgreSQL has none that it has not been given.)"""


class PressModel(models.Model):
    """Names its app, so that the models can be imported before the app is installed."""

    objects: ClassVar[models.Manager[Any]] = models.Manager()

    class Meta:
        abstract = True
        app_label = "press"
        ordering = ["pk"]


class Writer(PressModel):
    """Refers to itself."""

    name = models.CharField(max_length=5, default="x")
    mentor = models.ForeignKey("self", models.SET_NULL, null=True, related_name="pupils")
    active = models.BooleanField(default=True)


class Profile(PressModel):
    """No repository is made for it: no signal names its rows. Its key is another row's."""

    writer = models.OneToOneField(Writer, models.CASCADE, primary_key=True)
    text = models.CharField(max_length=5, default="")


class Topic(PressModel):
    """Its key is text."""

    code = models.CharField(max_length=5, primary_key=True)
    name = models.CharField(max_length=5, default="x")


class Post(PressModel):
    slug = models.CharField(max_length=5, unique=True)
    writer = models.ForeignKey(Writer, models.CASCADE, related_name="posts")
    editor = models.ForeignKey(Writer, models.SET_NULL, null=True, related_name="edited")
    title = models.CharField(max_length=5, default="")
    score = models.SmallIntegerField(null=True)
    public = models.BooleanField(default=True)
    day = models.DateField(null=True)
    topics = models.ManyToManyField(Topic, related_name="posts")
    notes = GenericRelation("press.Note", object_id_field="key", content_type_field="kind")


class Reply(PressModel):
    """Hangs on a post, and on a row of its own table."""

    post = models.ForeignKey(Post, models.CASCADE, related_name="replies")
    above = models.ForeignKey("self", models.CASCADE, null=True, related_name="below")
    text = models.CharField(max_length=5, default="")


class Club(PressModel):
    name = models.CharField(max_length=5, default="x")
    members = models.ManyToManyField(Writer, through="Member", related_name="clubs")


class Member(PressModel):
    """A pair that exists once, and something said of it."""

    club = models.ForeignKey(Club, models.CASCADE)
    writer = models.ForeignKey(Writer, models.CASCADE)
    level = models.SmallIntegerField(null=True)

    class Meta(PressModel.Meta):
        constraints = (
            models.UniqueConstraint(fields=["club", "writer"], name="press_member_once"),
        )


class Place(PressModel):
    """The parent of a multi-table child."""

    name = models.CharField(max_length=5, default="x")
    post = models.ForeignKey(Post, models.SET_NULL, null=True, related_name="places")


class Shop(Place):
    """A multi-table child: its rows are rows of Place, too."""

    open = models.BooleanField(default=True)
    owner = models.ForeignKey(Writer, models.SET_NULL, null=True, related_name="shops")


class OpenShop(Shop):
    class Meta:
        app_label = "press"
        proxy = True


class Note(PressModel):
    """About a row of any model."""

    text = models.CharField(max_length=5, default="")
    kind = models.ForeignKey(ContentType, models.CASCADE, db_constraint=False)
    key = models.PositiveBigIntegerField()
    about = GenericForeignKey("kind", "key")


class Sample(PressModel):
    """Columns of one value with several spellings, and values that only the database knows."""

    writer = models.ForeignKey(Writer, models.SET_NULL, null=True, related_name="samples")
    price = models.DecimalField(max_digits=5, decimal_places=2, null=True)
    moment = models.DateTimeField(null=True)
    code = models.UUIDField(null=True)
    nick = models.CharField(max_length=5, default="n", db_collation=FOLDS_CASE)
    weight = models.FloatField(null=True)
    extra = models.JSONField(default=dict)
    size = models.IntegerField(default=0)
    twice = models.GeneratedField(
        expression=F("size") * 2, output_field=models.IntegerField(), db_persist=True
    )
    state = models.CharField(max_length=5, db_default="new")


MODELS = (
    Writer,
    Profile,
    Topic,
    Post,
    Reply,
    Club,
    Member,
    Place,
    Shop,
    Note,
    Sample,
)
"""Those with a table of their own, each after the ones it refers to."""
