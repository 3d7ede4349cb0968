"""The page of a map in a real browser, where there is one: what it shows and how it answers."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from hear_byols.analysis.atlas import make_atlas
from hear_byols.analysis.map_page import make_page
from hear_byols.analysis.projection import Projection

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
# Runs in the page; what it returns comes back as JSON.
ACTIONS = """
const at = (type, [x, y]) => {
  const corner = canvas.getBoundingClientRect();
  canvas.dispatchEvent(new PointerEvent(type, {clientX: x + corner.left, clientY: y + corner.top, pointerId: 1}));
};
canvas.setPointerCapture = () => {};
const buttons = [...document.querySelectorAll("#legend button")];
const click = (button, detail) => button.dispatchEvent(new MouseEvent("click", {detail}));
const seen = {}, place = onScreen(data.points[2]);

seen.legend = buttons.map(button => button.innerText.replace(/\\s+/g, " ").trim());
at("pointermove", place);
seen.tip = [tip.style.display, tip.innerText.trim()];
at("pointermove", [-900, -900]);
seen.tip_gone = tip.style.display;
click(buttons[0], 1);
click(buttons[2], 1);
seen.hidden = [...hidden];
seen.pressed = buttons.map(button => button.getAttribute("aria-pressed"));
at("pointermove", place);
seen.tip_of_hidden = tip.style.display;
click(buttons[0], 1);
seen.back = [...hidden];
buttons[1].dispatchEvent(new MouseEvent("dblclick"));
seen.alone = [...hidden];
element("show").click();
seen.all = [...hidden];
const before = {...view};
canvas.dispatchEvent(new WheelEvent("wheel", {deltaY: -500, clientX: 200, clientY: 200, cancelable: true}));
seen.zoom = view.scale / before.scale;
const start = {...view};
at("pointerdown", [100, 100]);
at("pointermove", [150, 120]);
at("pointerup", [150, 120]);
seen.drag = [view.x - start.x, view.y - start.y];
canvas.dispatchEvent(new MouseEvent("dblclick"));
seen.reset = view.scale === before.scale && view.x === before.x;
seen.title = document.title;
seen.foreign = [document.images.length, document.scripts.length];
return seen;
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What the actions saw."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)}")
    points = np.array([[0, 0], [1, 0], [1, 2], [0, 3]], float)
    names = ["a.wav", "b.wav", "<i>c</i>.wav", "d.wav"]
    labels = ["<b>x</b>", "y", "z", "y"]
    page = make_page(
        make_atlas("<script>document.title = 'stolen'</script>", Projection(points, ("1", "2")), names, labels)
    )
    # At once, before the browser has drawn anything: the page answers from its first moment, however slow the machine.
    script = f"""<script>{{
      const result = document.createElement("pre");
      result.id = "result";
      try {{ result.textContent = JSON.stringify((() => {{ {ACTIONS} }})()); }}
      catch (error) {{ result.textContent = JSON.stringify(String(error)); }}
      document.body.append(result);
    }}</script>"""
    path = tmp_path_factory.mktemp("page") / "map.html"
    path.write_text(page.replace("</body>", f"{script}</body>"), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=900,700"]
    command = [browser, *options, f"--user-data-dir={path.parent}", "--dump-dom", path.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    result = json.loads(html.unescape(re.search(r'<pre id="result">(.*?)</pre>', dom, re.DOTALL)[1]))
    assert isinstance(result, dict), result
    return result


def test_hovering_tells_file_and_label(seen):
    assert seen["tip"] == ["block", "z\n<i>c</i>.wav"]
    assert seen["tip_gone"] == "none"


def test_clicks_on_the_legend_hide_and_show(seen):
    assert seen["legend"] == ["<b>x</b> 1", "y 2", "z 1"]
    assert seen["hidden"] == [0, 2]
    assert seen["pressed"] == ["false", "true", "false"]
    assert seen["tip_of_hidden"] == "none"
    assert seen["back"] == [2]
    assert seen["alone"] == [0, 2]
    assert seen["all"] == []


def test_zooming_dragging_and_resetting(seen):
    assert seen["zoom"] == pytest.approx(np.e)
    assert seen["drag"] == [50, 20]
    assert seen["reset"] is True


def test_nothing_of_a_name_runs(seen):
    assert seen["title"] == "<script>document.title = 'stolen'</script>"
    assert seen["foreign"] == [0, 3]  # the page's data and script, and this test's
