"""What is counted of reads."""

import pytest

from loom_cache import metrics


def test_totals_are_bounded_whatever_the_reasons_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_totals", type(metrics._totals)())
    monkeypatch.setattr(metrics, "MOST_TOTALS", 3)
    for reason in ("a", "b", "c", "d", "e", "a"):
        metrics.emit(metrics.Read("news.Article", "get", "miss", reason, 0.0))
    assert metrics.totals() == {
        ("news.Article", "miss", "a"): 2,
        ("news.Article", "miss", "b"): 1,
        ("news.Article", "miss", "c"): 1,
        ("news.Article", "miss", "..."): 2,
    }
