"""What is at which path, and who gets it."""

from __future__ import annotations

from typing import get_args

import pytest
import trio
from trio.testing import MockClock

from taktora_trio.operate.endpoint.sampling import Sampler
from taktora_trio.operate.liveness import check_alive
from taktora_trio.runners.options import Half
from taktora_trio.transport.domain import ROLES, Domain
from taktora_trio.transport.pulse import open_pulse
from tests.vitals.pages import channel, down, open_run, page, up

from .runs import get, open_living_run, opened

TOKEN = "a-token-of-this-test"


async def test_a_run_that_works_lives_and_is_ready(domain: Domain) -> None:
    answers = opened(domain)
    with open_living_run(domain):
        live, ready = await get(answers, "/livez"), await get(answers, "/readyz")
    assert (live.status, ready.status) == (200, 200)
    assert [line[:14] for line in live.content.decode().splitlines()] == [
        "[+] the owner ",
        "[+] the plugin",
        "[+] the gatewa",
        "livez passed",
    ]
    assert "[+] connector mqtt: Up\nreadyz passed\n" in ready.content.decode()


async def test_where_there_is_no_run_both_say_so(domain: Domain) -> None:
    answers = opened(domain)
    live, ready = await get(answers, "/livez"), await get(answers, "/readyz")
    assert (live.status, ready.status) == (503, 503)
    assert "has no plugin now" in live.content.decode()
    assert f"there is no run in domain '{domain.name}'" in ready.content.decode()


@pytest.mark.parametrize(
    ("connector", "status", "line"),
    [
        (down(reason="refused\x1b[2J"), 503, "[-] connector mqtt: Down, refused\\x1b[2J"),
        (up(health="Connecting", reason="connection lost"), 503, "[-] connector mqtt: Connecting, connection lost"),
        (up(health="Degraded", reason="3 discarded"), 200, "[+] connector mqtt: Degraded, 3 discarded"),
    ],
)
async def test_ready_is_who_can_pass_messages(domain: Domain, connector: object, status: int, line: str) -> None:
    halves = [page(domain, name, connectors=[connector]) for name in ("plugin", "gateway")]
    with open_living_run(domain, *halves):
        assert (await get(opened(domain), "/livez")).status == 200  # a restart would not mend it
        ready = await get(opened(domain), "/readyz")
    assert ready.status == status
    assert line in ready.content.decode().splitlines()


async def test_a_half_that_has_said_nothing_yet_is_not_ready(domain: Domain) -> None:
    with open_living_run(domain, page(domain, "plugin", connectors=[])):
        ready = (await get(opened(domain), "/readyz")).content.decode()
    assert "the gateway" in ready
    assert ": starts" in ready
    assert "[-] no connector has said how it is yet" in ready


async def test_other_paths_and_methods(domain: Domain) -> None:
    answers = opened(domain)
    assert (await get(answers, "/")).status == 404  # no page is wanted
    missing = await get(answers, "/nothing")
    assert (missing.status, missing.content.decode()) == (
        404,
        "There is nothing here; there is /livez, /metrics, /readyz.\n",
    )
    posted = await get(answers, "/metrics", "POST")
    assert (posted.status, posted.headers) == (405, (("allow", "GET, HEAD"),))
    assert (await get(answers, "/livez", "HEAD")).status == 503
    assert (await get(answers, "/login", "POST")).status == 404


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9464", "127.0.0.1:9464", "127.9.9.9", "[::1]:9464"])
async def test_without_a_token_this_machine_is_asked_by_its_own_names(domain: Domain, host: str) -> None:
    assert (await get(opened(domain), "/metrics", host=host)).status == 200


@pytest.mark.parametrize(
    "host", ["", "evil.example", "evil.example:9464", "localhost.evil.example", "10.0.0.1", "[::2]"]
)
async def test_a_page_whose_name_has_come_to_stand_for_this_machine_gets_nothing(domain: Domain, host: str) -> None:
    answers = opened(domain, sampler=Sampler(domain))
    for path in ("/metrics", "/livez", "/", "/events", "/login"):
        assert (await get(answers, path, host=host)).status == 421
    assert (await get(opened(domain, TOKEN), "/livez", host=host)).status == 503  # who has a token may have any name
    assert (await get(opened(domain, checks_host=False), "/metrics", host=host)).status == 200  # a unix socket


async def test_with_a_token_all_but_the_probes_outcome_is_for_who_has_it(domain: Domain) -> None:
    answers = opened(domain, TOKEN, sampler=Sampler(domain))
    connector = down(reason="broker.example refused the login")
    halves = [page(domain, name, connectors=[connector]) for name in ("plugin", "gateway")]
    with open_living_run(domain, *halves):
        for path in ("/metrics", "/events", "/"):
            refused = await get(answers, path)
            assert refused.status == 401
            assert ("www-authenticate", "Bearer") in refused.headers
            assert b"broker.example" not in refused.content
            for wrong in (
                "Bearer",
                "Bearer x",
                f"Basic {TOKEN}",
                f"Bearer {TOKEN}x",
                f"Bearer {TOKEN[:-1]}",
                "Bearer \xe9",
            ):
                assert (await get(answers, path, authorization=wrong)).status == 401
            assert (await get(answers, path, authorization=f"Bearer {TOKEN}")).status == 200
        told, shown = await get(answers, "/readyz"), await get(answers, "/readyz", authorization=f"bearer {TOKEN}")
    assert (told.status, shown.status) == (503, 503)
    assert told.content.decode() == "[+] ...\n[+] ...\n[-] ...\nreadyz failed\n"
    assert b"broker.example refused the login" in shown.content


async def test_the_pages_form_takes_the_token_and_gives_a_cookie(domain: Domain, autojump_clock: MockClock) -> None:
    answers = opened(domain, TOKEN, sampler=Sampler(domain))
    for wrong in (
        b"",
        b"token=",
        b"token=wrong",
        b"other=1",
        b"&" * 99,
        b"token=%FF",
        f"token={TOKEN}&token=x".encode(),
    ):
        began = trio.current_time()
        refused = await get(answers, "/login", "POST", wrong)
        assert refused.status == 403
        assert b'role="alert"' in refused.content
        assert trio.current_time() - began >= 1  # who guesses is slow
    accepted = await get(answers, "/login", "POST", f"token={TOKEN}".encode())
    assert (accepted.status, accepted.headers[0]) == (303, ("location", "/"))
    cookie = dict(accepted.headers)["set-cookie"]
    assert cookie.endswith("; Path=/; HttpOnly; SameSite=Strict")
    assert TOKEN not in cookie
    pair = cookie.partition(";")[0]
    assert (await get(answers, "/", cookie=f"other=1; {pair}")).status == 200
    name, _, value = pair.partition("=")
    for wrong_cookie in (f"{name}=", f"{name}={TOKEN}", f"{name}={value[:-1]}", f"other={value}", ";;=\x01", "\xff"):
        assert (await get(answers, "/", cookie=wrong_cookie)).status == 401
    assert (await get(opened(domain, TOKEN + "x", sampler=Sampler(domain)), "/", cookie=pair)).status == 401


async def test_the_page_brings_all_that_it_needs(domain: Domain) -> None:
    answers = opened(domain, sampler=Sampler(domain))
    page_ = await get(answers, "/")
    assert page_.content_type.startswith("text/html")
    for path in ("/page.css", "/page.js", "/icon.svg", "/dom.js", "/flow.js", "/words.js"):
        found = await get(answers, path)
        assert found.status == 200
        for elsewhere in (b"http://", b"https://", b"//cdn", b"@import", b"url("):
            rest = found.content.replace(b"http://www.w3.org/2000/svg", b"")
            assert elsewhere not in rest, path


async def test_the_page_is_told_how_it_went_and_how_it_is(domain: Domain, autojump_clock: MockClock) -> None:
    sampler = Sampler(domain)
    answers = opened(domain, sampler=sampler)
    with open_living_run(domain, page(domain, "plugin", channels=[channel(messages=7)]), page(domain, "gateway")):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sampler.serve)
            await trio.sleep(3)
            response = await get(answers, "/events")
            assert response.content_type == "text/event-stream"
            assert response.pieces is not None
            past, now = await anext(response.pieces), await anext(response.pieces)
            assert past.startswith(b'event: past\ndata: {"messages":{"mqtt/')
            assert now.startswith(b'event: now\ndata: {"time":')
            assert b'"health":"Up"' in now
            assert now.endswith(b"\n\n")
            await response.pieces.aclose()
            nursery.cancel_scope.cancel()
    gone = sampler.sample()
    assert gone.vitals is None
    assert "there is no run" in gone.problem


async def test_only_so_many_pages_are_open_at_a_time(domain: Domain) -> None:
    answers = opened(domain, sampler=Sampler(domain))
    open_now = []
    while (response := await get(answers, "/events")).status == 200:
        assert response.pieces is not None
        await anext(response.pieces)
        open_now.append(response.pieces)
    assert (response.status, len(open_now)) == (503, 16)
    for pieces in open_now:
        await pieces.aclose()
    assert (await get(answers, "/events")).status == 200


@pytest.mark.parametrize("half", get_args(Half))
async def test_a_half_that_an_operator_has_stopped_lives_and_is_not_ready(domain: Domain, half: Half) -> None:
    roles = [role for role in ROLES if role != half]
    answers = opened(domain)
    with open_run(domain, roles=tuple(roles)), open_pulse(domain, *roles):
        assert (await get(answers, "/livez")).status == 503
        domain.set_at_rest(half, True)
        live, ready = await get(answers, "/livez"), await get(answers, "/readyz")
        assert (live.status, ready.status) == (200, 503)
        assert f"[+] the {half} was stopped by an operator" in live.content.decode()
        assert f"[-] the {half} " in ready.content.decode()
        assert f"an operator has stopped it, and `taktora-trio start --half {half}`" in ready.content.decode()
        assert check_alive(domain, half, 10) == [live.content.decode().splitlines()[ROLES.index(half)][4:]]
        domain.set_at_rest(half, False)
        assert (await get(answers, "/livez")).status == 503


def test_a_half_is_not_at_rest_where_who_has_stopped_it_is_gone(domain: Domain) -> None:
    with domain.hold("plugin"):
        with domain.hold("owner"):
            domain.set_at_rest("gateway", True)
            assert domain.is_at_rest("gateway")
        assert not domain.is_at_rest("gateway")
        with domain.hold("owner"):  # the next run
            assert not domain.is_at_rest("gateway")
