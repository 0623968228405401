"""gRPC's service config as one writes it for any gRPC client."""

import json

import pytest

from trimtab.attempt import Retry, parse
from trimtab.errors import ConfigError

RETRY = {
    "maxAttempts": 4,
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE", 8],
}
HEDGE = {"maxAttempts": 3, "hedgingDelay": "0.05s", "nonFatalStatusCodes": ["UNAVAILABLE"]}


def text(**method):
    return json.dumps({"methodConfig": [{"name": [{"service": "shop.Orders"}], **method}]})


def test_retries_and_hedges_are_ours_and_native_channels_get_the_rest():
    config = {
        "healthCheckConfig": {"serviceName": "x"},
        "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
        "methodConfig": [
            {"name": [{"service": "a.A", "method": "M"}], "timeout": "2s", "retryPolicy": RETRY},
            {"name": [{"service": "a.A"}], "hedgingPolicy": HEDGE},
            {"name": [{}], "waitForReady": True},
        ],
    }
    plans = parse(json.dumps(config))
    one = plans.of("/a.A/M")
    assert one.retry == Retry(4, {8, 14}, backoff_s=0.1, most_backoff_s=1.0)
    assert one.timeout_s == 2.0
    assert plans.of("/a.A/Other").retry == Retry(3, {14}, hedge_after_s=0.05)
    assert plans.of("/b.B/M").retry is None
    assert plans.of("/b.B/M").waits is True
    assert one.waits is None
    assert plans.throttle == (10.0, 0.1)
    assert json.loads(plans.rest) == {
        "healthCheckConfig": {"serviceName": "x"},
        "methodConfig": [
            {"name": [{"service": "a.A", "method": "M"}], "timeout": "2s"},
            {"name": [{"service": "a.A"}]},
            {"name": [{}], "waitForReady": True},
        ],
    }


def test_more_than_five_attempts_are_five():
    assert (
        parse(text(retryPolicy={**RETRY, "maxAttempts": 9})).of("/shop.Orders/X").retry.attempts
        == 5
    )


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("{", "JSON object"),
        ("[]", "not a JSON object"),
        ('{"methodConfig": 1}', "methodConfig"),
        (text(retryPolicy=RETRY, hedgingPolicy=HEDGE), "leave one out"),
        (text(retryPolicy={**RETRY, "maxAttempts": 1}), "maxAttempts: 1"),
        (text(retryPolicy={**RETRY, "maxBackoff": "1"}), "maxBackoff: '1'"),
        (text(retryPolicy={**RETRY, "retryableStatusCodes": []}), "retryableStatusCodes"),
        (text(retryPolicy={**RETRY, "retryableStatusCodes": ["NO"]}), "'NO'"),
        (text(retryPolicy={**RETRY, "backoffMultiplier": 0}), "above 0"),
        (text(retryPolicy=3), "retryPolicy"),
        (text(hedgingPolicy={"maxAttempts": 2, "hedgingDelay": 1}), "hedgingDelay: 1"),
        ('{"retryThrottling": {"maxTokens": 0, "tokenRatio": 1}}', "maxTokens"),
    ],
)
def test_a_bad_config_is_refused_with_its_place_and_value(bad, said):
    with pytest.raises(ConfigError, match=said):
        parse(bad)
