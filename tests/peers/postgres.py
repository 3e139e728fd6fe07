"""A model with the fields that PostgreSQL alone has. Imported only where there is one."""

from __future__ import annotations

from django.contrib.postgres.fields import (
    ArrayField,
    DateRangeField,
    DateTimeRangeField,
    DecimalRangeField,
    HStoreField,
    IntegerRangeField,
)
from django.db import models

from tests.peers.models import PeersModel


class Measured(PeersModel):
    name = models.CharField(max_length=50)
    numbers = ArrayField(models.IntegerField(null=True), default=list)
    pairs = HStoreField(default=dict)
    document = models.JSONField(default=dict)
    years = IntegerRangeField(null=True)
    prices = DecimalRangeField(null=True)
    days = DateRangeField(null=True)
    period = DateTimeRangeField(null=True)

    class Meta:
        app_label = "peers"
