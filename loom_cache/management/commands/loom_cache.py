"""`python manage.py loom_cache`: what is typed and what is printed. The work is done in
loom_cache.inspection, verifying and doctor."""

import json
from argparse import ArgumentTypeError
from collections.abc import Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from loom_cache import doctor, inspection, reports, verifying
from loom_cache.exceptions import LoomCacheError
from loom_cache.inspection import Counter, Flushed

HEADINGS = ("MODEL", "TAG", "GENERATION", "BUMPS", "SEEDED", "OPEN WRITERS")


class Command(BaseCommand):
    help = "Inspects, flushes, verifies and examines what loom_cache keeps."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        inspect = actions.add_parser("inspect", help="Show generation counters.")
        inspect.add_argument("labels", nargs="*", metavar="LABEL", help=f"{_LABEL}; default: all.")
        inspect.add_argument("--pk", help="Only the counter of this row (of one model).")
        inspect.add_argument("--limit", type=_positive, default=100, help="Rows shown (100).")
        inspect.add_argument("--format", choices=("table", "json"), default="table")
        flush = actions.add_parser(
            "flush", help="Bump generations, so that nothing cached before can be read."
        )
        flush.add_argument("labels", nargs="*", metavar="LABEL", help=f"{_LABEL}.")
        rows = "Only these rows of one model, whose label stands before."
        flush.add_argument("--pk", nargs="+", action="extend", default=[], help=rows)
        flush.add_argument("--all", action="store_true", help="Every model.")
        flush.add_argument("--dry-run", action="store_true", help="Only say what would be bumped.")
        verify = actions.add_parser(
            "verify", help="Compare what is cached with what the database says."
        )
        verify.add_argument("labels", nargs="*", metavar="LABEL", help=f"{_LABEL}; default: all.")
        verify.add_argument(
            "--sample", type=_positive, metavar="N", help="Only N entries, picked at random."
        )
        verify.add_argument(
            "--repair", action="store_true", help="Bump what wrong entries depend on."
        )
        verify.add_argument("--format", choices=("table", "json"), default="table")
        doctor = actions.add_parser("doctor", help="Say what is well, what is not, and the cure.")
        doctor.add_argument("--format", choices=("text", "json"), default="text")
        doctor.add_argument("--json", dest="format", action="store_const", const="json")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if inspection.is_local():
                self.stderr.write(
                    "The store is in the memory of each process: this command sees and flushes "
                    "only its own, which is empty. Set LOOM_CACHE['LOCATION'] to a Redis to share "
                    "one."
                )
            getattr(self, options["action"])(options)
        except LoomCacheError as error:
            raise CommandError(str(error)) from error

    def inspect(self, options: dict[str, Any]) -> None:
        limit, pk = options["limit"], options["pk"]
        found, total = inspection.counters_of(options["labels"], pk=pk, limit=limit)
        if options["format"] == "json":
            self.stdout.write(json.dumps([inspection.as_dict(one) for one in found], indent=2))
        elif found:
            self.stdout.write(reports.table([HEADINGS, *map(_row, found)]))
            if total > limit:
                self.stdout.write(f"{limit} of {total} counters; see more with --limit.")
        elif pk is not None:
            self.stdout.write(f"Row {pk} has no counter: it is not cached.")
        else:
            self.stdout.write("There are no counters: nothing is cached.")

    def flush(self, options: dict[str, Any]) -> None:
        if not options["labels"] and not options["all"]:
            hint = ", before --pk" if options["pk"] else ", or --all"
            raise CommandError(f"Say what to flush: labels such as shop.Article{hint}.")
        if options["labels"] and options["all"]:
            raise CommandError("Give labels or --all, not both.")
        done = inspection.flush(
            options["labels"],
            pks=options["pk"],
            everything=options["all"],
            dry=options["dry_run"],
        )
        self.stdout.write(_said(done, options["pk"], dry=options["dry_run"]))

    def verify(self, options: dict[str, Any]) -> None:
        found = verifying.verify(
            options["labels"], sample=options["sample"], repair=options["repair"]
        )
        if options["format"] == "json":
            self.stdout.write(json.dumps(reports.as_dict(found), indent=2))
        else:
            self.stdout.write(reports.as_text(found))
        if found.mismatches:
            raise CommandError(reports.complaint(found))

    def doctor(self, options: dict[str, Any]) -> None:
        found = doctor.examine()
        if options["format"] == "json":
            self.stdout.write(json.dumps(reports.findings_as_dicts(found), indent=2))
        else:
            self.stdout.write(reports.findings_as_text(found))
        if any(one.level is doctor.Level.ERROR for one in found):
            raise CommandError("What is marked as an error has to be mended.")


_LABEL = "app_label or app_label.Model"


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is no positive whole number.")
    return int(text)


def _row(counter: Counter) -> tuple[str, ...]:
    shown = inspection.as_dict(counter)
    return tuple(str(shown[name]) for name in shown)


def _said(done: Flushed, pks: Sequence[str], *, dry: bool) -> str:
    rows = f", {'rows' if len(pks) > 1 else 'row'} {', '.join(pks)}" if pks else ""
    what = f"{', '.join(done.models)}{rows}"
    if done.counters == 0:
        return f"Nothing is cached of {what}."
    number = f"{done.counters} counter{'' if done.counters == 1 else 's'} of {what}"
    if dry:
        return f"Would bump {number}."
    return f"Bumped {number}: what was cached before is not read again."
