"""MPEG-4 and QuickTime: the boxes of the file are followed, to see whether the last of them is whole."""

from __future__ import annotations

import struct

from hear_byols.containers.content import Content, Survey, whole, within
from hear_byols.errors import InputError


def survey_mp4(content: Content, start: int) -> Survey:
    """Follow the boxes.

    Raises:
        InputError: the last one is cut off, or a second file follows.
    """
    place = start
    while len(head := content.at(place, 16)) >= 8:
        (length,) = struct.unpack(">I", head[:4])
        if length == 1 and len(head) == 16:
            (length,) = struct.unpack(">Q", head[8:])
        if length < 8:  # 0: to the end
            break
        if head[4:8] == b"ftyp" and place > start:
            raise InputError(f"is several MPEG-4 files joined; a second begins at byte {place}")
        place = within(content, place + length)
    return whole(content, start)
