"""The rows that are read and written. A version only ever grows."""

from __future__ import annotations

from django.db import models


class Row(models.Model):
    group = models.IntegerField()
    version = models.BigIntegerField(default=0)

    class Meta:
        app_label = "torture"

    def __str__(self) -> str:
        return f"row {self.pk}, version {self.version}"
