"""From outcomes to a table, and to the page about it."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.report import aligned
from tests.torture.libraries import LIBRARIES
from tests.torture.modes import LONG, MODES, SHORT
from tests.torture.rows import ROWS
from tests.torture.world import READERS, WRITERS, Outcome

HEAD = [
    "",
    "reads",
    "hits",
    "writes",
    "faults",
    "stale",
    "late",
    "by, s",
    "behind",
    "wrong at rest",
    "wrong in the end",
    "read errors",
    "write errors",
    "slowest, s",
]

DOCUMENT = """\
# Torture

Processes read and write the same rows while writers are killed and Redis fails. `make torture
WRITE=docs/torture.md` makes this page anew; it fails if loom_cache breaks a promise.

{table}

## What was done

{readers} processes read and {writers} write the same {rows} rows, for {seconds:g} seconds in each
mode, on a PostgreSQL and a Redis of their own; Redis is reached through a proxy. A row has a
version that only grows. It is written by `save()` and `update()`, in `atomic` and in autocommit,
with `select_for_update()`, several rows at a time, with rollbacks and savepoints. As soon as a
write has returned, the writer puts the version that it has made on a board in shared memory. A
reader notes what is on the board, and then reads: by `get()`, `in_bulk()`, a filtered list,
`values_list()`, an aggregate, and with loom_cache also by `@cached_query` methods and the
asynchronous twin of each. Writers are killed by SIGKILL.

{modes}

## What was counted

- **hits**: reads that ran no SQL.
- **faults**: how often that happened which the mode is about.
- **stale**: reads that gave an older version than was acknowledged before they began. loom_cache
  promises that there are none.
- **late**: likewise, but the writer could not reach Redis for its invalidation, which was still
  queued. It is promised only that the queue is delivered when Redis answers again. (Other
  libraries queue nothing: theirs are stale.)
- **by**: how many seconds after the acknowledgement, at the most, such a read began.
- **behind**: reads that gave an older version than the database itself had said just before;
  every fourth read was preceded by such a question. In the moment between COMMIT and the
  invalidation that is possible, and no promise is broken, but for `STRICT`.
- **wrong at rest**: rows, and sums of a group of rows, that were answered wrongly by any process
  when faults and writers had ended. Where writers are killed there may be some, until the TTL is
  over.
- **wrong in the end**: likewise, when the TTL was over. It is {short:g} s where writers are
  killed, and otherwise {long:g} s and not waited for.
- **errors**: reads and writes that raised.

## The libraries

{remarks}

Measured with {versions}.
"""


def table(outcomes: Sequence[Outcome]) -> str:
    return aligned([HEAD, *map(_line, outcomes)])


def _line(outcome: Outcome) -> list[str]:
    verdict = outcome.verdict
    late = f"{verdict.lateness:.2f}" if verdict.stale or verdict.queued else ""
    return [
        f"{LIBRARIES[outcome.library].title}, {outcome.mode.title}",
        f"{verdict.reads:,}",
        f"{100 * verdict.hits / max(1, verdict.reads):.0f} %",
        f"{outcome.writes:,}",
        f"{outcome.faults:,}",
        f"{verdict.stale:,}",
        f"{verdict.queued:,}",
        late,
        f"{verdict.behind:,}",
        f"{len(outcome.wrong_at_rest)}",
        f"{len(outcome.wrong_in_the_end)}",
        f"{verdict.errors:,}",
        f"{outcome.write_errors:,}",
        f"{verdict.slowest:.2f}",
    ]


def document(outcomes: Sequence[Outcome], seconds: float, versions: str) -> str:
    """The page about it."""
    modes = dict.fromkeys(outcome.mode.title for outcome in outcomes)
    libraries = [LIBRARIES[name] for name in dict.fromkeys(one.library for one in outcomes)]
    return DOCUMENT.format(
        table=table(outcomes),
        readers=READERS,
        writers=WRITERS,
        rows=ROWS,
        seconds=seconds,
        modes="\n".join(
            f"- **{mode.title}**: {mode.meaning}" for mode in MODES.values() if mode.title in modes
        ),
        short=SHORT,
        long=LONG,
        remarks="\n".join(f"- {library.title}: {library.remark}" for library in libraries),
        versions=versions,
    )
