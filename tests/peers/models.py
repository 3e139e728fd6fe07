"""What the peers' suites have models of, and neither the example site nor tests/library has."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models


class PeersModel(models.Model):
    """Names its app, so that the models can be imported before the app is installed."""

    objects: ClassVar[models.Manager[Any]] = models.Manager()

    class Meta:
        abstract = True
        app_label = "peers"


class Dealer(PeersModel):
    name = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.name


class Importer(Dealer):
    """One proxy of Dealer."""

    class Meta:
        proxy = True
        app_label = "peers"


class Retailer(Dealer):
    """Another."""

    class Meta:
        proxy = True
        app_label = "peers"


class Part(PeersModel):
    """Its number has another name in the database, and parts refer to each other by it."""

    number = models.IntegerField(unique=True, db_column="part_no")
    weight = models.IntegerField(default=0)
    replaces = models.ForeignKey(
        "self", models.SET_NULL, null=True, to_field="number", related_name="replaced_by"
    )
    dealers = models.ManyToManyField(Dealer, related_name="parts")


class Engine(Part):
    """A multi-table child: its dealers are those of its parent's table."""

    power = models.IntegerField(default=0)

    class Meta:
        app_label = "peers"


class Warranty(PeersModel):
    part = models.OneToOneField(Part, models.SET_NULL, null=True, related_name="warranty")
    months = models.IntegerField(default=12)
