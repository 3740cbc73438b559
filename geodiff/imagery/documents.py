"""JSON documents of catalogues: read from disk or the web with patience, written whole or not at all."""

from __future__ import annotations

import json
import logging
import os
import re
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from geodiff.imagery.hrefs import WEB, is_remote
from geodiff.schema import GeodiffError, public

MAX_BYTES = 256 * 2**20
PIECE_BYTES = 2**16
"""Read at a time; older urllib3 unpack as much at once, which may become a thousand times as large."""

_QUERY = re.compile(r"\?\S+")
RETRIED_STATUS = (429, 500, 502, 503, 504)


def _without_query(record: logging.LogRecord) -> bool:
    """Hide the tokens of an address that is asked again."""
    record.msg, record.args = _QUERY.sub("", record.getMessage()), ()
    return True


logging.getLogger("urllib3.connectionpool").addFilter(_without_query)


class UnreadableError(GeodiffError):
    """A document is missing, or is not what it should be; the place that held it answered."""


@dataclass(frozen=True)
class Patience:
    """How long the network may take.

    Attributes:
        timeout_s: seconds to connect, and between two pieces of an answer.
        retries: further attempts after a lost connection, a timeout, or a status that says "later" (429, 5xx).
        backoff_s: first pause; each further one is twice as long. A ``Retry-After`` of the server wins.
    """

    timeout_s: float = 30.0
    retries: int = 4
    backoff_s: float = 0.5

    def retry(self) -> Retry:
        return Retry(
            total=self.retries,
            backoff_factor=self.backoff_s,
            status_forcelist=RETRIED_STATUS,
            allowed_methods=None,  # searches are POST requests without side effects
            raise_on_status=False,
        )


@dataclass(frozen=True)
class Reader:
    """Reads JSON objects from paths and http(s) addresses."""

    patience: Patience = Patience()

    @cached_property
    def _session(self) -> requests.Session:
        session = leaving_redirects(requests.Session())
        for prefix in ("http://", "https://"):
            session.mount(prefix, HTTPAdapter(max_retries=self.patience.retry(), pool_maxsize=16))
        return session

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def read(self, location: str) -> dict[str, Any]:
        """The JSON object at ``location``.

        Raises:
            UnreadableError: no such document, or not a JSON object.
            GeodiffError: the server cannot be reached or fails, after the retries.
        """
        raw = self._fetch(location) if is_remote(location) else _from_disk(location)
        try:
            value = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise UnreadableError(f"{location} is not JSON ({error}): is it a STAC catalogue?") from None
        if not isinstance(value, dict):
            raise UnreadableError(f"{location} holds a {type(value).__name__}, not a JSON object: not a STAC document")
        return value

    def _fetch(self, url: str) -> bytes:
        if urlsplit(url).scheme.lower() not in WEB:
            raise GeodiffError(f"{url}: catalogues are read over http(s) or from disk, use an https address")
        try:
            with self._session.get(url, timeout=self.patience.timeout_s, stream=True) as answer:
                if answer.status_code in (404, 410):
                    raise UnreadableError(f"{url} does not exist ({answer.status_code}): check the address")
                if not answer.ok:
                    raise GeodiffError(f"{url} answered {answer.status_code} {answer.reason}: try again later")
                return gathered(answer, url)
        except requests.RequestException as error:
            raise unreachable(url, error) from None


def leaving_redirects(session: requests.Session) -> requests.Session:
    """The same session, which does not read what stands in a redirect: left to itself it holds all of it, unpacked."""
    session.hooks["response"].append(lambda answer, **_: answer.close() if answer.is_redirect else None)
    return session


def gathered(answer: requests.Response, url: str) -> bytes:
    """What a server answers, unpacked, as far as it may be held; ``answer`` must have been asked for as a stream.

    Raises:
        UnreadableError: it is larger than 256 MiB.
    """
    pieces, size = [], 0
    for piece in answer.iter_content(PIECE_BYTES):
        size += len(piece)
        if size > MAX_BYTES:
            raise UnreadableError(f"{url} is larger than {MAX_BYTES >> 20} MiB: not a STAC document")
        pieces.append(piece)
    return b"".join(pieces)


def brief(error: object, most: int = 200) -> str:
    """What an error says, in one line; public before it is cut, for half a password would not be known as one."""
    return " ".join(public(str(error)).split())[:most]


def unreachable(url: str, error: Exception) -> GeodiffError:
    """The one line for a server that does not answer."""
    text = str(error).lower()
    known = {
        "timed out": "it did not answer in time",
        "name or service": "no such host",
        "name resolution": "no such host",
        "failed to resolve": "no such host",
        "refused": "connection refused",
        "certificate": "its certificate is not trusted",
    }
    why = next((words for sign, words in known.items() if sign in text), type(error).__name__)
    return GeodiffError(f"cannot reach {url}: {why}; check the address and the network, then try again")


def write_json(path: Path, value: Any) -> None:
    """Write beside ``path`` and move into place, so that no reader ever sees half a file.

    Raises:
        GeodiffError: the folder cannot be written, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                json.dump(value, stream, indent=1, ensure_ascii=False, allow_nan=False)
                stream.write("\n")
            # mkstemp makes private files; a catalogue is for everyone whom the umask lets in.
            os.chmod(name, 0o666 & ~_umask())
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise GeodiffError(f"cannot write {path}: {error.strerror or error}") from None


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _from_disk(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UnreadableError(f"cannot read {path}: {error.strerror or error}") from None
