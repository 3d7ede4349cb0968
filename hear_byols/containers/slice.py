"""A part of a file as a file of its own, behind a header that is not in it."""

import io
from typing import BinaryIO


class Slice(io.RawIOBase):
    """Reads a header and then the bytes [start, stop) of a seekable file, which is closed with this."""

    def __init__(self, file: BinaryIO, start: int, stop: int, header: bytes = b"") -> None:
        self._file = file
        self._header = header
        self._shift = start - len(header)  # from places here to places in the file
        self._size = stop - start + len(header)
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer) -> int:
        n = max(0, min(len(buffer), self._size - self._place))
        if self._place < len(self._header):
            data = self._header[self._place : self._place + n]
        else:
            self._file.seek(self._place + self._shift)
            data = self._file.read(n)
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
