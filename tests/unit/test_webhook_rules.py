"""What webhooks are by the rules: signatures, filters, waits, streaks of failures."""

import hmac
import json
from base64 import b64decode, b64encode
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from app.domain.webhook import Subscription
from app.domain.webhook_retries import ATTEMPTS, LONGEST_WAIT, Streak, retry_after, wait
from app.domain.webhook_signature import PREFIX, SECRET_BYTES, signature, written

NOW = datetime(2026, 11, 16, 14, 30, tzinfo=UTC)
SECRET, OTHER = bytes(range(SECRET_BYTES)), bytes(reversed(range(SECRET_BYTES)))

SCHEDULE = [
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
]
"""Standard Webhooks 1.0, "Deliverability and reliability": waits after the first attempt."""


def test_a_signature_is_the_hmac_of_id_timestamp_and_body() -> None:
    expected = hmac.new(SECRET, b'msg_1.1700000000.{"a":1}', sha256).digest()
    signed = signature([SECRET], "msg_1", 1_700_000_000, b'{"a":1}')
    assert signed == "v1," + b64encode(expected).decode()


def test_a_secret_is_written_as_the_standard_has_it() -> None:
    assert 24 <= SECRET_BYTES <= 64
    assert written(SECRET).startswith("whsec_")
    assert b64decode(written(SECRET).removeprefix(PREFIX)) == SECRET


@given(body=st.dictionaries(st.text(), st.text()), secret=st.binary(min_size=24, max_size=64))
def test_a_receiver_that_knows_any_one_of_the_secrets_can_verify(
    body: dict[str, str], secret: bytes
) -> None:
    sent = json.dumps(body, ensure_ascii=True).encode()
    timestamp = int(datetime.now(UTC).timestamp())
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature([OTHER, secret], "msg_1", timestamp, sent),
    }
    assert Webhook(written(secret)).verify(sent, headers) == body
    assert Webhook(written(OTHER)).verify(sent, headers) == body
    with pytest.raises(WebhookVerificationError):
        Webhook(written(b"x" * 32)).verify(sent, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(written(secret)).verify(sent + b" ", headers)


@pytest.mark.parametrize(
    ("stages", "data", "wanted"),
    [
        ((), {}, True),
        ((), {"to_stage": "offer"}, True),
        (("offer",), {"to_stage": "offer"}, True),
        (("lead", "offer"), {"to_stage": "offer", "from_stage": "lead"}, True),
        (("lead",), {"to_stage": "offer", "from_stage": "lead"}, False),
        (("lead",), {"stage": "lead"}, True),
        (("lead",), {"stage": "offer"}, False),
        (("lead",), {"changes": {}}, False),
        (("lead",), {}, False),  # erased
    ],
)
def test_a_stage_is_the_one_that_is_entered_or_stood_in(
    stages: tuple[str, ...], data: dict[str, object], wanted: bool
) -> None:
    assert Subscription(stages=stages).concerns("opportunity.updated", data) is wanted
    assert not Subscription(stages=stages).concerns("webhook.test", data)


@given(draw=st.floats(min_value=0, max_value=1, exclude_max=True))
def test_waits_follow_the_schedule_within_a_fifth(draw: float) -> None:
    assert len(SCHEDULE) + 1 == ATTEMPTS
    for attempts, scheduled in enumerate(SCHEDULE, start=1):
        waited = wait(attempts, draw)
        assert waited is not None
        assert 0.8 * scheduled <= waited <= 1.2 * scheduled
    assert wait(ATTEMPTS, draw) is None
    assert wait(ATTEMPTS + 3, draw) is None


def test_waits_are_spread_over_the_whole_of_their_range() -> None:
    assert wait(1, 0.0) == timedelta(seconds=4)
    assert wait(1, 0.5) == timedelta(seconds=5)
    nearly = wait(1, 0.999)
    assert nearly is not None
    assert timedelta(seconds=5.99) < nearly < timedelta(seconds=6)


def test_what_the_receiver_asks_for_is_waited_for_and_never_shortens_the_schedule() -> None:
    assert wait(1, 0.5, timedelta(hours=1)) == timedelta(hours=1)
    assert wait(4, 0.5, timedelta(seconds=1)) == timedelta(hours=2)
    assert wait(ATTEMPTS, 0.5, timedelta(seconds=1)) is None


@pytest.mark.parametrize(
    ("status", "header", "asked"),
    [
        (429, "120", timedelta(minutes=2)),
        (503, "0", timedelta()),
        (503, "Mon, 16 Nov 2026 15:30:00 GMT", timedelta(hours=1)),
        (503, "Mon, 16 Nov 2026 13:30:00 GMT", timedelta()),
        (429, "9" * 400, LONGEST_WAIT),
        (429, "Mon, 16 Nov 2037 15:30:00 GMT", LONGEST_WAIT),
        (500, "120", None),
        (200, "120", None),
        (None, None, None),
        (429, None, None),
        (429, "soon", None),
        (429, "-5", None),
        (429, "1.5", None),
        (429, "٣", None),
        (429, "", None),
        (429, "Mon, 16 Nov 2026 15:30:00 -0000", None),
        (429, "Mon, 99 Nov 2026 15:30:00 GMT", None),
        (429, "Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        (429, "Fri, 31 Dec 9999 23:59:59 -1200", LONGEST_WAIT),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_nonsense_is_nothing(
    status: int | None, header: str | None, asked: timedelta | None
) -> None:
    assert retry_after(status, header, NOW) == asked


def streak(failures: str) -> Streak:
    """Failures of the first moment; `x` was its delivery's last, `-` was not."""
    failing = Streak()
    for each in failures:
        failing = failing.failed(NOW, for_good=each == "x")
    return failing


def test_five_days_of_failures_are_hopeless_and_a_moment_less_is_not() -> None:
    assert not streak("xx").is_hopeless(NOW + timedelta(days=5) - timedelta(seconds=1))
    assert streak("xx").is_hopeless(NOW + timedelta(days=5))
    assert streak("x-x").is_hopeless(NOW + timedelta(days=365))


@pytest.mark.parametrize("failures", ["", "-", "-" * 40, "-" * 9 + "x"])
def test_one_delivery_that_fails_proves_nothing_however_long_it_takes(failures: str) -> None:
    assert not streak(failures).is_hopeless(NOW + timedelta(days=365))


def test_a_streak_began_with_its_first_failure() -> None:
    later = streak("-").failed(NOW + timedelta(days=30), for_good=True)
    assert later == Streak(NOW, 1)
