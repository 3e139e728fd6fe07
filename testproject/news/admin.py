"""The admin writes as it always does; nothing here knows that reads are cached."""

from django.contrib import admin

from testproject.news.models import Article, Author, Comment, Tag


# The admin's classes are generic in the type stubs alone.
class CommentInline(admin.TabularInline):  # type: ignore[type-arg]
    model = Comment
    extra = 0


class ArticleAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["title", "author", "published", "created"]
    list_filter = ["published", "tags"]
    list_select_related = ["author"]
    search_fields = ["title"]
    raw_id_fields = ["author", "editor"]
    prepopulated_fields = {"slug": ["title"]}
    inlines = [CommentInline]


admin.site.register([Author, Tag, Comment])
admin.site.register(Article, ArticleAdmin)
