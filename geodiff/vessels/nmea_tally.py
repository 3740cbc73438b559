"""What became of the lines and messages of a recording that gave no fix."""

from __future__ import annotations

from dataclasses import dataclass, field

from geodiff.vessels.nmea_payload import Ints, Layout, Payloads, read_fields

TRUNCATED = "payload too short for its type"
STATIC = "static data"
OTHER_TYPE = "message without a position"
FURTHER_PART = "further part of a message"


@dataclass(slots=True)
class Tally:
    """Rows by what became of them.

    Attributes:
        refused: for a reason.
        skipped: lines that rightly give no fix.
        blanked: fixes with a value that was set to null.
    """

    refused: list[tuple[str, Ints]] = field(default_factory=list)
    skipped: list[tuple[str, Ints]] = field(default_factory=list)
    blanked: list[tuple[str, Ints]] = field(default_factory=list)

    def blank(self, what: str, rows: Ints) -> None:
        if rows.size:
            self.blanked.append((what, rows))

    def refuse(self, reason: str, rows: Ints) -> None:
        if rows.size:
            self.refused.append((reason, rows))

    def skip(self, reason: str, rows: Ints) -> None:
        if rows.size:
            self.skipped.append((reason, rows))


def read_whole(payloads: Payloads, layout: Layout, tally: Tally) -> tuple[dict[str, Ints], Payloads]:
    """Raw fields of payloads of one layout, and those payloads: without the ones that are too short."""
    whole = payloads.bits >= layout.least_bits
    tally.refuse(TRUNCATED, payloads.row[~whole])
    if not whole.all():
        payloads = payloads.pick(whole)
    return read_fields(payloads, layout), payloads
