"""The one place where errors become a line on stderr and an exit code.

0: done. 1: input, network or disk failed. 2: the command itself is wrong. 130: stopped with Ctrl-C.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from geodiff.schema import GeodiffError, printable, public

STOPPED = 130
_DEBUG = "--debug"


class TeachingGroup(TyperGroup):
    """A group of commands whose errors are one line; ``--debug`` may stand anywhere among the arguments."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, and end the process with an exit code."""
        tell_warnings_safely()
        words = list(sys.argv[1:] if args is None else args)
        debug = _DEBUG in words
        words = [_DEBUG] * debug + [word for word in words if word != _DEBUG]
        try:
            code = super().main(
                words, prog_name, complete_var, standalone_mode=False, windows_expand_args=windows_expand_args, **extra
            )
            if code == STOPPED:
                raise KeyboardInterrupt
        except BaseException as error:  # a panic in Rust comes as one that is no Exception
            if isinstance(error, SystemExit | GeneratorExit):
                raise
            if debug:
                typer.echo("\n".join(map(_safe, traceback.format_exc().splitlines())), err=True)
            _fail(error, prog_name or "geodiff", debug=debug)
        sys.exit(code if isinstance(code, int) else 0)


def _fail(error: BaseException, program: str, *, debug: bool) -> NoReturn:
    text, code = explain(error, program)
    unexpected = code == 1 and not isinstance(error, GeodiffError)
    hint = f" (unexpected; run again with {_DEBUG} to see where)" if unexpected and not debug else ""
    typer.echo(f"error: {text}{hint}" if code != STOPPED else text, err=True)
    sys.exit(code)


def explain(error: BaseException, program: str = "geodiff") -> tuple[str, int]:
    """What to tell of an error, in one line, and the exit code."""
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return "stopped; run the same command again to resume", STOPPED
    if isinstance(error, GeodiffError):
        return _line(str(error)), error.exit_code
    # Typer's own errors of parsing; their classes have moved between its versions, this method has not.
    spell = getattr(error, "format_message", None)
    if spell is not None:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else program
        return f"{_line(spell()).rstrip('.')}; see {command} --help", int(getattr(error, "exit_code", 2))
    if isinstance(error, MemoryError):
        return "out of memory: use fewer --workers, or a smaller region", 1
    if not isinstance(error, Exception):
        return f"a library failed within: {_line(str(error))}".removesuffix(": "), 1
    return f"{type(error).__name__}: {_line(str(error))}".removesuffix(": "), 1


def _line(text: str) -> str:
    return _safe(" ".join(text.split()))


def _safe(text: str) -> str:
    return printable(public(text))


class _SafeFormatter(logging.Formatter):
    """Messages name scenes and files, whose names were given by strangers."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The message alone, in one line."""
        return _line(record.message)


def tell_warnings_safely() -> None:
    """Have Python's handler of last resort, which writes warnings to stderr where nobody else does, pick its words."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_SafeFormatter())


@contextmanager
def finishing_regions() -> Iterator[None]:
    """Let Ctrl-C end a run after the regions at hand, and a second Ctrl-C end it at once.

    Ending at once is safe: regions count as done only when they are on the disk.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    count = 0

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        if count > 1:
            os.write(2, b"\nstopped; run the same command again to resume\n")
            os._exit(STOPPED)
        os.write(2, b"\nstopping after the regions at hand; press Ctrl-C again to stop at once\n")
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
