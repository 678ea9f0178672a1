"""A photo on the page: every step is seen, everyone is drawn at once, another face can be picked."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from urllib.request import urlopen

import pytest
from playwright.sync_api import expect

from tests.page.visits import EXAMPLES, Visit

NAMES = ["amara", "will", "yuna"]


def test_a_photo_is_shown_step_by_step(visit: Visit) -> None:
    visit.choose("a.jpg")
    page = visit.page
    expect(page.locator("#status")).to_contain_text("Done: your photo with the face of amara")
    expect(page.locator("#source-facts")).to_contain_text("900 \u00d7 675 · 1 face")
    expect(page.locator("#landmarks circle")).to_have_count(5)
    expect(page.locator("#faces .face.chosen")).to_have_count(1)
    assert visit.seen_size("#source") == visit.seen_size("#after") == visit.seen_size("#before") == [900, 675]
    assert visit.seen_size("#crop") == visit.seen_size("#face") == [64, 64]
    assert page.locator("#face").evaluate("i => getComputedStyle(i).imageRendering") == "pixelated"
    steps = page.locator("#timing-facts dt").all_inner_texts()
    assert {"Find and align the face", "Encode", "Decode", "Paste back", "In all"} <= set(steps)
    assert len(page.locator("#timing-bar span").all()) == len(steps) - 1
    expect(page.get_by_text("Synthetic: a network drew this face")).to_be_visible()


@pytest.mark.parametrize(("photo", "width", "height"), [("a.jpg", 900, 675), ("b.jpg", 720, 900)])
def test_frame_and_landmarks_lie_where_the_face_was_found(
    visit: Visit, photo: str, width: int, height: int
) -> None:
    with visit.page.expect_response("**/faces") as answer:
        visit.choose(photo)
    face = answer.value.json()["faces"][0]
    dots = visit.page.locator("#landmarks circle")
    points = dots.evaluate_all("all => all.map(c => [+c.getAttribute('cx'), +c.getAttribute('cy')])")
    assert points == [pytest.approx([x * width, y * height], abs=0.01) for x, y in face["landmarks"]]
    assert visit.page.locator("#landmarks").get_attribute("viewBox") == f"0 0 {width} {height}"
    frame, shown = visit.page.locator(".face").bounding_box(), visit.page.locator("#source").bounding_box()
    assert frame is not None and shown is not None
    assert shown["width"] / shown["height"] == pytest.approx(width / height, abs=0.01), "nothing is cut off"
    left, top = (frame["x"] - shown["x"]) / shown["width"], (frame["y"] - shown["y"]) / shown["height"]
    right, bottom = left + frame["width"] / shown["width"], top + frame["height"] / shown["height"]
    inside = [min(max(edge, 0), 1) for edge in face["box"]]
    assert [left, top, right, bottom] == pytest.approx(inside, abs=0.01)


def test_everyone_is_drawn_by_one_request(visit: Visit) -> None:
    visit.choose("b.jpg")
    swaps = [line for line in visit.asked if line.startswith("POST /swap?")]
    assert sorted(swaps) == [
        "POST /swap?crop=none&target=amara,will,yuna",
        "POST /swap?target=amara&face=0&output=photo&format=jpeg",
    ]
    assert [visit.seen_size(f"[data-name={name}] .swap") for name in NAMES] == [[64, 64]] * 3
    pictures = {visit.address(f"[data-name={name}] .swap") for name in NAMES}
    assert len(pictures) == 3
    assert (
        visit.page.locator(".card .preview").evaluate_all("all => all.map(i => i.naturalWidth)") == [64] * 3
    )


def test_another_identity_needs_only_the_photo_anew(visit: Visit) -> None:
    visit.choose("a.jpg")
    before, face = visit.address("#after"), visit.address("#face")
    visit.asked.clear()
    visit.page.get_by_role("radio", name="yuna").click()
    expect(visit.page.locator("#status")).to_contain_text("Done: your photo with the face of yuna")
    assert visit.address("#after") != before
    assert visit.address("#face") != face
    expect(visit.page.locator("#after")).to_have_attribute("alt", "Your photo with the face of yuna")
    swaps = [line for line in visit.asked if "swap" in line]
    assert swaps == ["POST /swap?target=yuna&face=0&output=photo&format=jpeg"]
    expect(visit.page.locator("#command")).to_contain_text("target=yuna")


def test_the_keyboard_chooses_identities_and_moves_the_slider(visit: Visit) -> None:
    visit.choose("a.jpg")
    page = visit.page
    page.get_by_role("radio", name="amara").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name="will")).to_be_focused()
    expect(page.get_by_role("radio", name="will")).to_be_checked()
    expect(page.locator("#status")).to_contain_text("Done: your photo with the face of will")
    slider = page.get_by_role("slider")
    slider.focus()
    page.keyboard.press("End")
    expect(slider).to_have_attribute("aria-valuetext", "100 percent before, 0 percent after")
    assert "0px 0%" in page.locator("#before").evaluate("i => getComputedStyle(i).clipPath")
    page.keyboard.press("Home")
    assert "100%" in page.locator("#before").evaluate("i => getComputedStyle(i).clipPath")


def test_of_two_faces_either_can_be_picked(visit: Visit) -> None:
    visit.choose("two.jpg")
    page = visit.page
    first, second = page.get_by_role("button", name=re.compile("Face . of 2")).all()
    expect(first).to_have_attribute("aria-pressed", "true")
    crop, swap = visit.address("#crop"), visit.address("[data-name=will] .swap")
    visit.asked.clear()
    second.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Face 2 of 2")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("button", name="Face 2 of 2")).to_be_focused()
    expect(page.locator("#command")).to_contain_text("face=1")
    visit.settled()
    assert visit.address("#crop") != crop
    assert visit.address("[data-name=will] .swap") != swap
    assert "POST /swap?target=amara&face=1&output=photo&format=jpeg" in visit.asked
    assert visit.asked.count("POST /faces") == 0


def test_a_photo_without_a_face_is_told_with_what_to_try(visit: Visit) -> None:
    visit.choose("no-face.jpg")
    alert = visit.page.get_by_role("alert")
    expect(alert).to_contain_text("No face was found in this photo.")
    expect(alert.get_by_role("listitem")).to_have_count(3)
    expect(visit.page.locator("#source")).to_be_visible()
    expect(visit.page.locator("#compare")).to_be_hidden()
    visit.choose("a.jpg")
    expect(alert).to_be_hidden()
    expect(visit.page.locator("#compare")).to_be_visible()


def test_a_file_that_is_no_picture_is_told_in_words(visit: Visit, tmp_path: Path) -> None:
    visit.known = ("415",)
    (tmp_path / "photo.heic").write_bytes(b"ftypheic")
    visit.choose(tmp_path / "photo.heic")
    expect(visit.page.get_by_role("alert")).to_contain_text("not a JPEG, PNG or WebP picture")
    expect(visit.page.get_by_role("alert")).to_contain_text("Request ")
    expect(visit.page.locator("#bench")).to_be_hidden()


def test_a_photo_can_be_dropped_and_pasted(visit: Visit) -> None:
    make = """async ([kind, name]) => {
      const blob = await (await fetch("/identities/will/preview")).blob();
      const bag = new DataTransfer();
      bag.items.add(new File([blob], name, { type: "image/png" }));
      const about = { bubbles: true, cancelable: true };
      document.body.dispatchEvent(kind === "paste"
        ? new ClipboardEvent("paste", { clipboardData: bag, ...about })
        : new DragEvent("drop", { dataTransfer: bag, ...about }));
    }"""
    for kind in ("drop", "paste"):
        visit.page.evaluate(make, [kind, f"{kind}.png"])
        expect(visit.page.locator("#command")).to_contain_text(f"image=@{kind}.png")
        visit.settled()
        assert visit.seen_size("#after") == [64, 64]


def test_the_picture_is_saved_under_its_name_and_marked(visit: Visit) -> None:
    visit.choose("a.jpg")
    with visit.page.expect_download() as saved:
        visit.page.get_by_role("link", name="Download").click()
    assert saved.value.suggested_filename == "amara-a.jpg"
    assert b"compositeWithTrainedAlgorithmicMedia" in saved.value.path().read_bytes()
    with visit.page.expect_download() as saved:
        visit.page.get_by_role("link", name="Save").click()
    assert saved.value.suggested_filename == "amara-64.png"
    assert b"/trainedAlgorithmicMedia" in saved.value.path().read_bytes()


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
def test_the_copied_command_does_what_is_seen(visit: Visit, tmp_path: Path) -> None:
    """Also of a file whose name both the shell and curl would read in their own way."""
    visit.choose(Path(shutil.copy(EXAMPLES / "two.jpg", tmp_path / 'it\'s; a, "b".jpg')))
    page = visit.page
    page.get_by_role("button", name="Face 2 of 2").click()
    expect(page.locator("#command")).to_contain_text("face=1")
    for wish, made in (("Photo", "amara.jpg"), ("Face", "amara.png"), ("Everyone", "faces.zip")):
        page.get_by_role("radio", name=wish, exact=True).check()
        shown = page.locator("#command").inner_text()
        page.locator("#copy").click()
        expect(page.locator("#copy")).to_have_text("Copied")
        command = page.evaluate("navigator.clipboard.readText()")
        assert command == shown
        subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True, capture_output=True, timeout=60)
        assert (tmp_path / made).stat().st_size > 1000
    with page.expect_download() as saved:
        page.get_by_role("link", name="Download").click()
    assert (tmp_path / "amara.jpg").read_bytes() == saved.value.path().read_bytes()


def test_the_record_of_consent_is_shown(visit: Visit, host: str) -> None:
    with urlopen(f"http://{host}/identities/will", timeout=20) as answer:
        consent = json.load(answer)["consent"]
    visit.page.get_by_role("radio", name="will").click()
    record = visit.page.get_by_role("region", name="About will")
    expect(record).to_contain_text("not needed: a person who does not exist")
    for value in (consent["given_by"], consent["date"], consent["purpose"], "CC0-1.0"):
        expect(record).to_contain_text(value)
