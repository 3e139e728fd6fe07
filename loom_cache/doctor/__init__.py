"""`loom_cache doctor`: what is well with the cache, what is not, and the cure."""

from loom_cache.doctor.examination import examine
from loom_cache.doctor.findings import Finding, Level

__all__ = ["Finding", "Level", "examine"]
