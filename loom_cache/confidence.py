"""What a sample says of the whole: exact binomial bounds (Clopper and Pearson). Pure arithmetic."""

from __future__ import annotations

import math
from typing import Final

CONFIDENCE: Final = 0.95


def least_share(right: int, wrong: int) -> float:
    """The share of right ones is at least this, with so much confidence. Of 2,000 without a wrong
    one, 0.9985: the "rule of three"."""
    number = right + wrong
    if right == 0:
        return 0.0
    if wrong == 0:
        return float((1 - CONFIDENCE) ** (1 / number))
    low, high = wrong / number, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        if _at_most(wrong, number, middle) > 1 - CONFIDENCE:
            low = middle
        else:
            high = middle
    return 1 - high


def _at_most(wrong: int, number: int, chance: float) -> float:
    """The chance of no more than so many wrong ones."""
    if chance >= 1:
        return 0.0
    return math.fsum(
        math.exp(
            math.lgamma(number + 1)
            - math.lgamma(each + 1)
            - math.lgamma(number - each + 1)
            + each * math.log(chance)
            + (number - each) * math.log1p(-chance)
        )
        for each in range(wrong + 1)
    )


def percent(share: float) -> str:
    """Rounded down, to two digits of what is missing: 99.85 %."""
    missing = 100 * (1 - share)
    decimals = max(0, 1 - math.floor(math.log10(missing))) if 0 < missing < 100 else 0
    return f"{100 - math.ceil(missing * 10**decimals) / 10**decimals:.{decimals}f} %"


def nines(share: float) -> int:
    """How many nines it begins with: 2 for 0.9985."""
    return math.floor(-math.log10(1 - share) + 1e-9) if share < 1 else 0
