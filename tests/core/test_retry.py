import pytest

from modelctl.core.retry import ATTEMPTS, LONGEST_WAIT_S, wait_after


@pytest.mark.parametrize("asked_s", [None, 3.0])
def test_threads_that_are_put_off_together_do_not_come_back_together(asked_s: float | None) -> None:
    waits = [wait_after(2, asked_s) or 0.0 for _ in range(16)]
    least_s = asked_s or 0.4
    assert (len(set(waits)) > 1, min(waits) >= least_s, max(waits) <= 1.5 * least_s) == (True, True, True)


@pytest.mark.parametrize(("failures", "asked_s"), [(ATTEMPTS, None), (1, LONGEST_WAIT_S + 1)])
def test_it_is_given_up_in_the_end(failures: int, asked_s: float | None) -> None:
    assert wait_after(failures, asked_s) is None
