"""The page about it."""

from __future__ import annotations

from benchmarks.servers import machine
from benchmarks.speed import rows, table
from benchmarks.speed.budgets import budgets
from benchmarks.speed.contestants import CONTESTANTS
from benchmarks.speed.results import Results
from benchmarks.speed.running import Extent

DOCUMENT = """\
# Speed

How long reads and writes take beside Django alone, beside other libraries, and beside the least
that any library could cost. `make bench WRITE=docs/benchmarks.md` makes this page anew. Look at the
ratios: absolute times are those of the machine that is named below, and of nothing else that it
did.

## Times

{times}

{stampedes}

{memory}

## Budgets

What loom_cache was to cost, set before it was written. Counts fail `make bench`, and
`make bench-quick`; times do not. That a hit builds no QuerySet and enters no thread is a test.

{budgets}

## Where the time of a hit goes

By the profiler, which makes functions that do little look dearer than they are: shares of the time
of everything that runs. Functions with less than 4 % are left out.

{profiles}

## What was measured

- Rows have 9 columns and about 0.5 kB; there are {articles:,} of them, {of_an_author} to an author.
  {hot:,} rows are read again and again, and the lists of their authors.
- **Ratios** are of medians of two turns in the same round; the table has the median of {rounds}
  rounds, and the quartiles beside it. Each contestant is a process of its own, and they take turns
  of some calls in an order that changes. Absolute times are medians of all calls. With 50 at once
  (`asyncio.gather`) they are reads per second.
- **Round trips** are requests to Redis, counted by the server, and **SQL** is statements sent to
  the database, both for one call on average. A hit is what has 0 there.
- **The floors** do the least that has to be done: redis-py fetches a plain entry and as many
  counters as loom_cache asks for with one `MGET`, compares, decodes by msgspec, and makes models by
  `from_db`; and the same with bytes that lie in the process.
- A row **written since it was cached** has been made unreadable just before, with all that a write
  would; **never cached before** means that its counters are new as well.
- Writes are synchronous, of rows that have just been read through the cache. With
  `bulk_create()`, nothing is cached of the rows that are made.
- **Memory** is `MEMORY USAGE` of all keys after {hot:,} rows have been read by pk into an empty
  database, divided by {hot:,}.
- Redis is reached through loopback, PostgreSQL through a Unix socket; it does not wait for its
  disk.

How each was set up:

{remarks}

Measured with {versions}, on {machine}.
"""


def document(results: Results, extent: Extent, versions: str) -> str:
    libraries = {one.library.title: one.library.remark for one in CONTESTANTS.values()}
    return DOCUMENT.format(
        times=table.times(results),
        stampedes=table.stampedes(results),
        memory=table.memory(results),
        budgets=budgets(results),
        profiles="\n\n".join(table.profiles(results)),
        articles=rows.ARTICLES,
        of_an_author=rows.OF_AN_AUTHOR,
        hot=extent.hot,
        rounds=extent.rounds,
        remarks="\n".join(f"- {name}: {remark}" for name, remark in libraries.items() if remark),
        versions=versions,
        machine=machine(),
    )
