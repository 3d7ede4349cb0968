"""Fetching a URL into a file: whole, no larger than promised, in bounded time, and without telling its credentials."""

import base64
import logging
import os
import re
import threading
import urllib.error
import urllib.request
from http.client import HTTPException, InvalidURL
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from hear_byols.errors import DownloadError, OptionError, WeightsNotFoundError

logger = logging.getLogger(__name__)

MAX_BYTES = 1 << 30  # of a file whose size no record states; the largest of the original's has 85 MB
_SECONDS = 1800  # for a whole download
_SILENCE_S = 30  # of a server, before it is given up


def redacted(text: str) -> str:
    """Text without the credentials and queries of the addresses in it."""
    text = re.sub(r"((?:https?|ftp|socks\w*)://)\S*@", r"\1***@", text)
    return re.sub(r"((?:https?|ftp)://[^\s?#]*)\?[^\s'\")]*", r"\1?***", text)


def download(url: str, path: Path, size: int | None = None) -> None:
    """Fetch an http or https address into a file: whole and of at most ``size`` bytes (1 GiB), or not at all.

    A name and password in the address are sent as basic authentication, and never shown.

    Raises:
        WeightsNotFoundError: the server has no such file.
        DownloadError: the address is none, the server does not answer, breaks off, sends more than ``size``, or needs
            longer than ``HEAR_BYOLS_DOWNLOAD_SECONDS``.
        OptionError: that variable is no number of seconds.
    """
    logger.info("downloading %s", redacted(url))
    seconds = _time_limit()
    stop, failures = threading.Event(), []

    def fetch() -> None:
        try:
            _fetch(url, path, size or MAX_BYTES, stop)
        except BaseException as error:
            failures.append(error)

    # A server that drips a byte now and then keeps every single read within its limit, so the whole has a watch.
    thread = threading.Thread(target=fetch, name="hear_byols-download", daemon=True)
    thread.start()
    try:
        thread.join(seconds)
        late = thread.is_alive()
    finally:
        stop.set()
    if late:
        thread.join(1)  # so that it lets go of the file, if it can
        raise DownloadError(
            f"{redacted(url)} timed out: not whole after {seconds:g} s; nothing was kept, try again, or set "
            "HEAR_BYOLS_DOWNLOAD_SECONDS to more"
        )
    if failures:
        raise failures[0]


def _time_limit() -> float:
    text = os.environ.get("HEAR_BYOLS_DOWNLOAD_SECONDS") or str(_SECONDS)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= threading.TIMEOUT_MAX:
        raise OptionError(f"HEAR_BYOLS_DOWNLOAD_SECONDS must be a positive number of seconds, got {text[:50]!r}")
    return seconds


def _fetch(url: str, path: Path, most: int, stop: threading.Event) -> None:
    shown = redacted(url)
    with _opened(url, shown) as response, open(path, "wb") as file:
        announced = response.headers.get("Content-Length") or ""
        if announced.isdigit() and int(announced) > most:
            raise DownloadError(f"{shown} has {announced} bytes, {most} are the most; nothing was kept")
        size = 0
        while not stop.is_set():
            try:
                block = response.read1(1 << 16)
            except (OSError, HTTPException) as error:
                raise DownloadError(f"{shown} broke off ({error}); nothing was kept, try again") from error
            size += len(block)
            if size > most:
                raise DownloadError(f"{shown} has more than {most} bytes, which are the most; nothing was kept")
            if not block:
                break
            file.write(block)
    if announced.isdigit() and size != int(announced):
        raise DownloadError(f"{shown} broke off after {size} of {announced} bytes; nothing was kept, try again")


def _opened(url: str, shown: str) -> Any:
    try:
        parts = urlsplit(url)
        login, at, host = parts.netloc.rpartition("@")
        request: str | urllib.request.Request = url
        if at:
            request = urllib.request.Request(urlunsplit(parts._replace(netloc=host)))
            encoded = base64.b64encode(unquote(login).encode()).decode()
            # For no other server that this one points to.
            request.add_unredirected_header("Authorization", f"Basic {encoded}")
        return urllib.request.urlopen(request, timeout=_SILENCE_S)
    except urllib.error.HTTPError as error:
        kind = WeightsNotFoundError if error.code in (404, 410) else DownloadError
        raise kind(f"{shown} answered {error.code} {error.reason}; nothing was kept") from error
    except (ValueError, InvalidURL):  # which show parts of the address
        raise DownloadError(f"{shown} could not be fetched (it is no address); nothing was kept") from None
    except (OSError, HTTPException) as error:
        raise DownloadError(f"{shown} could not be fetched ({error}); nothing was kept, try again") from error
