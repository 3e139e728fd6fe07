from django.apps import AppConfig


class PeersConfig(AppConfig):
    """Models that only the behaviours of the peers' suites need; tests/peers/conftest.py installs
    it."""

    name = "tests.peers"
    label = "peers"
    default_auto_field = "django.db.models.BigAutoField"
