"""Files that appear whole or not at all, and locks of which there is one owner."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from geodiff.outputs.atomic import file_lock, replacing, write_bytes


def _write(path: Path, data: bytes) -> None:
    write_bytes(path, data)


def _replace(path: Path, data: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(data)


WRITERS = pytest.mark.parametrize("write", [_write, _replace])
Write = Callable[[Path, bytes], None]


@WRITERS
def test_data_reach_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Write) -> None:
    path, synced, moved = tmp_path / "a.bin", [], []
    fsync, move = os.fsync, os.replace

    def syncing(descriptor: int) -> None:
        fsync(descriptor)
        synced.append((os.fstat(descriptor).st_ino, os.fstat(descriptor).st_size))

    def moving(source: Path, target: Path) -> None:
        moved.append((os.stat(source).st_ino, os.stat(source).st_size) in synced)
        move(source, target)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(os, "replace", moving)
    write(path, b"new")
    assert moved == [True]
    assert path.read_bytes() == b"new"


@WRITERS
def test_a_write_that_fails_leaves_the_old_content_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Write
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write(path, b"new")
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("a.bin", b"old")]


def test_a_lock_on_a_file_that_lost_its_name_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waited on the file of an owner who left must not own beside the one who came with a new file."""
    path, flock, others = tmp_path / "lock", fcntl.flock, []

    def late(descriptor: int, how: int) -> None:
        flock(descriptor, how)
        if not others:  # between this lock and the look at the name
            path.unlink()
            others.append(os.open(path, os.O_RDWR | os.O_CREAT))
            flock(others[0], fcntl.LOCK_EX)

    monkeypatch.setattr(fcntl, "flock", late)
    with file_lock(path, wait=False) as owned:
        assert not owned
    os.close(others[0])
    with file_lock(path, wait=False) as owned:
        assert owned


def test_the_file_of_a_lock_goes_while_the_lock_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were it removed later, the name of the next owner's lock would go, and a third would own beside him."""
    path, unlink, taken = tmp_path / "lock", Path.unlink, []

    def removing(self: Path, missing_ok: bool = False) -> None:
        descriptor = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            taken.append(self)
        except BlockingIOError:
            pass
        os.close(descriptor)
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", removing)
    with file_lock(path, wait=True) as owned:
        assert owned
    assert taken == []
    assert not path.exists()
