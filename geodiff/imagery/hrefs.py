"""Which links of a catalogue may be opened: a catalogue from the network must not reach into the local disk.

A STAC item is data from a stranger, and GDAL opens far more than files: ``/vsi...`` chains, ``file://``, drivers with a
prefix. So links are checked against a short list of allowed forms before anything is opened.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from geodiff.schema import GeodiffError, public

WEB = ("http", "https")
REMOTE = (*WEB, "s3", "gs", "az")
_VSI = re.compile(
    r"(^|/)vsi(7z|adls|az|cached|crypt|curl|gs|gzip|hdfs|mem|oss|rar|s3|sparse|stdin|stdout|subfile|swift|tar|webhdfs|zip)"
    r"(_streaming)?($|[/?])",
    re.IGNORECASE,
)


def is_remote(location: str) -> bool:
    """Whether a catalogue lives on the network (http, https, s3, gs, az) and not on this disk."""
    return urlsplit(location).scheme.lower() in REMOTE


def check_href(href: str, *, catalog_href: str) -> str:
    """The absolute form of ``href``, once it is known to be harmless.

    From a remote catalogue only http, https, s3, gs and az may be reached, and a relative link may not climb out of
    its host. A local catalogue may also name local files (paths or ``file://``). GDAL's virtual forms (``/vsi…``) and
    VRT documents from afar (they name further files) are refused everywhere.

    Args:
        href: as written in the document.
        catalog_href: where that document lives: an absolute URL, or a path.

    Raises:
        GeodiffError: the link is refused; the message names link and catalogue.
    """
    plain = _decoded(href)
    if not href.strip() or any(ord(c) < 32 for c in plain):
        raise _refusal(href, catalog_href, "it is empty or holds control characters")
    if _VSI.search(plain):
        raise _refusal(href, catalog_href, "GDAL's /vsi paths are not accepted, give a plain URL or path")
    scheme = urlsplit(href).scheme.lower()
    if scheme in REMOTE:
        return _checked_url(href, plain, catalog_href)
    if is_remote(catalog_href):
        return _joined(href, plain, catalog_href)
    return _local(href, scheme, catalog_href)


def _checked_url(href: str, plain: str, catalog_href: str) -> str:
    parts = urlsplit(plain)
    if not parts.netloc:
        raise _refusal(href, catalog_href, "it names no host")
    if ".." in parts.path.split("/"):
        raise _refusal(href, catalog_href, "an absolute URL must not hold '..'")
    if parts.path.lower().endswith(".vrt"):
        raise _refusal(href, catalog_href, "a VRT from the network may name further files")
    return href


def _joined(href: str, plain: str, catalog_href: str) -> str:
    """A relative link of a remote document, resolved like a browser does but without forgiving too many '..'."""
    if urlsplit(href).scheme or ":" in plain.split("/", 1)[0]:
        raise _refusal(href, catalog_href, f"a remote catalogue may only link to {', '.join(REMOTE)}")
    folder = posixpath.dirname(urlsplit(catalog_href).path) or "/"
    depth = len([part for part in folder.split("/") if part])
    for part in [] if plain.startswith("/") else urlsplit(plain).path.split("/"):
        depth += -1 if part == ".." else (part not in ("", "."))
        if depth < 0:
            raise _refusal(href, catalog_href, "it climbs out of the catalogue's host with '..'")
    if plain.startswith("/") and ".." in plain.split("/"):
        raise _refusal(href, catalog_href, "it climbs with '..'")
    # urljoin leaves '..' alone for schemes that it does not know (s3, gs, az), so borrow one that it knows.
    base = urlsplit(catalog_href)
    joined = urlsplit(urljoin(base._replace(scheme="https").geturl(), href))
    kept = base.scheme if joined.scheme == "https" else joined.scheme
    return _checked_url(joined._replace(scheme=kept).geturl(), _decoded(joined.geturl()), catalog_href)


def _local(href: str, scheme: str, catalog_href: str) -> str:
    if scheme == "file":
        parts = urlsplit(href)
        if parts.netloc not in ("", "localhost"):
            raise _refusal(href, catalog_href, "file:// links must name this machine")
        return str(Path(unquote(parts.path)).resolve())
    if scheme and "://" in href:
        raise _refusal(href, catalog_href, f"only local paths and {', '.join(REMOTE)} can be opened")
    base = Path(unquote(urlsplit(catalog_href).path) if catalog_href.startswith("file://") else catalog_href)
    return str((base.parent / href).resolve())


def _decoded(text: str) -> str:
    """Without percent signs, decoded until nothing changes: ``%252e`` hides as well as ``%2e``."""
    for _ in range(5):
        decoded = unquote(text)
        if decoded == text:
            return text
        text = decoded
    return text


def _refusal(href: str, catalog_href: str, why: str) -> GeodiffError:
    shown = public(href)  # before it is cut, for half a password would not be known as one
    shown = shown if len(shown) <= 120 else shown[:117] + "..."
    return GeodiffError(f"catalogue {catalog_href} links to {shown!r}, which is refused: {why}")
