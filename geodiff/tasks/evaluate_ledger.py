"""Results as they come: one JSON line per model and case, so that a killed evaluation goes on where it stopped."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

from geodiff.outputs.atomic import explained

LEDGER = "results.jsonl"

Record = dict[str, Any]
"""What one region of one case gave for one model; JSON-serialisable, no NaN."""


class Ledger:
    """The file of results, read once and appended to.

    A line that a killed run left unfinished is ignored, and what follows starts on a line of its own.

    Args:
        folder: of the report.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LEDGER
        self._lock = threading.Lock()
        self._found: dict[str, list[Record]] = {}
        with explained(self.path):
            stored = self.path.read_bytes() if self.path.is_file() else b""
        self._broken = bool(stored) and not stored.endswith(b"\n")
        # By bytes: a killed run may have cut a letter in two, and names may hold what Unicode calls a line's end.
        for line in stored.split(b"\n"):
            entry = _entry(line)
            if entry:
                self._found[entry[0]] = entry[1]

    def get(self, key: str) -> list[Record] | None:
        """The records of a model and case; None where they are not there yet."""
        return self._found.get(key)

    def put(self, key: str, records: list[Record]) -> None:
        """Keep records; on the disk when this returns."""
        line = json.dumps({"key": key, "records": records}, allow_nan=False, ensure_ascii=False)
        with self._lock, explained(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(("\n" if self._broken else "") + line + "\n")
            file.flush()
            os.fsync(file.fileno())
            self._broken = False
            self._found[key] = records


def _entry(line: bytes) -> tuple[str, list[Record]] | None:
    """The key and the records of a line; None where it is no whole one."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("key"), str):
        return None
    records = entry.get("records")
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        return None
    return entry["key"], records
