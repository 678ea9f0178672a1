"""The page for everyone: phone width, dark mode, screen readers; with a key; and when nothing answers."""

from __future__ import annotations

import json

from playwright.sync_api import Browser, Route, expect

from tests.page.visits import PHONE, WIDE, Visit, visiting

OFFERED = """() => {
  window.WebSocket = class extends WebSocket {
    constructor(url, offered) { super(url); window.offered = offered; }
  };
}"""
"""A service without keys takes none of the subprotocols, and a browser would give up then."""
KEY = "fswd_0123456789ab_a-key-of-a-test"


def luminance(visit: Visit, what: str) -> float:
    """Of a colour of the page's root, 0 to 255."""
    colour = visit.page.evaluate(f"getComputedStyle(document.documentElement).{what}")
    return sum(float(part) for part in colour.removeprefix("rgb(").rstrip(")").split(",")) / 3


def test_light_and_dark_follow_the_system(chromium: Browser, host: str) -> None:
    with (
        visiting(chromium, host, color_scheme="light") as light,
        visiting(chromium, host, color_scheme="dark") as dark,
    ):
        light.open()
        dark.open()
        assert luminance(light, "backgroundColor") > 200 > 80 > luminance(light, "color")
        assert luminance(dark, "backgroundColor") < 80 < 200 < luminance(dark, "color")


def test_a_phone_never_scrolls_sideways(on_a_phone: Visit) -> None:
    assert on_a_phone.overflow() == 0
    on_a_phone.choose("two.jpg")
    assert on_a_phone.overflow() == 0
    on_a_phone.page.get_by_role("radio", name="Everyone", exact=True).check()
    assert on_a_phone.overflow() == 0
    on_a_phone.choose("no-face.jpg")
    assert on_a_phone.overflow() == 0
    on_a_phone.page.get_by_role("button", name="Use the camera").click()
    expect(on_a_phone.page.locator("#live")).to_be_visible()
    assert on_a_phone.overflow() == 0


def test_nothing_grave_for_people_with_disabilities(chromium: Browser, host: str) -> None:
    """axe-core, in the states of the page, light and dark, wide and narrow."""
    with visiting(chromium, host, WIDE, color_scheme="light") as visit:
        visit.open()
        assert visit.barriers() == []
        visit.choose("two.jpg")
        assert visit.barriers() == []
    with visiting(chromium, host, PHONE, color_scheme="dark") as visit:
        visit.open()
        visit.choose("a.jpg")
        assert visit.barriers() == []
        visit.choose("no-face.jpg")
        assert visit.barriers() == []
        visit.page.get_by_role("button", name="Use the camera").click()
        expect(visit.page.locator("#live")).to_be_visible()
        assert visit.barriers() == []


def test_of_many_identities_some_are_shown_and_all_are_searched(chromium: Browser, host: str) -> None:
    names = [f"person-{number:02}" for number in range(40)]
    told = {"identities": [{"name": name, "consent": {"kind": "person"}} for name in names]}
    with visiting(chromium, host) as visit:
        page = visit.page
        page.route("**/identities", lambda route: route.fulfill(json=told))
        page.route("**/identities/*", lambda route: route.fulfill(json={"name": "person-00"}))
        visit.open()
        cards = page.get_by_role("radio", name="person-")
        expect(cards).to_have_count(32)
        expect(page.get_by_role("region", name="About person-00")).to_contain_text("no record")
        page.get_by_role("button", name="Show 8 more of 40").click()
        expect(cards).to_have_count(40)
        page.get_by_role("searchbox").fill("-39")
        expect(cards).to_have_count(1)
        assert cards.evaluate_all("all => all.map(card => card.tabIndex)") == [0], "the tab key reaches it"
        page.get_by_role("searchbox").fill("nobody")
        expect(page.get_by_text("Nobody of that name.")).to_be_visible()


def test_a_service_with_keys_is_given_one_that_stays_in_the_tab(chromium: Browser, host: str) -> None:
    """The service stands for itself; the keys are played here."""

    def guard(route: Route) -> None:
        given = route.request.headers.get("authorization")
        if given == f"Bearer {KEY}":
            route.continue_()
            return
        slug = "key-wrong" if given else "key-missing"
        problem = {"type": f"/problems/{slug}", "title": "?", "status": 401, "detail": "?", "request_id": "r"}
        route.fulfill(status=401, content_type="application/problem+json", body=json.dumps(problem))

    with visiting(chromium, host) as visit:
        visit.known = ("401",)
        page = visit.page
        for address in ("**/identities*", "**/identities/**", "**/health", "**/faces", "**/swap*"):
            page.route(address, guard)
        page.goto(f"http://{host}/")
        dialog = page.get_by_role("dialog", name="This service needs a key")
        expect(dialog).to_be_visible()
        assert visit.barriers() == []
        page.get_by_label("Key", exact=True).fill("a wrong one")
        page.keyboard.press("Enter")
        expect(dialog).to_contain_text("That key was not accepted.")
        page.get_by_label("Key", exact=True).fill(KEY)
        page.get_by_role("button", name="Continue").click()
        expect(dialog).to_be_hidden()
        visit.choose("a.jpg")
        expect(page.locator("#command")).to_contain_text('-H "Authorization: Bearer $FACESWAPD_KEY"')
        assert KEY not in page.locator("body").inner_text()
        assert page.evaluate("[sessionStorage.length, localStorage.length, document.cookie]") == [1, 0, ""]
        with page.expect_websocket() as opened:
            page.evaluate(OFFERED)
            page.get_by_role("button", name="Use the camera").click()
        assert opened.value.url.endswith("/stream?target=amara")
        assert page.evaluate("window.offered") == ["faceswapd", f"faceswapd.key.{KEY}"]


def test_a_key_that_is_not_given_is_told_in_words(visit: Visit) -> None:
    visit.known = ("401",)
    problem = {"type": "/problems/key-missing", "title": "?", "status": 401, "detail": "?", "request_id": "r"}
    visit.page.route(
        "**/faces",
        lambda route: route.fulfill(
            status=401, content_type="application/problem+json", body=json.dumps(problem)
        ),
    )
    visit.page.set_input_files("#file", {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": b"x"})
    visit.page.get_by_role("dialog").get_by_role("button", name="Not now").click()
    expect(visit.page.get_by_role("alert")).to_contain_text("This service needs a key.")


def test_a_full_service_is_asked_again_and_a_dead_one_is_told(visit: Visit) -> None:
    visit.known = ("503", "ERR_FAILED")
    answers = [503, 503]
    full = {"type": "/problems/queue-full", "title": "?", "status": 503, "detail": "?", "request_id": "r"}

    def busy(route: Route) -> None:
        if not answers:
            route.continue_()
            return
        headers = {"Retry-After": "0"}
        route.fulfill(
            status=answers.pop(),
            headers=headers,
            content_type="application/problem+json",
            body=json.dumps(full),
        )

    visit.page.route("**/faces", busy)
    visit.choose("a.jpg")
    expect(visit.page.locator("#status")).to_contain_text("Done")
    visit.page.route("**/swap*", lambda route: route.abort())
    visit.page.get_by_role("radio", name="will").click()
    expect(visit.page.get_by_role("alert")).to_contain_text("The service cannot be reached.")
