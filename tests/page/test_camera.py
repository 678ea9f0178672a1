"""The live camera on the page; the browser's camera is a file."""

from __future__ import annotations

import json
import re

from playwright.sync_api import WebSocketRoute, expect

from tests.page.visits import Visit

LISTEN = """() => {
  window.sent = { texts: [], kinds: new Set(), last: null };
  const send = WebSocket.prototype.send;
  WebSocket.prototype.send = function (data) {
    if (typeof data === "string") sent.texts.push(data);
    else { sent.kinds.add(data.type); sent.last = data; }
    return send.call(this, data);
  };
}"""
"""What the page sends: Playwright tells of texts, but not of blobs."""
SOME = re.compile(r"^(?!0\.0)\d+\.\d$")


def test_the_camera_is_swapped_live_and_a_photo_can_be_taken(visit: Visit) -> None:
    page = visit.page
    page.evaluate(LISTEN)
    with page.expect_websocket() as opened:
        page.get_by_role("button", name="Use the camera").click()
    expect(page.locator("#rate")).to_have_text(SOME)
    expect(page.locator("#camera-facts")).to_have_text("640 \u00d7 480")
    expect(page.locator("#live-facts")).to_have_text("amara, synthetic")
    assert page.locator("#output").evaluate("c => [c.width, c.height]") == [640, 480]
    pixels = page.locator("#output").evaluate(
        "c => [...c.getContext('2d').getImageData(320, 240, 1, 1).data]"
    )
    assert sum(pixels[:3]) > 0 and pixels[3] == 255, "something is drawn"
    page.get_by_role("radio", name="yuna").click()
    expect(page.locator("#live-facts")).to_have_text("yuna, synthetic")
    assert page.evaluate("sent.texts") == ['{"target":"yuna"}']
    assert page.evaluate("[...sent.kinds]") == ["image/jpeg"]
    assert page.evaluate("createImageBitmap(sent.last).then(b => [b.width, b.height])") == [640, 480]
    page.get_by_role("button", name="Take this photo").click()
    visit.settled()
    expect(page.locator("#live")).to_be_hidden()
    expect(page.locator("#source-facts")).to_contain_text("640 \u00d7 480 · 1 face")
    expect(page.locator("#photo-link")).to_have_attribute("download", "yuna-camera.jpg")
    assert opened.value.is_closed()


def test_the_camera_stops_when_asked(visit: Visit) -> None:
    page = visit.page
    page.get_by_role("button", name="Use the camera").click()
    expect(page.locator("#rate")).to_have_text(SOME)
    track = page.locator("#video").evaluate_handle("v => v.srcObject.getVideoTracks()[0]")
    page.get_by_role("button", name="Stop the camera").click()
    assert track.evaluate("t => t.readyState") == "ended"
    expect(page.get_by_role("button", name="Use the camera")).to_be_focused()
    expect(page.locator("#trouble")).to_be_hidden()


def test_a_page_that_may_have_no_camera_says_why(visit: Visit) -> None:
    """As on http://192.0.2.1: there a browser has no mediaDevices."""
    visit.page.evaluate("Object.defineProperty(navigator, 'mediaDevices', { value: undefined })")
    visit.page.get_by_role("button", name="Use the camera").click()
    expect(visit.page.get_by_role("alert")).to_contain_text("only to pages on localhost or https")


def test_a_frame_without_a_face_is_told_and_the_camera_goes_on(visit: Visit) -> None:
    problem = {"type": "/problems/no-face", "title": "?", "status": 422, "detail": "?", "request_id": "r"}

    def never_a_face(socket: WebSocketRoute) -> None:
        for frame in range(3):
            socket.send(json.dumps({"frame": frame, "dropped": 0, "problem": problem}))

    visit.page.route_web_socket("**/stream*", never_a_face)
    visit.page.get_by_role("button", name="Use the camera").click()
    expect(visit.page.locator("#live-word")).to_have_text(re.compile("No face in view. Look into the camera"))
    expect(visit.page.locator("#live")).to_be_visible()


def test_a_stream_that_is_refused_is_told_in_words(visit: Visit) -> None:
    problem = {
        "type": "/problems/streams-full",
        "title": "?",
        "status": 503,
        "detail": "?",
        "request_id": "r",
    }

    def refuse(socket: WebSocketRoute) -> None:
        socket.send(json.dumps({"problem": problem}))
        socket.close(code=1013)

    visit.page.route_web_socket("**/stream*", refuse)
    visit.page.get_by_role("button", name="Use the camera").click()
    expect(visit.page.get_by_role("alert")).to_contain_text(
        "As many cameras are connected as the service takes."
    )
    expect(visit.page.locator("#live")).to_be_hidden()
