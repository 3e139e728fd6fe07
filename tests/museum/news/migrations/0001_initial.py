"""The example site's own."""

from importlib import import_module

Migration = import_module("testproject.news.migrations.0001_initial").Migration
