"""What all pages of evaluations share: one HTML file that needs nothing else, in one style."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from geodiff.outputs.atomic import explained, write_bytes

REPORT_HTML = "report.html"

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 78rem; padding: 0 1rem; color: #222; }
h1 { font-size: 1.6rem } h2 { font-size: 1.25rem; margin-top: 2.4rem; border-top: 1px solid #ddd; padding-top: 1rem }
h3 { font-size: 1.02rem; margin-top: 1.6rem }
table { border-collapse: collapse; margin: .6rem 0 } .scroll { overflow-x: auto }
th, td { text-align: left; padding: .25rem .7rem; border-bottom: 1px solid #eee; vertical-align: top }
th { background: #f6f6f6; font-weight: 600; white-space: nowrap } td { font-variant-numeric: tabular-nums }
td b { font-weight: 600 } .interval { color: #777; font-size: .85em; white-space: nowrap } .none { color: #bbb }
.best { background: #e6f3e6; padding: 0 .2rem } img { max-width: 100% }
code { background: #f4f4f4; padding: .1rem .3rem }
.note { color: #555 } pre { white-space: pre-wrap; background: #f4f4f4; padding: .6rem }
"""


@dataclass(frozen=True)
class Picture:
    """One picture of the report.

    Attributes:
        caption: what it shows.
        data: PNG.
    """

    caption: str
    data: bytes


def write_page(title: str, parts: Sequence[str], path: Path) -> Path:
    """Write a page; returns its path.

    Args:
        title: as HTML.
        parts: of the body, as HTML.
        path: of the file.

    Raises:
        GeodiffError: the folder cannot be written.
    """
    page = (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>'
        f"<body>{''.join(parts)}</body></html>\n"
    )
    with explained(path):
        write_bytes(path, page.encode())
    return path


def image(picture: Picture) -> str:
    """A picture inside the page, as HTML."""
    data = base64.b64encode(picture.data).decode()
    return f'<p><img alt="{escape(picture.caption)}" src="data:image/png;base64,{data}"></p>'
