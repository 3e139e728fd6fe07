"""A model with the fields that PostgreSQL alone has. Imported only where there is one."""

from __future__ import annotations

from django.contrib.postgres.fields import (
    ArrayField,
    BigIntegerRangeField,
    DateRangeField,
    DateTimeRangeField,
    DecimalRangeField,
    HStoreField,
    IntegerRangeField,
)
from django.contrib.postgres.search import SearchQueryField, SearchVectorField
from django.db import models

from tests.fieldapp.models import FieldAppModel


class Postgres(FieldAppModel):
    numbers = ArrayField(models.IntegerField(null=True))
    nested = ArrayField(ArrayField(models.CharField(max_length=5)))
    moments = ArrayField(models.DateTimeField(), null=True)
    documents = ArrayField(models.JSONField(), null=True)
    spans = ArrayField(DateTimeRangeField(), null=True)
    raws = ArrayField(models.BinaryField(), null=True)
    small_integers = IntegerRangeField(null=True)
    integers = BigIntegerRangeField(null=True)
    decimals = DecimalRangeField(null=True)
    days = DateRangeField(null=True)
    period = DateTimeRangeField(null=True)

    pairs = HStoreField(null=True)
    vector = SearchVectorField(null=True)
    query = SearchQueryField(null=True)

    class Meta:
        app_label = "fieldapp"
