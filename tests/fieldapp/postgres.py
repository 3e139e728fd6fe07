"""A model with the fields that PostgreSQL alone has. Imported only where there is one."""

from __future__ import annotations

from django.contrib.postgres.fields import (
    ArrayField,
    BigIntegerRangeField,
    DateRangeField,
    DateTimeRangeField,
    DecimalRangeField,
)
from django.db import models

from tests.fieldapp.models import FieldAppModel


class Postgres(FieldAppModel):
    numbers = ArrayField(models.IntegerField(null=True))
    nested = ArrayField(ArrayField(models.CharField(max_length=5)))
    moments = ArrayField(models.DateTimeField(), null=True)
    integers = BigIntegerRangeField(null=True)
    decimals = DecimalRangeField(null=True)
    days = DateRangeField(null=True)
    period = DateTimeRangeField(null=True)

    class Meta:
        app_label = "fieldapp"
