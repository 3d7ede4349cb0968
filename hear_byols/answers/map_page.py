"""A map of embeddings as one HTML file that works offline: listen, search, select, hide classes, zoom."""

import html
import json
import os
from importlib import resources
from pathlib import Path
from urllib.parse import quote

from hear_byols.analysis.maps import MapData


def make_page(data: MapData, folder: Path) -> str:
    """Fill the page, which will lie in a folder: sounds are named from there.

    Names and labels travel as data that cannot end its element, and are shown as text only.
    """
    owner = {place: i for i, each in enumerate(data.classes) for place in each.places}
    files = {path: i for i, path in enumerate(dict.fromkeys(sound.path for sound in data.sounds))}
    stretches = [
        [files[sound.path], *(round(time, 3) for time in (sound.start_s, sound.end_s) if time is not None)]
        for sound in data.sounds
    ] or [[]] * len(data.names)
    content = {
        "axes": data.projection.axes,
        "classes": [[each.label, each.colour, each.shape] for each in data.classes],
        "sounds": [_address(path, folder) for path in files],
        "points": [
            [round(float(x), 5), round(float(y), 5), owner[i], data.names[i], data.labels[i], *stretches[i]]
            for i, (x, y) in enumerate(data.projection.points)
        ],
    }
    text = json.dumps(content, ensure_ascii=True, allow_nan=False)
    text = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    template = resources.files("hear_byols.answers").joinpath("map_page.html").read_text(encoding="utf-8")
    before, after = template.split("{{data}}")
    return before.replace("{{title}}", html.escape(data.title)) + text + after


def _address(path: Path, folder: Path) -> str:
    """Address of a file from a page's folder; what is quoted can be no scheme and no other host."""
    try:
        return quote(os.fsencode(os.path.relpath(path, folder)).replace(os.sep.encode(), b"/"))
    except ValueError:  # another drive of Windows
        return path.absolute().as_uri()
