"""How fast reads and writes are, beside Django alone, beside other libraries, and beside the least
that any library could cost:

    python -m benchmarks.speed [--rounds N] [--largest N] [--quick] [--only TEXT] [--write FILE]

Each contestant is a process of its own. They take turns of a few calls, round by round, so that all
are equally slowed down by whatever else the machine has to do meanwhile; a ratio is of two turns of
one round. It fails only on what is counted (round trips, SQL statements), never on time.
"""
