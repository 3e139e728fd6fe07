"""A migration of data, forwards and backwards."""

from typing import Any

from django.db import migrations


def rename(registry: Any, editor: Any) -> None:
    """Every author gets a new name by save(), and each article a tag."""
    author, tag = registry.get_model("news", "Author"), registry.get_model("news", "Tag")
    for row in author.objects.all():
        row.name = f"New {row.name}"
        row.save()
    tag.objects.create(name="new").articles.set(registry.get_model("news", "Article").objects.all())


def name_back(registry: Any, editor: Any) -> None:
    registry.get_model("news", "Author").objects.update(name="Old")
    registry.get_model("news", "Tag").objects.filter(name="new").delete()


class Migration(migrations.Migration):
    dependencies = [("news", "0001_initial")]
    operations = [
        migrations.RunPython(rename, name_back),
        migrations.RunSQL(
            "UPDATE news_article SET title = 'New'", "UPDATE news_article SET title = 'Old'"
        ),
    ]
