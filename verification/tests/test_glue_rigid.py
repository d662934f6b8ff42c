"""Streams without a throttle: the claims about them hold in recorded layers, and one wrong bit breaks each of them."""

from dataclasses import replace

import numpy as np
import pytest

from verification.evidence.glue_recording import Recording, record
from verification.evidence.glue_rigid import CLEARING, ENDING, PARTS, broken, phases, planted, waits
from verification.evidence.glue_runs import RUNS

RUN = "one key"


@pytest.fixture(scope="module")
def recording() -> Recording:
    (found,) = record(PARTS, {RUN: RUNS[RUN]}, requests=())
    return found


def test_the_claims_hold_and_say_something(recording: Recording) -> None:
    assert broken(recording) is None
    assert waits(recording) > 0
    assert {CLEARING, ENDING} <= set(np.unique(phases(recording)).tolist())


def test_one_wrong_bit_breaks_each_claim(recording: Recording) -> None:
    found = {claim: broken(changed) for claim, changed in planted(recording)}
    assert len(found) == 6
    assert all(claim in (said or "") for claim, said in found.items())


def test_a_run_in_which_a_claim_cannot_break(recording: Recording) -> None:
    where = "controller", "layer_rows"
    no_rows = replace(recording, words={**recording.words, where: np.zeros_like(recording.words[where])})
    with pytest.raises(ValueError, match="no cycle in which 'a sweep that clears' could break"):
        list(planted(no_rows))
