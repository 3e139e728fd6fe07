"""Entries damaged and forged on purpose, read the way a reader would read them.

`python -m tests.fuzz --seconds 600` for as long as one likes; the tests take a few seconds of it.
"""
