"""Coverage-guided fuzzing of the readers of fixes with atheris; not part of the test suite, which does not collect it.

python tests/fuzz/fuzz_readers.py table -max_total_time=300 -timeout=20 -rss_limit_mb=2048 CORPUS

The first word names a target of ``geodiff.testing.tracks_hostile`` (table, nmea, radar, map); the others go to
libFuzzer. An empty corpus folder is filled with the target's seeds. A file that libFuzzer leaves (crash-*, timeout-*,
oom-*) is a finding: give it in place of the corpus to see it again, and keep it as a unit test.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path


def main(words: list[str]) -> None:
    """Fuzz until something is found or the time is over."""
    try:
        import atheris
    except ImportError:
        sys.exit("fuzzing needs the package atheris: pip install atheris (Linux, Python 3.11 to 3.13)")
    with atheris.instrument_imports(include=["geodiff.vessels", "geodiff.config", "zipfile", "gzip", "json"]):
        from geodiff.testing.tracks_hostile import TARGETS, seeds
    if not words or words[0] not in TARGETS:
        sys.exit(f"name what to fuzz: {', '.join(TARGETS)}")
    name, target = words[0], TARGETS[words[0]]
    for corpus in (Path(word) for word in words[1:] if not word.startswith("-")):
        if corpus.is_dir() and not any(corpus.iterdir()):
            for number, seed in enumerate(seeds()[name]):
                (corpus / f"seed-{number:02d}").write_bytes(seed)
    with tempfile.TemporaryDirectory(prefix="geodiff-fuzz-") as folder:
        atheris.Setup([sys.argv[0], *words[1:]], lambda data: target(data, Path(folder)))
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
