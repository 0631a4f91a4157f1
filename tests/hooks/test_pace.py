"""Work that a run does not wait for takes a share of its time."""

from clipzoo.hooks.pace import Pace


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_share_of_the_time_and_not_before():
    clock = Clock()
    pace = Pace(seconds=5.0, share=0.1, clock=clock)
    clock.now += 4.9
    assert not pace.is_due()
    clock.now += 0.1
    assert pace.is_due()
    with pace.working():
        clock.now += 2.0
    clock.now += 19.9
    assert not pace.is_due(), "2 s of work allow for 20 s"
    clock.now += 0.1
    assert pace.is_due()
    pace.start()
    assert not pace.is_due()
    assert Pace(clock=clock).is_due(), "at once, if it is not known what it takes and nothing else is said"


def test_the_share_holds_over_a_long_run():
    """Epochs of 0.1 s with work of 0.05 s: whenever it is due."""
    clock, pieces = Clock(), 0
    pace = Pace(share=0.02, clock=clock)
    for _ in range(10_000):
        clock.now += 0.1
        if pace.is_due():
            with pace.working():
                clock.now += 0.05
            pieces += 1
    assert 0.015 < pieces * 0.05 / (clock.now - 100) <= 0.0205
