import email.utils
import json
import time

import pytest

from dar_jax.chat.failures import (
    Blocked,
    RateLimited,
    Rejected,
    ServerFault,
    Unsupported,
    filter_code,
    retry_after_s,
    shorten,
    status_error,
)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 501])
def test_other_4xx_and_not_implemented_are_not_retried(status):
    assert isinstance(status_error(status, "no", {}), Rejected)


def test_an_unsupported_request_differs_from_a_wrong_key():
    assert [isinstance(status_error(status, "no", {}), Unsupported) for status in (400, 404, 405, 422, 501)] == [
        True
    ] * 5
    assert [isinstance(status_error(status, "no", {}), Unsupported) for status in (401, 403, 413, 429)] == [False] * 4


@pytest.mark.parametrize("status", [408, 409, 500, 502, 503, 504, 529])
def test_server_faults_are_retried(status):
    assert isinstance(status_error(status, "later", {}), ServerFault)


def test_a_rate_limit_is_retried_and_a_used_up_quota_is_not():
    assert isinstance(status_error(429, "slow down", {}), RateLimited)
    assert isinstance(status_error(429, "you exceeded your current quota", {}, "insufficient_quota"), Rejected)
    assert isinstance(status_error(429, "Quota exceeded", {}, "GenerateRequestsPerDayPerProject"), Rejected)
    # Gemini says "quota" of a minute's limit too: that one passes.
    assert isinstance(status_error(429, "Quota exceeded", {}, "GenerateRequestsPerMinutePerProject"), RateLimited)


def test_retry_after_is_parsed_in_every_form():
    assert retry_after_s({"Retry-After": "7"}) == 7.0
    assert retry_after_s({"retry-after-ms": "250", "retry-after": "7"}) == 0.25
    date = email.utils.formatdate(time.time() + 30, usegmt=True)
    assert retry_after_s({"retry-after": date}) == pytest.approx(30, abs=2)
    # A clock of ours that is an hour off makes the wait neither an hour longer nor none.
    for clock in (0, 3600, -3600):
        sent, until = (email.utils.formatdate(time.time() + clock + wait, usegmt=True) for wait in (0, 30))
        assert retry_after_s({"Retry-After": until, "Date": sent}) == pytest.approx(30, abs=1)
    assert retry_after_s({}, '{"retryDelay": "13s"}') == 13.0
    assert retry_after_s({"retry-after": "soon"}) is None
    assert retry_after_s({}) is None


def test_a_long_message_becomes_one_short_line():
    assert "\n" not in shorten("a\nb" * 1000)
    assert len(shorten("x" * 10_000)) < 400


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"code": "content_filter"}, "content_filter"),
        ({"code": "content_policy_violation", "message": "m"}, "content_policy_violation"),
        ({"code": "400", "innererror": {"code": "ResponsibleAIPolicyViolation"}}, "ResponsibleAIPolicyViolation"),
        ({"code": None, "message": "content_filter is no setting"}, ""),
        ("content_filter", ""),
    ],
)
def test_a_content_filters_400_differs_from_a_bad_request(error, code):
    body = json.dumps({"error": error})
    assert filter_code(body) == code
    found = status_error(400, "no", {}, body)
    assert isinstance(found, Blocked if code else Unsupported)
    assert not code or (found.body, str(found)) == (body, f"{code}: no")
    assert isinstance(status_error(429, "no", {}, body), RateLimited)
