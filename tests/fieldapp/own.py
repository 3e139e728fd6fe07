"""Value types of a project's own, and the fields that make them of what the database gives."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django.db import models
from django.utils.text import format_lazy

if TYPE_CHECKING:
    CharField = models.CharField[Any, Any]
else:
    CharField = models.CharField


class Money:
    """Can be compared; its field has no text form that gives it back."""

    def __init__(self, amount: Decimal, currency: str) -> None:
        self.amount, self.currency = amount, currency

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((self.amount, self.currency))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.amount!r}, {self.currency!r})"

    def as_data(self) -> tuple[Decimal, str]:
        return self.amount, self.currency

    @classmethod
    def of_data(cls, data: tuple[Decimal, str]) -> Money:
        return cls(*data)


class Bonus(Money):
    """Another type, although every one is Money."""


class Colour(enum.Enum):
    RED = "r"
    BLUE = "b"


@dataclass
class Spot:
    """Has a text form. How exact its numbers are belongs to it."""

    x: Decimal
    y: Decimal


class Handmade(CharField):
    """What the database holds of a value is what `written` gives."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"max_length": 40, **options})

    def read(self, text: str) -> Any:
        raise NotImplementedError

    def written(self, value: Any) -> str:
        raise NotImplementedError

    def from_db_value(self, value: str | None, *args: Any) -> Any:
        return None if value is None else self.read(value)

    def get_prep_value(self, value: Any) -> Any:
        return value if value is None or isinstance(value, str) else self.written(value)


class MoneyField(Handmade):
    """Of a library that does not care for fixtures: no text form."""

    def read(self, text: str) -> Money:
        amount, currency = text.split()
        return Money(Decimal(amount), currency)

    def written(self, value: Money) -> str:
        return f"{value.amount} {value.currency}"


class BonusField(MoneyField):
    def read(self, text: str) -> Bonus:
        return Bonus(*super().read(text).as_data())


class ColourField(Handmade):
    def read(self, text: str) -> Colour:
        return Colour(text)

    def written(self, value: Colour) -> str:
        return value.value


class SpotField(Handmade):
    """Of a library that does as Django's documentation says."""

    def read(self, text: str) -> Spot | None:
        return Spot(*map(Decimal, text.split()))

    def written(self, value: Spot) -> str:
        return f"{value.x} {value.y}"

    def to_python(self, value: Any) -> Any:
        return self.read(value) if isinstance(value, str) else value

    def value_to_string(self, obj: models.Model) -> Any:
        return self.written(self.value_from_object(obj))


class RoundingSpotField(SpotField):
    """Its text form is that of an equal value, which is another one."""

    def value_to_string(self, obj: models.Model) -> Any:
        value = self.value_from_object(obj)
        return self.written(Spot(value.x.normalize(), value.y.normalize()))


class UnspeakableSpotField(SpotField):
    """Its text form is no text."""

    def value_to_string(self, obj: models.Model) -> Any:
        return format_lazy("{}", super().value_to_string(obj))

    def to_python(self, value: Any) -> Any:
        return self.read(str(value))


class Incomparable(Spot):
    """Is not even equal to itself."""

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]


class IncomparableSpotField(SpotField):
    def read(self, text: str) -> Spot | None:
        return Incomparable(*map(Decimal, text.split()))


class SurrogateSpotField(SpotField):
    def value_to_string(self, obj: models.Model) -> Any:
        return super().value_to_string(obj) + " \ud800"

    def to_python(self, value: Any) -> Any:
        return super().to_python(value.replace(" \ud800", ""))


class BlankSpotField(SpotField):
    """Gives None for an empty text, although the column is never null."""

    def read(self, text: str) -> Spot | None:
        return super().read(text) if text else None


class BlankField(Handmade):
    """Takes an empty text for nothing, although the column is never null."""

    def read(self, text: str) -> str | None:
        return text or None


class FailingSpotField(SpotField):
    def value_to_string(self, obj: models.Model) -> Any:
        raise ZeroDivisionError
