"""What fuzzing the readers has found, kept: each was a crash, a hang or a message that misled."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest

from geodiff.schema import GeodiffError, UsageError
from geodiff.testing.nmea import message
from geodiff.testing.tracks_hostile import ROWS, TABLE, read_or_refuse
from geodiff.vessels.layouts import read_layout
from geodiff.vessels.read import open_fixes, read_fixes

PLAIN = "time: BaseDateTime, lon_deg: LON, lat_deg: LAT"


def zipped(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a"


def test_a_zip_member_whose_name_is_gone(path: Path) -> None:
    data = bytearray(zipped(("a.csv", TABLE)))
    data[data.index(b"PK\x01\x02") + 28] = 0  # length of the name in the list of files
    path.write_bytes(data)
    with pytest.raises(GeodiffError, match=r"cannot be|damaged zip"):
        open_fixes(path)


@pytest.mark.parametrize("where", [6, 8, 28, 30, 42])
@pytest.mark.parametrize("value", [0x01, 0x0E, 0x7F, 0xFF])
def test_a_zip_with_a_field_spoilt_is_read_or_refused(path: Path, where: int, value: int) -> None:
    data = bytearray(zipped(("a.csv", TABLE)))
    data[data.index(b"PK\x01\x02") + where] = value
    path.write_bytes(data)
    read_or_refuse(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_with_one_name_twice_would_lose_a_file(path: Path) -> None:
    path.write_bytes(zipped(("a.csv", TABLE), ("a.csv", TABLE)))
    with pytest.raises(GeodiffError, match=r"two files of the name 'a\.csv'"):
        open_fixes(path)


def test_the_list_of_a_zip_is_not_read_for_every_member(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(zipped(*((f"{n}.csv", TABLE) for n in range(50))))
    opened = []
    real = zipfile.ZipFile.__init__
    monkeypatch.setattr(
        zipfile.ZipFile, "__init__", lambda self, *words, **more: opened.append(1) or real(self, *words, **more)
    )
    open_fixes(path)
    assert len(opened) < 10


def test_static_rows_of_a_layout_without_static_data(path: Path, tmp_path: Path) -> None:
    told = tmp_path / "map.yaml"
    told.write_text(f"static_rows: true\ncolumns: {{{PLAIN}, vessel_id: MMSI}}\n")
    path.write_bytes(TABLE)
    assert read_fixes(path, layout=told)[1].kept == len(ROWS)


@pytest.mark.parametrize("text", ["day: 2020-13-45\n", "[" * 5000], ids=["an impossible day", "too deep"])
def test_a_column_map_that_yaml_itself_stumbles_over(tmp_path: Path, text: str) -> None:
    told = tmp_path / "map.yaml"
    told.write_text(text)
    with pytest.raises(UsageError, match=r"map\.yaml: not YAML"):
        read_layout(told)


@pytest.mark.parametrize("mark", ['"', "\n", "\x1f", "é", "a", "7"])
def test_a_delimiter_that_cannot_cut_fields(tmp_path: Path, mark: str) -> None:
    told = tmp_path / "map.yaml"
    told.write_text(f"columns: {{{PLAIN}}}\ndelimiter: {json.dumps(mark)}\n")
    with pytest.raises(UsageError, match=r"map\.yaml: delimiter"):
        read_layout(told)


def test_rows_that_all_have_other_fields_than_the_header_are_counted(path: Path) -> None:
    path.write_bytes(TABLE.splitlines()[0] + b"\n" + b"1,2,3\n" * 4)
    with pytest.raises(GeodiffError, match=r"no fix among 4 rows: other number of fields than the header 4 \(rows 2,"):
        read_fixes(path)


def test_a_recording_of_static_data_alone_holds_no_position(path: Path) -> None:
    path.write_text("\n".join(message(msg_type=5, mmsi=244_660_274, shipname="A")) + "\n")
    with pytest.raises(GeodiffError, match="no fix among 2 rows: none of them holds a position") as caught:
        read_fixes(path)
    assert caught.value.exit_code == 1
