"""The torture test: processes that read and write the same rows while their servers fail.

    python -m tests.torture [--seconds N] [--libraries ...] [--modes ...] [--write FILE]

Every write that has been acknowledged is written on a board that all processes share; a read that
begins later and returns less is stale.
"""
