"""Whatever lies in the store is a miss or an answer of the right kind: no error, no hang."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator

import pytest
from django.test import override_settings

from loom_cache import entries
from loom_cache.codec.own import registration_of, unregister_type
from tests.fieldapp.install import field_app, library  # noqa: F401
from tests.fieldapp.own import Money
from tests.fuzz import corpus, judging
from tests.fuzz.corpus import Case
from tests.fuzz.mutations import LENGTHS, Mutator

pytestmark = pytest.mark.django_db(transaction=True)

SECONDS = float(os.environ.get("LOOM_FUZZ_SECONDS", "3"))
SEED = int(os.environ.get("LOOM_FUZZ_SEED", "0") or 0)


@pytest.fixture
def cases(library: None) -> Iterator[list[Case]]:  # noqa: F811
    with override_settings(
        LOOM_CACHE={"LOCATION": "memory://?ttl_cap=600", "NAMESPACE": "fuzz", "TIMEOUT": 5}
    ):
        corpus.fill()
        yield corpus.cases()
    if registration_of(Money) is not None:
        unregister_type(Money)


def test_every_genuine_entry_is_an_answer_and_every_forged_one_that_or_a_miss(
    cases: list[Case], capsys: pytest.CaptureFixture[str]
) -> None:
    for case in cases:
        assert judging.judged_entry(case, case.data) == "answer", case.name
    seed = SEED or (0 if SECONDS < 10 else time.time_ns())
    random_ = random.Random(seed)
    mutator = Mutator(random_, [bytes(case.entry.body) for case in cases])
    tally = judging.Tally()
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        for case in cases:
            forged = mutator.mutated(bytes(case.entry.body))
            tally.outcomes[_outcome(case, forged, random_, seed)] += 1
    with capsys.disabled():
        if SECONDS >= 10:
            print(f"\n{tally} (seed {seed}, {len(cases)} entries)")  # noqa: T201  the figures of the run
    assert tally.outcomes["miss"]
    assert tally.outcomes["answer"]


def _outcome(case: Case, body: bytes, random_: random.Random, seed: int) -> str:
    try:
        if random_.random() < 0.05:  # the whole entry, and not only what is decoded by the plan
            whole = entries.write(case.entry.incarnation, case.entry.generations, body)
            at = random_.randrange(len(whole))
            forged = whole[:at] + random_.choice(LENGTHS) + whole[at:]
            return judging.judged_entry(case, forged)
        return judging.judged(case, body)
    except BaseException as error:
        error.add_note(f"The entry of {case.name!r} (seed {seed}) was {body!r}.")
        raise
