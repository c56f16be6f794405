"""Token buckets against a slow reference that counts drops as they fall."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from app.http.buckets import Buckets

SECOND = 1_000_000_000
RATES = st.sampled_from([0.01, 0.25, 1, 2, 5, 40, 1_000])  # each a whole number of nanoseconds
BURSTS = st.sampled_from([0.5, 1, 2, 10])
PAUSES = st.one_of(
    st.integers(0, 3),
    st.integers(0, SECOND // 500),
    st.integers(0, 20 * SECOND),
    st.integers(0, 2_000 * SECOND),
)
STEPS = st.lists(st.tuples(st.sampled_from("abc"), PAUSES), max_size=60)
# Who takes how many tokens after how many eighths of the time in which a bucket fills.
RUSHES = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 12), st.integers(1, 10)), max_size=40
)


class Reference:
    """Every bucket is kept for ever, as an exact level that rises with time up to its brim."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate = Fraction(str(rate))
        self.brim = Fraction(max(1, int(self.rate * Fraction(str(burst)))))
        self.levels: dict[str, Fraction] = {}

    def passes(self, nanoseconds: int) -> None:
        risen = self.rate * Fraction(nanoseconds, SECOND)
        self.levels = {n: min(self.brim, level + risen) for n, level in self.levels.items()}

    def level(self, name: str) -> Fraction:
        return self.levels.get(name, self.brim)


@given(RATES, BURSTS, STEPS)
def test_a_bucket_gives_what_an_exact_level_gives(
    rate: float, burst: float, steps: list[tuple[str, int]]
) -> None:
    buckets, reference, now = Buckets(rate, burst), Reference(rate, burst), 7 * SECOND
    assert buckets.size == reference.brim
    for name, pause in steps:
        now += pause
        reference.passes(pause)
        level = reference.level(name)
        assert buckets.left(name, now) == int(level)
        short = 1 - (level - int(level))  # of the next whole token
        assert buckets.wait(name, now) == -(-short / reference.rate // 1)
        if level >= 1:
            buckets.take(name, now)
            reference.levels[name] = level - 1


@given(st.sampled_from([1, 2, 5]), RUSHES)
def test_nothing_that_was_taken_is_forgotten_before_it_has_come_back(
    rate: float, rushes: list[tuple[str, int, int]]
) -> None:
    buckets, reference, now = Buckets(rate, 8), Reference(rate, 8), 0
    for name, eighths, tokens in rushes:
        now += eighths * SECOND
        reference.passes(eighths * SECOND)
        for each in "abc":
            assert buckets.left(each, now) == int(reference.level(each))
        for _ in range(min(tokens, buckets.left(name, now))):
            buckets.take(name, now)
            reference.levels[name] = reference.level(name) - 1


@given(RATES, BURSTS, STEPS)
def test_waiting_as_long_as_was_said_brings_a_token(
    rate: float, burst: float, steps: list[tuple[str, int]]
) -> None:
    buckets, now = Buckets(rate, burst), 0
    for name, pause in steps:
        now += min(pause, SECOND)
        if buckets.left(name, now):
            buckets.take(name, now)
        else:
            now += buckets.wait(name, now) * SECOND
            assert buckets.left(name, now) >= 1


@given(RATES, BURSTS, STEPS)
def test_no_span_of_time_gives_more_than_a_full_bucket_and_what_came_in_it(
    rate: float, burst: float, steps: list[tuple[str, int]]
) -> None:
    buckets, now, taken = Buckets(rate, burst), 0, list[int]()
    for _, pause in steps:
        now += pause
        if buckets.left("a", now):
            buckets.take("a", now)
            taken.append(now)
    for first, begin in enumerate(taken):
        for last, end in enumerate(taken[first:], 1):
            assert last <= buckets.size + Fraction(str(rate)) * Fraction(end - begin, SECOND)


def test_buckets_that_are_full_again_are_forgotten() -> None:
    buckets = Buckets(10, 2)
    for number in range(10_000):
        buckets.take(f"caller {number}", number * SECOND // 100)
    # 100 callers a second, each remembered for at most twice the time in which a bucket fills.
    assert len(buckets) <= 100 * 2 * buckets.window + 1


def test_more_names_than_are_remembered_forget_the_oldest_and_not_the_present_one() -> None:
    buckets = Buckets(0.01, 100, most=10)
    for number in range(1_000):
        buckets.take(number, 0)
        assert buckets.left(number, 0) == 0
        assert len(buckets) <= 20
    assert buckets.left(0, 0) == 1


def test_a_rate_that_is_no_whole_number_of_nanoseconds_is_never_below_what_was_promised() -> None:
    buckets, now = Buckets(700_000, 1), 0
    for _ in range(buckets.size):
        buckets.take("a", now)
    assert buckets.left("a", now) == 0
    assert buckets.left("a", now + SECOND) == 700_000
    assert buckets.window == 1
