"""What `loom_cache verify` and `doctor` found, as a person and as a program wants to read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from textwrap import fill
from typing import Any, Final

from loom_cache.comparing import shortened
from loom_cache.confidence import CONFIDENCE, least_share, nines, percent
from loom_cache.doctor import Finding, Level
from loom_cache.verifying import Mismatch, Report

WIDTH: Final = 100


def as_text(report: Report) -> str:
    parts = [table([("ENTRIES", "COUNT"), *_counts(report)])]
    if report.mismatches:
        parts.append("\n\n".join(map(_mismatch, report.mismatches)))
    parts.append("\n".join(_conclusion(report)))
    return "\n\n".join(parts)


def as_dict(report: Report) -> dict[str, Any]:
    """For JSON."""
    share = least_share(report.right, len(report.mismatches))
    return {
        "right": report.right,
        "wrong": len(report.mismatches),
        "changed_meanwhile": report.changed,
        "not_readable": report.not_readable,
        "not_verifiable": dict(report.not_verifiable.most_common()),
        "at_least": round(share, 6),
        "confidence": CONFIDENCE,
        "nines": nines(share),
        "repaired": report.repaired,
        "mismatches": [asdict(mismatch) for mismatch in report.mismatches],
    }


def complaint(report: Report) -> str:
    """What a script is told of wrong entries."""
    number = len(report.mismatches)
    what = f"{number:,} {'entry is' if number == 1 else 'entries are'} wrong"
    if report.repaired is not None:
        return f"{what}; what they depend on has been invalidated."
    return (
        f"{what}. Somebody writes past Django: let them call invalidate() (docs/caveats.md), and "
        f"run this with --repair to have these entries read no more."
    )


def table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _counts(report: Report) -> Iterator[tuple[str, str]]:
    yield "right", f"{report.right:,}"
    yield "wrong", f"{len(report.mismatches):,}"
    yield "changed meanwhile", f"{report.changed:,}"
    yield "not readable any more", f"{report.not_readable:,}"
    yield "not verifiable", f"{report.not_verifiable.total():,}"
    for reason, number in report.not_verifiable.most_common():
        yield f"  {reason}", f"{number:,}"


def _mismatch(wrong: Mismatch) -> str:
    return "\n".join(
        (
            f"Wrong: {shortened(wrong.question)}",
            f"  the cache says     {wrong.cached}",
            f"  the database says  {wrong.database}",
        )
    )


def _conclusion(report: Report) -> Iterator[str]:
    right, wrong = report.right, len(report.mismatches)
    if not right + wrong:
        yield "No entry could be verified."
        return
    share = least_share(right, wrong)
    yield (
        f"{right:,} of {right + wrong:,} verified entries were right: at least {percent(share)} "
        f"with {CONFIDENCE:.0%} confidence{_nines(nines(share))}."
    ).replace("95%", "95 %")
    if report.repaired is not None:
        yield (
            f"Repaired: bumped {_number(report.repaired, 'counter')} that the wrong entries depend "
            f"on; what was cached under them is not read again."
        )


def _number(of: int, what: str) -> str:
    return f"{of:,} {what}{'' if of == 1 else 's'}"


# doctor -------------------------------------------------------------------------------------------


def findings_as_text(findings: Sequence[Finding]) -> str:
    """A line each, wrapped, and the cure beneath."""
    lines = [line for finding in findings for line in _lines(finding)]
    return "\n".join([*lines, "", verdict(findings)])


def _lines(finding: Finding) -> Iterator[str]:
    mark = f"{finding.level.value:<9}"
    yield fill(finding.message, WIDTH, initial_indent=mark, subsequent_indent=" " * len(mark))
    if finding.cure:
        indent = " " * len(mark)
        yield fill(f"Cure: {finding.cure}", WIDTH, initial_indent=indent, subsequent_indent=indent)


def findings_as_dicts(findings: Sequence[Finding]) -> list[dict[str, str]]:
    """For JSON."""
    return [{**asdict(finding), "level": finding.level.value} for finding in findings]


def verdict(findings: Sequence[Finding]) -> str:
    levels = [finding.level for finding in findings]
    errors, warnings = levels.count(Level.ERROR), levels.count(Level.WARNING)
    if not errors + warnings:
        return "All is well."
    return f"{_number(errors, 'error')}, {_number(warnings, 'warning')}."


def _nines(number: int) -> str:
    return "" if number == 0 else f" ({number} {'nine' if number == 1 else 'nines'})"
