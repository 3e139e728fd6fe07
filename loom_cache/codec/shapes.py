"""What the codec knows of a model, worked out once per class."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from django.apps import apps
from django.conf import settings
from django.db.models import Field, FileField, ForeignKey, Model
from django.db.models.base import ModelBase
from django.db.models.fields.files import FieldFile, FileDescriptor, ImageFileDescriptor
from django.db.models.fields.related_descriptors import ForeignKeyDeferredAttribute
from django.db.models.query_utils import DeferredAttribute
from django.db.models.signals import post_init, pre_init

from loom_cache.codec.columns import NOTHING


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """The concrete fields of one model class, and how its instances come about."""

    model: type[Model]
    label: str
    attnames: tuple[str, ...]
    hints: Mapping[str, str]
    """By attname: the letter of its column where every value is None; upper case if nullable."""
    fingerprint: bytes
    files: frozenset[str]
    """The attnames whose value Django wraps in a FieldFile when it is first used."""
    built_by_django: bool

    @property
    def is_plain(self) -> bool:
        """Whether nobody but Django has a hand in making an instance from a row."""
        return self.built_by_django and not (
            post_init.has_listeners(self.model) or pre_init.has_listeners(self.model)
        )


@lru_cache(maxsize=4096)
def shape_of(model: type[Model]) -> Shape:
    fields = model._meta.concrete_fields
    return Shape(
        model=model,
        label=model._meta.label_lower,
        attnames=tuple(field.attname for field in fields),
        hints={field.attname: _hint(field) for field in fields},
        fingerprint=_fingerprint(model),
        files=frozenset(field.attname for field in fields if isinstance(field, FileField)),
        built_by_django=_is_built_by_django(model),
    )


def registered(label: str) -> type[Model] | None:
    """The model that the app registry has under a label, without importing anything."""
    app_label, _, name = label.partition(".")
    return apps.all_models[app_label].get(name) if app_label in apps.all_models else None


def field_of(model: type[Model], attname: str) -> Field[Any, Any]:
    """The field that makes the values under that attribute."""
    fields = model._meta.concrete_fields
    return _target_of(next(field for field in fields if field.attname == attname))


def _target_of(field: Field[Any, Any]) -> Field[Any, Any]:
    """The field whose values a foreign key holds; any other field itself."""
    while isinstance(field, ForeignKey):
        field = field.target_field
    return field


def _fingerprint(model: type[Model]) -> bytes:
    """Changes with whatever decides what a stored row means."""
    parts = [
        f"{field.attname}|{field.column}|{type(field).__module__}.{type(field).__qualname__}"
        f"|{field.get_internal_type()}"
        for field in model._meta.concrete_fields
    ]
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=8).digest()


_DJANGO_DESCRIPTORS: Final = (
    DeferredAttribute,
    ForeignKeyDeferredAttribute,
    FileDescriptor,
    ImageFileDescriptor,
)
_HOOKS: Final = ("__init__", "__new__", "__setattr__", "__getattribute__", "from_db")
_DJANGO_MODULES: Final = ("django.db.models.", "builtins")


def _is_built_by_django(model: type[Model]) -> bool:
    if type(model) is not ModelBase:  # a metaclass may do anything when the class is called
        return False
    for owner in model.__mro__:
        foreign = owner is not object and not owner.__module__.startswith(_DJANGO_MODULES)
        if foreign and any(hook in vars(owner) for hook in _HOOKS):
            return False
    return all(
        type(getattr(model, field.attname, None)) in _DJANGO_DESCRIPTORS
        for field in model._meta.concrete_fields
    )


_HINTS: Final[dict[str, str]] = {
    **dict.fromkeys(("AutoField", "BigAutoField", "SmallAutoField"), "i"),
    **dict.fromkeys(("IntegerField", "BigIntegerField", "SmallIntegerField"), "i"),
    **dict.fromkeys(
        ("PositiveIntegerField", "PositiveBigIntegerField", "PositiveSmallIntegerField"), "i"
    ),
    **dict.fromkeys(("CharField", "TextField", "SlugField", "FileField", "FilePathField"), "s"),
    **dict.fromkeys(("IPAddressField", "GenericIPAddressField"), "s"),
    "FloatField": "f",
    "BooleanField": "b",
    "DecimalField": "c",
    "UUIDField": "u",
    "DateField": "d",
    "TimeField": "t",
}


def _hint(field: Field[Any, Any]) -> str:
    kind = _target_of(field).get_internal_type()
    letter = ("z" if settings.USE_TZ else "n") if kind == "DateTimeField" else _HINTS.get(kind)
    if letter is None:
        return NOTHING
    return letter.upper() if field.null else letter


def raw_file_name(value: object) -> object:
    """What the database holds of a file that Django has wrapped already."""
    return value.name if isinstance(value, FieldFile) else value
