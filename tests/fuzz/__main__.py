"""python -m tests.fuzz [--seconds N] [--seed N]"""

import argparse
import os
import sys

import pytest

parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz the decoder.")
parser.add_argument("--seconds", type=float, default=60)
parser.add_argument("--seed", type=int, help="of the random numbers (default: by the clock)")
given = parser.parse_args()
os.environ["LOOM_FUZZ_SECONDS"] = str(given.seconds)
if given.seed is not None:
    os.environ["LOOM_FUZZ_SEED"] = str(given.seed)
# Without pytest's watch over tests that hang: every input has one of its own.
unwatched = ["-o", "faulthandler_timeout=0"]
sys.exit(pytest.main(["-q", "-s", "-p", "no:cacheprovider", *unwatched, "tests/fuzz"]))
