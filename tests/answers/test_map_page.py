"""The page of a map in a real browser, where there is one: real mouse, real sound, real files."""

import shutil

import numpy as np
import pytest
import soundfile
from browser import Browser
from made_sounds import rows_of

from hear_byols.analysis.maps import Projection, Sound, make_map_data
from hear_byols.answers.map_page import make_page

POINTS = np.array([[0, 0], [1, 0], [1, 2], [0, 3], [3, 1]], float)
NAMES_OF_FILES = ["a.wav", "javascript:alert(1)#?%.wav", "<i>c</i>.wav", "=1+1.wav", "gone.wav"]
LABELS = ["<b>x</b>", "y", "z", "y", "y"]
TITLE = "<script>document.title = 'stolen'</script>"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    names = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(names)}")
    browser = Browser(path, tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def map_path(tmp_path_factory):
    """A page, and in a folder beside it, sounds of 3 s."""
    home = tmp_path_factory.mktemp("page")
    (home / "sounds" / "<i>c<").mkdir(parents=True)  # as the slash of an end tag has it
    for i, name in enumerate(NAMES_OF_FILES[:-1]):
        soundfile.write(home / "sounds" / name, 0.1 * np.sin(np.arange(48000) * (0.1 + 0.02 * i)), 16000)
    paths = [home / "sounds" / name for name in NAMES_OF_FILES]
    sounds = [*map(Sound, paths[:3]), Sound(paths[3], 1.0, 1.5), Sound(paths[4])]
    data = make_map_data(TITLE, Projection(POINTS, ("1", "2")), NAMES_OF_FILES, LABELS, sounds)
    (home / "maps").mkdir()
    (home / "maps" / "map.html").write_text(make_page(data, home / "maps"), encoding="utf-8")
    return home / "maps" / "map.html"


@pytest.fixture
def page(browser, map_path):
    browser.open(map_path)
    return browser


def place(page: Browser, point: int) -> tuple[float, float]:
    """Where a point is in the window."""
    corner = "(({left, top}) => [left, top])(canvas.getBoundingClientRect())"
    x, y, left, top = page.run(f"[...onScreen(data.points[{point}]), ...{corner}]")
    return x + left, y + top


def tip_at(page: Browser, x: float, y: float) -> str:
    """What is told where the mouse is."""
    page.mouse("mouseMoved", x, y)
    return page.run("tip.style.display === 'none' ? '' : tip.innerText.trim()")


def text_of(page: Browser, element: str) -> str:
    return page.run(f"element('{element}').textContent")


def test_hovering_tells_file_and_label_of_what_a_search_leaves(page):
    assert tip_at(page, *place(page, 2)) == "z\n<i>c</i>.wav"
    assert tip_at(page, 5, 5) == ""
    page.run("element('search').focus()")
    page.call("Input.insertText", text="Z")
    assert text_of(page, "count") == "1 of 5"
    assert tip_at(page, *place(page, 0)) == ""  # what does not match is pale and silent
    page.run("element('clear').click()")
    assert text_of(page, "count") == "5 of 5"


def test_a_click_plays_the_clip_and_another_stops_it(page):
    for point, name in enumerate(NAMES_OF_FILES[:3]):
        page.click(*place(page, point))
        page.wait("audio.currentTime > 0.1")
        assert page.run("audio.duration") == pytest.approx(3, abs=0.01)
        assert text_of(page, "status") == f"playing {name}"
        page.click(*place(page, point))
        assert page.run("[audio.paused, playing]") == [True, None]


def test_a_stretch_is_played_and_no_more_and_a_file_that_is_gone_is_said(page):
    page.click(*place(page, 3))
    page.wait("audio.currentTime >= 1")
    assert "(1 to 1.5 s)" in text_of(page, "status")
    page.wait("playing === null")
    assert 1.4 <= page.run("audio.currentTime") <= 1.8
    assert page.run("audio.paused")
    page.click(*place(page, 4))
    page.wait("element('status').textContent.startsWith('gone.wav cannot be played')")
    assert page.run("playing") is None


def test_a_lasso_selects_and_its_table_is_harmless(page, tmp_path):
    left, top = place(page, 3)
    right, bottom = place(page, 1)
    corners = [(left - 20, top - 20), (right + 20, top - 20), (right + 20, bottom + 20), (left - 20, bottom + 20)]
    page.drag([*corners, corners[0]], shift=True)
    assert text_of(page, "count") == "4 of 5"
    x, y, width, height = page.run("(r => [r.x, r.y, r.width, r.height])(element('save').getBoundingClientRect())")
    rows = rows_of(page.download(tmp_path, lambda: page.click(x + width / 2, y + height / 2)))
    assert [row["path"] for row in rows] == [*NAMES_OF_FILES[:3], "'=1+1.wav"]
    assert [row["label"] for row in rows] == LABELS[:4]
    assert [row["start_s"] for row in rows] == ["", "", "", "1"]
    assert [[float(row["x"]), float(row["y"])] for row in rows] == POINTS[:4].tolist()


def test_clicks_on_the_legend_hide_and_show(page):
    buttons = "[...document.querySelectorAll('#legend button')]"
    shown = page.run(f"{buttons}.map(each => each.innerText.replace(/\\s+/g, ' ').trim())")
    assert shown == ["<b>x</b> 1", "y 3", "z 1"]

    def hidden(action: str) -> list[int]:
        page.run(f"(buttons => {{ {action} }})({buttons})")
        return page.run("[...hidden]")

    click = "dispatchEvent(new MouseEvent('click', {detail: 1}))"
    assert hidden(f"buttons[0].{click}; buttons[2].{click}") == [0, 2]
    assert tip_at(page, *place(page, 2)) == ""
    assert hidden(f"buttons[0].{click}") == [2]
    assert hidden("buttons[1].dispatchEvent(new MouseEvent('dblclick'))") == [0, 2]
    assert hidden("element('show').click()") == []


def test_zooming_dragging_and_resetting(page):
    before = page.run("({...view})")
    x, y = place(page, 0)
    page.call("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=-500)
    page.wait(f"Math.abs(view.scale / {before['scale']} - Math.E) < 1e-6")
    assert place(page, 0) == pytest.approx((x, y), abs=2)  # what is under the mouse stays
    start = page.run("({...view})")
    page.drag([(400, 300), (430, 310), (450, 320)])
    end = page.run("({...view})")
    assert [end["x"] - start["x"], end["y"] - start["y"]] == [50, 20]
    page.run("canvas.dispatchEvent(new MouseEvent('dblclick'))")
    assert page.run("({...view})") == before


def test_nothing_of_a_name_runs_and_nothing_is_asked_of_a_network(page):
    assert page.run("document.title") == TITLE
    assert page.run("[document.images.length, document.scripts.length]") == [0, 2]  # the page's data and its script
    page.click(*place(page, 1))
    page.wait("audio.currentTime > 0")
    assert {url.split(":")[0] for url in page.requests} <= {"file", "about", "blob"}
    assert page.run("fetch('http://127.0.0.1:9/').then(() => 'allowed', () => 'refused')") == "refused"


def test_twenty_thousand_points_are_drawn_without_stutter(browser, tmp_path):
    n = 20_000
    points = Projection(np.random.default_rng(0).normal(size=(n, 2)), ("1", "2"))
    content = make_map_data("many", points, [f"folder/{i}.wav" for i in range(n)], [f"l{i % 20}" for i in range(n)])
    (tmp_path / "many.html").write_text(make_page(content, tmp_path), encoding="utf-8")
    browser.open(tmp_path / "many.html")
    frames = """(() => { const begin = performance.now();
      for (let i = 0; i < 20; i++) { ACTION; pen.getImageData(0, 0, 1, 1); marker.getImageData(0, 0, 1, 1); }
      return (performance.now() - begin) / 20; })()"""
    # In milliseconds, on one core that others use, too, and without a graphics card.
    assert browser.run(frames.replace("ACTION", "hover(300 + 5 * i, 300); drawOver()")) < 50
    assert browser.run(frames.replace("ACTION", "move(1, 1); draw()")) < 1000
    assert len(browser.call("Page.captureScreenshot", format="png")["data"]) > 26000  # in base64
