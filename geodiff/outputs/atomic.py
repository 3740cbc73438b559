"""Files that appear whole or not at all, locks that die with their owner, and disk errors in plain words."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from polars.exceptions import ComputeError

from geodiff.schema import GeodiffError

_OS_ERROR = re.compile(r"\(os error (\d+)\)")
"""How polars tells the number of an error of the system: in words alone."""


def write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file so that a reader, or a run after a crash, sees either the old content or all of ``data``.

    When ``durable``, the data reach the disk before the name does: after a power cut there is no empty file under the
    final name.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: object) -> None:
    """Write ``value`` as indented JSON, atomically (see ``write_bytes``)."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> object | None:
    """Read a JSON file; None where it is absent, truncated, not JSON, or nested without end."""
    try:
        return json.loads(path.read_bytes())  # type: ignore[no-any-return]
    except (OSError, ValueError, RecursionError):
        return None


def remove_left(stem: Path) -> None:
    """Remove what processes that were killed left of files whose names begin so; nobody else may be writing them.

    Args:
        stem: beginning of the files, such as that of a run whose lock is held.
    """
    left = re.compile(rf"\.{re.escape(stem.name)}[^0-9A-Za-z].*[0-9a-f]{{32}}\b.*")
    for path in stem.parent.glob(".*"):
        if left.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Offer a temporary sibling to write to; it takes the name ``path`` when the block ends without an error.

    The temporary keeps the suffix of ``path``, so that writers that look at the suffix work.
    """
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}{path.suffix}")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file's content to the disk; an absent file is no error."""
    with suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def file_lock(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold an exclusive lock on ``path`` among processes of this machine; the kernel frees it if the owner dies.

    Args:
        path: the lock file; created here and removed on release.
        wait: wait for the present owner, or give up at once.

    Yields:
        True when the lock is held; False when another process holds it and ``wait`` is False.
    """
    descriptor = _acquire(path, wait=wait)
    if descriptor is None:
        yield False
        return
    try:
        yield True
    finally:
        # Removed while still held: whoever waits on the old file notices below that its name is gone.
        with suppress(OSError):
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(path: Path, *, wait: bool) -> int | None:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        with suppress(FileNotFoundError):
            if os.fstat(descriptor).st_ino == os.stat(path).st_ino:
                return descriptor
        os.close(descriptor)


@contextmanager
def explained(path: Path, *, needed: Callable[[], int] | None = None) -> Iterator[None]:
    """Turn the disk errors a user can act on into one line.

    Args:
        path: what is being written.
        needed: bytes that are still to be written, asked only when the disk is full.

    Raises:
        GeodiffError: disk full, quota reached, no permission, read-only file system, a file where a folder must be.
    """
    try:
        yield
    except (OSError, ComputeError) as error:
        number = _number(error)
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            more = f"up to {human_bytes(needed())} more are needed" if needed else "more space is needed"
            raise GeodiffError(
                f"disk full while writing {path}: {more}; free space and run the same command again, "
                "it resumes with what is finished"
            ) from error
        if number in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise GeodiffError(f"cannot write {path}: {os.strerror(number)}; choose another output folder") from error
        raise


def _number(error: OSError | ComputeError) -> int | None:
    """Of the system's error, 28 for a full disk; None where there is none."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    told = _OS_ERROR.search(str(error))
    return int(told[1]) if told else None


def human_bytes(count: int) -> str:
    """Spell a number of bytes for people: 1536000 is "1.5 MB"."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
