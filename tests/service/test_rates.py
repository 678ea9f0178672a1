"""Token buckets: what they let through, what they tell, what they cost; over HTTP, in batches and streams."""

from __future__ import annotations

import re
from typing import Any

import pytest

from service.errors import RateLimitError
from service.rates import FREE, Account, Buckets, Meter, Rate
from tests.service.fakes import make_app, photo, post, serving
from tests.service.sockets import connected
from tests.service.test_batch import batch
from tests.service.test_keys import made
from tests.service.test_problems import expect

pytestmark = pytest.mark.anyio

SLOW: dict[str, Any] = {"address_swaps_per_s": 0.001, "address_burst": 4}
"""Four faces, then none while a test runs."""


class Time:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def account(time: Time, per_s: float = 2, burst: int = 4, most: int = 100) -> Account:
    return Account(Buckets("key", most, time), "someone", Rate(per_s, burst))


def refused(meter: Meter) -> int:
    with pytest.raises(RateLimitError) as caught:
        meter.take()
    return caught.value.retry_after_s


def test_a_burst_then_the_rate() -> None:
    time = Time()
    meter = Meter((account(time),))
    for _ in range(4):
        meter.take()
    assert refused(meter) == 1
    time.now += 0.5
    meter.take()
    assert refused(meter) == 1
    time.now += 60
    for _ in range(4):
        meter.take()
    assert refused(meter) == 1, "a bucket holds no more than its burst"


def test_what_is_taken_beyond_is_waited_for() -> None:
    time = Time()
    meter = Meter((account(time),))
    meter.take()
    meter.add(99)
    assert refused(meter) == 49  # 97 faces at 2 a second: 48.5 s
    time.now += 48.5
    meter.take()
    assert refused(meter) == 1


def test_all_accounts_pay_and_the_emptiest_decides() -> None:
    time = Time()
    wide, narrow = account(time, burst=10), Account(Buckets("address", 9, time), "there", Rate(0.1, 1))
    meter = Meter((wide, narrow))
    meter.take()
    assert refused(meter) == 10
    assert wide.buckets.left("someone", wide.rate) == pytest.approx(9), "who is sent away pays nothing"


def test_the_headers_tell_of_each_policy() -> None:
    time = Time()
    meter = Meter((account(time), Account(Buckets("address", 9, time), "there", Rate(0.5, 3))))
    meter.take(2)
    assert meter.headers() == [
        (b"ratelimit-policy", b'"key";q=4;w=2, "address";q=3;w=6'),
        (b"ratelimit", b'"key";r=2;t=1, "address";r=1;t=4'),
    ]
    meter.add(50)
    assert b'"key";r=0;t=26' in dict(meter.headers())[b"ratelimit"]
    assert FREE.headers() == []


def test_memory_is_bounded_under_any_number_of_addresses() -> None:
    time, rate = Time(), Rate(1, 10)
    buckets = Buckets("address", 50, time)
    for number in range(5000):
        buckets.take(f"192.0.2.{number}", rate, 1)
        assert len(buckets) <= 50
    assert buckets.left("192.0.2.4999", rate) == 9
    time.now += 2
    buckets.take("other", rate, 1)
    assert len(buckets) == 1, "full ones are not kept"


def test_who_goes_on_asking_is_not_forgotten_for_newer_ones() -> None:
    time, rate = Time(), Rate(0.001, 10)
    buckets = Buckets("address", 50, time)
    for number in range(500):
        buckets.take("busy", rate, 1)
        buckets.take(f"192.0.2.{number}", rate, 1)
    assert buckets.left("busy", rate) < -400


async def test_an_address_gets_429_with_the_time_to_wait() -> None:
    async with serving(make_app(**SLOW)) as client:
        answers = [await post(client) for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200] * 4 + [429]
        assert answers[0].headers["ratelimit-policy"] == '"address";q=4;w=4000'
        found = re.fullmatch(r'"address";r=3;t=(\d+)', answers[0].headers["ratelimit"])
        assert found and 900 <= int(found[1]) <= 1000
        problem = answers[4].json()
        assert problem["type"] == "/problems/rate-limit"
        assert 900 <= int(answers[4].headers["retry-after"]) <= 1000
        assert (await client.get("/health/ready")).status_code == 200, "probes are free"
        assert (await client.get("/")).status_code == 200


async def test_targets_and_photos_of_a_batch_are_counted() -> None:
    async with serving(make_app(**SLOW)) as client:
        assert (await post(client, target="echo,negative")).status_code == 200
        answer = await batch(client, [photo(), photo()], target="echo,negative")
        assert answer.status_code == 200, "two faces were left, which lets any batch in"
        assert answer.headers["ratelimit"].startswith('"address";r=0;t=')
        assert 2800 <= int((await post(client)).headers["retry-after"]) <= 3000, "and it pays for all four"


async def test_a_stream_pays_for_each_frame_and_goes_on_where_it_cannot() -> None:
    app = make_app(**SLOW)
    async with serving(app), connected(app) as client:
        for _ in range(3):
            client.send(photo())
            await client.report()
            await client.picture()
        client.send(photo())
        assert await client.problem() == "rate-limit"
        client.send('{"target": "negative"}')
        client.send(photo())
        assert await client.problem() == "rate-limit"


async def test_keys_have_buckets_of_their_own() -> None:
    (one, first), (two, second), (own, third) = made(), made(), made(swaps_per_s=0.001, burst=1)
    app = make_app(keys=f"{one}\n{two}\n{own}", key_swaps_per_s=0.001, key_burst=2)
    async with serving(app) as client:

        async def statuses(key: str) -> list[int]:
            headers = {"X-API-Key": key}
            return [(await client.get("/identities", headers=headers)).status_code for _ in range(3)]

        assert await statuses(first) == [200, 200, 429]
        assert await statuses(second) == [200, 200, 429]
        assert await statuses(third) == [200, 429, 429]


async def test_guessing_keys_empties_the_bucket_of_the_address() -> None:
    async with serving(make_app(keys=made()[0], **SLOW)) as client:
        for _ in range(4):
            expect(await client.get("/identities", headers={"X-API-Key": made()[1]}), "key-wrong")
        answer = await client.get("/identities", headers={"X-API-Key": made()[1]})
        assert answer.status_code == 429


async def test_behind_a_trusted_proxy_each_client_has_a_bucket() -> None:
    async with serving(make_app(trusted_proxies=("127.0.0.1",), **SLOW)) as client:
        for number in range(6):
            headers = {"X-Forwarded-For": f"192.0.2.{number}"}
            assert (await client.get("/identities", headers=headers)).status_code == 200
        for _ in range(5):
            answer = await client.get("/identities", headers={"X-Forwarded-For": "6.6.6.6, 192.0.2.77"})
        assert answer.status_code == 429
