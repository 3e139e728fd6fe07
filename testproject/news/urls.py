"""The news app's addresses."""

from django.urls import path

from testproject.news import api, views

app_name = "news"
urlpatterns = [
    path("", views.front, name="front"),
    path("articles/<slug:slug>/", views.article, name="article"),
    path("articles/<slug:slug>/title/", views.save_title, name="save_title"),
    path("articles/<slug:slug>/publish/", views.flip_published, name="flip_published"),
    path("articles/<slug:slug>/comments/", views.add_comment, name="add_comment"),
    path("api/articles/", api.article_list, name="api_articles"),
    path("api/articles/<int:pk>/", api.article_detail, name="api_article"),
]
