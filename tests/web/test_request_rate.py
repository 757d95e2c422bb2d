"""The rate of requests of an address: a page and its files at once, then one request after the other."""

from edgepose.web.request_rate import BURST, LONGEST_S, RATE_HZ, RequestRates


def test_a_flood_waits_and_is_refused_in_the_end_and_others_do_not_notice() -> None:
    now_s = [1000.0]
    rates = RequestRates(lambda: now_s[0])
    waits = [rates.take("192.0.2.1") for _ in range(1000)]
    assert waits[:BURST] == [0.0] * BURST
    kept = [wait for wait in waits if wait is not None]
    assert kept == sorted(kept)
    assert abs(len(kept) - BURST - LONGEST_S * RATE_HZ) <= 1
    assert rates.take("192.0.2.2") == 0.0
    assert rates.is_full("192.0.2.1")
    assert not rates.is_full("192.0.2.2")
    now_s[0] += 1 / RATE_HZ
    assert rates.take("192.0.2.1") is not None
    now_s[0] += BURST / RATE_HZ + LONGEST_S
    assert rates.take("192.0.2.1") == 0.0
