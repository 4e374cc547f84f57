"""The preview page in a real browser: opened from a file, without a network, by mouse and by keyboard."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tiny_shards import SIZE_PX, box_question, depth_question, every_kind, pose_question, sample, write_dataset
from vlm3data.report.preview import write_preview
from vlm3data.report.target import Target
from vlm3data.shards import ShardTally

MARKS = """([question, view]) => {
    const figure = document.querySelector('#detail .figure'), matrix = figure.getScreenCTM().inverse();
    const image = figure.querySelectorAll('image')[view].getBoundingClientRect();
    const dots = [...figure.querySelectorAll(`.active .dot[data-view="${view}"] .core`)];
    return dots.map((dot) => {
        const box = dot.getBoundingClientRect();
        const [x, y] = [box.left + box.width / 2 - image.left, box.top + box.height / 2 - image.top];
        return [x / image.width, y / image.height];
    });
}"""


class Opened:
    """A page opened from a file, with all that it asked of a network and complained about."""

    def __init__(self, browser, path: Path, anchor: str = "", **context) -> None:
        self.context = browser.new_context(**({"viewport": {"width": 1300, "height": 850}} | context))
        self.page, self.asked, self.complaints = self.context.new_page(), list[str](), list[str]()
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(f"dialog {dialog.message}"), dialog.dismiss()))
        self.page.goto(f"file://{path}{anchor}")

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *error: object) -> None:
        self.context.close()
        if error[0] is None:
            assert not self.complaints
            assert all(url.startswith(("file://", "data:")) for url in self.asked)
            assert sum(url.startswith("file://") for url in self.asked) == 1  # the page itself


def page_of(url: str, out: Path, limit: int = 2000) -> Path:
    write_preview(Target.open(url), str(out), limit, 640, lambda done, total: None)
    return out


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    tally = ShardTally()
    tally.drops["image_missing"] = 3
    other = [sample(i, [depth_question((10 * i, 7), 1.0 + i)]) for i in range(2, 8)]
    write_dataset(folder / "toy", [every_kind()], [tally])
    write_dataset(folder / "other", [other])
    spec = folder / "mix.yaml"
    spec.write_text(
        f"samples: 16\ndatasets:\n  toy: {{shards: {folder}/toy, weight: 1}}\n"
        f"  other: {{shards: {folder}/other, weight: 3}}\n"
    )
    page_of(str(spec), folder / "mix.html")
    return page_of(str(folder / "toy"), folder / "toy.html")


def shown(page) -> list[str]:
    return page.locator(".card:not([hidden]) .card-name").all_inner_texts()


def marks(page, question: int, view: int) -> list[list[float]]:
    found = page.evaluate(MARKS, [question, view])
    return [[share * size for share, size in zip(xy, SIZE_PX, strict=True)] for xy in found]


@pytest.mark.parametrize("stacked", [False, True])
def test_a_hovered_question_marks_its_pixels(browser, toy, stacked):
    viewport = {"width": 700, "height": 1300} if stacked else {"width": 1300, "height": 850}
    for number, sample_ in enumerate(every_kind()):
        with Opened(browser, toy, f"#sample-{number}", viewport=viewport) as opened:
            for i, question in enumerate(sample_.record["questions"]):
                opened.page.locator("#detail .question").filter(has_text=question["question"]).first.focus()
                for view, name in enumerate(("pixel_px", "pixel2_px")):
                    if name not in question["truth"]:
                        continue
                    (found,) = marks(opened.page, i, view)
                    off = 0.5 if view == 0 else 0.0  # an integer pixel is marked at its centre
                    assert found == pytest.approx([value + off for value in question["truth"][name]], abs=0.3)


def test_pointing_at_a_mark_picks_its_question_and_says_its_value(browser, toy):
    with Opened(browser, toy, "#sample-0") as opened:
        image = opened.page.locator("#detail .figure image").bounding_box()
        x, y = ((value + 0.5) / size for value, size in zip((120, 90), SIZE_PX, strict=True))
        opened.page.mouse.move(image["x"] + x * image["width"], image["y"] + y * image["height"])
        assert "8.00 meters" in opened.page.locator(".question.picked").inner_text()
        assert "8.00 m" in opened.page.locator(".tip").inner_text()


def test_a_box_and_its_three_dimensions_are_drawn_where_they_project(browser, toy):
    with Opened(browser, toy, "#sample-0") as opened:
        box = opened.page.locator("#detail .boxes .region").evaluate(
            "(r) => [r.x, r.y, r.width, r.height].map((v) => v.baseVal.value)"
        )
        assert box == pytest.approx([0.328 * 160, 0.271 * 120, 0.344 * 160, 0.458 * 120])
        edges = opened.page.locator("#detail .boxes .edges").evaluate(
            "(e) => { const b = e.getBBox(); return [b.x, b.y, b.width, b.height]; }"
        )
        near = 150 * 0.5 / 3.5  # half the box's width, seen at its near face
        assert edges == pytest.approx([80 - near, 60 - near, 2 * near, 2 * near], abs=0.01)


def test_a_pose_is_drawn_with_camera_2_to_the_right(browser, toy):
    with Opened(browser, toy, "#sample-1") as opened:
        above = opened.page.locator("#detail .glyph").nth(1)
        first, second = (above.locator(f".{name} .frustum").bounding_box() for name in ("first", "second"))
        assert second["x"] > first["x"] + first["width"] / 2
        # Turned to the right by 10 degrees: what it sees ahead lies farther right than where it stands.
        tip = (
            above.locator(".second .axis")
            .nth(2)
            .evaluate("(p) => p.getPathData ? null : p.getAttribute('d').match(/-?[\\d.]+/g).map(Number)")
        )
        assert tip[2] > tip[0] + 1
        assert tip[3] < tip[1] - 5  # and ahead is up
        assert "10.0°" in opened.page.locator(".pose").inner_text()
        before = above.inner_html()
        box = above.bounding_box()
        opened.page.mouse.move(box["x"] + 40, box["y"] + 40)
        opened.page.mouse.down()
        opened.page.mouse.move(box["x"] + 80, box["y"] + 60)
        opened.page.mouse.up()
        assert above.inner_html() != before


def test_filters_search_and_reasons_choose_what_is_shown(browser, toy):
    with Opened(browser, toy.with_name("mix.html")) as opened:
        page = opened.page
        everything = shown(page)
        assert len(everything) == 16
        toys = [key for key in everything if key < "sample-0002"]
        page.locator(".chip", has_text="toy").click()
        assert shown(page) == toys != everything
        page.locator(".chip", has_text="pose").click()
        assert set(shown(page)) == {"sample-0001"}
        assert page.locator("#shown").inner_text().endswith("of 16 samples")
        page.locator(".chip", has_text="pose").click()
        page.locator(".chip", has_text="toy").click()
        page.keyboard.press("/")
        page.keyboard.type("4.00 METERS")
        page.locator("#shown", has_text="of 16").wait_for()
        assert set(shown(page)) == {"sample-0003"}
        page.locator("#search").fill("no such thing")
        page.locator("#clear").click()
        assert shown(page) == everything
        page.locator("#tab-left-out").click()
        assert "image_missing" in page.locator("#left-out").inner_text()
        page.locator("#left-out .act button").first.click()
        assert shown(page) == toys  # those of the shard that dropped something


def test_everything_works_from_the_keyboard(browser, toy):
    from playwright.sync_api import expect

    with Opened(browser, toy.with_name("mix.html")) as opened:
        page = opened.page
        focused = "document.activeElement.closest('.card')?.dataset.number"
        for key, number in (("j", "0"), ("j", "1"), ("ArrowRight", "2"), ("k", "1"), ("ArrowLeft", "0")):
            page.keyboard.press(key)
            assert page.evaluate(focused) == number
        page.keyboard.press("ArrowDown")
        assert int(page.evaluate(focused)) > 1
        page.keyboard.press("ArrowUp")
        assert page.evaluate(focused) == "0"
        page.keyboard.press("Enter")
        assert page.locator("#detail h2").inner_text() == shown(page)[0]
        page.keyboard.press("j")
        assert page.locator("#detail h2").inner_text() == shown(page)[1]
        page.keyboard.press("ArrowDown")
        assert page.locator(".question.picked").count() == 1
        page.keyboard.press("Escape")
        expect(page.locator('.card[data-number="1"] :focus')).to_have_count(
            1
        )  # a dialog tells of its end a moment later
        page.keyboard.press("?")
        assert page.locator("#help").is_visible()
        page.keyboard.press("Escape")
        page.keyboard.press("2")
        assert page.locator("#statistics .chart").count() > 3
        page.keyboard.press("3")
        assert page.locator("#left-out").is_visible()
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        page.keyboard.press("Tab")
        assert page.evaluate(outline) != "none"


def test_nothing_from_the_data_is_run(browser, tmp_path):
    bad = "</script><img src=x onerror=alert(1)><svg onload=alert(2)>\"'`${alert(3)}{{1}}\u202e\u2028 مرحبا"
    questions = [depth_question((5, 5), 2.0, question=f"(62, 83) {bad}", answer=bad, task=bad), box_question(bad)]
    tally = ShardTally()
    tally.drops[bad] = 2
    samples = [sample(0, questions, scene=bad, split=bad, licence=bad, key=bad), sample(1, [pose_question()], views=2)]
    url = write_dataset(tmp_path / "<b onclick=alert(4)>'&amp;", [samples], [tally])
    with Opened(browser, page_of(url, tmp_path / "page.html")) as opened:
        page = opened.page
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        page.locator("#detail .question").first.hover()
        assert page.locator("#detail h2").text_content() == bad
        page.keyboard.press("Escape")
        page.keyboard.press("2")
        page.keyboard.press("3")
        assert bad in page.locator("#left-out").text_content()
        assert page.locator("img, [onerror], [onload], [onclick], body b").count() == 0
        assert page.evaluate("document.scripts.length") == 1 + 1 + 2 + 3  # ours, about, the samples, their images


def test_the_policy_holds_even_where_markup_were_to_get_in(browser, toy):
    with Opened(browser, toy) as opened:
        ran = opened.page.evaluate(
            """async () => {
                const script = document.createElement('script');
                script.textContent = 'window.ran = true';
                document.body.append(script);
                const image = document.createElement('img');
                const refused = new Promise((done) => {
                    image.onerror = () => done('refused');
                    image.onload = () => done('loaded');
                });
                image.src = 'https://localhost:1/x.png';
                document.body.append(image);
                const fetched = await fetch('https://localhost:1/').then(() => 'fetched', () => 'refused');
                return [window.ran ?? null, await refused, fetched];
            }"""
        )
        assert ran == [None, "refused", "refused"]
        assert all("Content Security Policy" in text for text in opened.complaints)
        assert len(opened.complaints) >= 3
        opened.complaints.clear()
        opened.asked[:] = [url for url in opened.asked if not url.startswith("https://localhost:1/")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_drawn_in_light_and_in_dark(browser, toy, scheme):
    with Opened(browser, toy, color_scheme=scheme) as opened:
        opened.page.locator(".card .figure").first.wait_for()
        picture = Image.open(io.BytesIO(opened.page.screenshot())).convert("RGB")
        assert len(picture.getcolors(1 << 24)) > 2000  # the photographs are there
        corner = np.mean(picture.getpixel((picture.width - 1, picture.height - 1)))
        assert corner > 240 if scheme == "light" else corner < 40


def test_it_fits_a_phone(browser, toy):
    with Opened(browser, toy, viewport={"width": 360, "height": 800}) as opened:
        for anchor in ("", "#sample-1", "#show-statistics", "#show-left-out"):
            opened.page.goto(f"file://{toy}{anchor}")
            opened.page.reload()
            assert opened.page.evaluate("document.documentElement.scrollWidth") <= 360
        heights = "[...document.querySelectorAll('.left-out-kind th')].map((reason) => reason.offsetHeight)"
        assert 0 < max(opened.page.evaluate(heights)) < 50  # its words are not broken letter by letter
        opened.asked[:] = opened.asked[:1]


def test_a_thousand_samples_are_drawn_only_where_they_are_seen(browser, tmp_path):
    samples = [sample(i, [depth_question((i % 160, i % 120), 1 + i / 100)]) for i in range(1000)]
    path = page_of(write_dataset(tmp_path / "many", [samples]), tmp_path / "many.html")
    with Opened(browser, path) as opened:
        page = opened.page
        page.locator(".card .figure").first.wait_for()
        assert len(shown(page)) == 1000
        assert page.locator(".card .figure").count() < 120
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        last = page.locator('.card[data-number="999"] .figure')
        last.wait_for()
        assert page.locator('.card[data-number="0"] .figure').count() == 0
        page.locator('.card[data-number="999"] .card-open').click()
        assert "1,000 of 1,000" in page.locator(".detail-top").inner_text()
