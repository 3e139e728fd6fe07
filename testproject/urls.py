"""The site's addresses."""

from django.contrib import admin
from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("testproject.news.urls")),
    *staticfiles_urlpatterns(),  # the admin's CSS, while DEBUG is on
]
