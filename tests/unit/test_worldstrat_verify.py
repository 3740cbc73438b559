"""``geodiff worldstrat verify`` and ``describe`` on small trees with known defects."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import geodiff.cli
from geodiff.imagery.worldstrat_layout import METADATA_CSV, SPLIT_CSV, Layout
from geodiff.imagery.worldstrat_verify import Verification, verify_tree
from geodiff.testing.worldstrat import AoiTruth, WorldStratSpec, make_worldstrat
from geodiff.testing.worldstrat_files import corrupt, crop, truncate

TILE, SIBLING, SINGLE = "Amnesty POI-20-1-3", "Amnesty POI-20-2-1", "Landcover-769876"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, AoiTruth]]:
    root = tmp_path_factory.mktemp("made") / "worldstrat"
    spec = WorldStratSpec(
        aois=(TILE, SIBLING, SINGLE),
        revisits=3,
        size_px=30,
        parts={SIBLING: "test"},
        duplicates=((SINGLE, "val"), (TILE, "train")),
    )
    return root, make_worldstrat(root, spec)


@pytest.fixture
def layout(made: tuple[Path, dict[str, AoiTruth]], tmp_path: Path) -> Layout:
    """A copy that a test may break."""
    shutil.copytree(made[0], tmp_path / "copy")
    return Layout(tmp_path / "copy")


def run(*words: object) -> Result:
    return CliRunner().invoke(geodiff.cli.app, ["worldstrat", *map(str, words)], prog_name="geodiff")


def listed(result: Verification) -> set[tuple[str, str]]:
    return {(found.kind, Path(found.path).name) for found in result.problems}


def test_a_whole_tree_is_whole(made: tuple[Path, dict[str, AoiTruth]]) -> None:
    told: list[tuple[int, int]] = []
    result = verify_tree(made[0], progress=lambda done, total: told.append((done, total)))
    assert result.problems == ()
    assert [(found.kind, Path(found.path).name) for found in result.findings] == [("note", SPLIT_CSV)]
    assert "repeats 2 rows, 1 of the places in several parts" in result.findings[0].what
    assert result.aois == 3
    assert result.files == 3 * (4 + 2 * 3 * 9)
    assert told == [(1, 3), (2, 3), (3, 3)]
    done = run("verify", made[0])
    assert done.exit_code == 0
    assert "3 places, 174 files, nothing wrong" in done.stdout


Break = Callable[[Layout], Path]
DEFECTS: dict[str, tuple[str, Break]] = {
    "lr data missing": ("missing", lambda x: _gone(x.lr_file(TILE, "L2A", 2, "data"))),
    "mask missing": ("missing", lambda x: _gone(x.lr_file(SIBLING, "L1C", 1, "CLP"))),
    "angle missing": ("missing", lambda x: _gone(x.lr_file(SINGLE, "L2A", 3, "sunAzimuthAngles"))),
    "facts missing": ("missing", lambda x: _gone(x.lr_file(SINGLE, "L2A", 3, "metadata"))),
    "hr missing": ("missing", lambda x: _gone(x.hr_file(SINGLE, "rgbn"))),
    "picture missing": ("missing", lambda x: _gone(x.hr_file(SINGLE, "rgb"))),
    "level missing": ("missing", lambda x: _gone(x.lr_folder(SIBLING, "L1C"))),
    "lr folder missing": ("missing", lambda x: _gone(x.lr / SIBLING)),
    "hr folder missing": ("missing", lambda x: _gone(x.hr / TILE)),
    "split missing": ("missing", lambda x: _gone(x.root / SPLIT_CSV)),
    "metadata missing": ("missing", lambda x: _gone(x.root / METADATA_CSV)),
    "lr truncated": ("truncated", lambda x: truncate(x.lr_file(TILE, "L2A", 1, "data"), 0.7)),
    "mask truncated": ("truncated", lambda x: truncate(x.lr_file(TILE, "L1C", 1, "dataMask"), 0.7)),
    "hr truncated": ("truncated", lambda x: truncate(x.hr_file(TILE, "ps"), 0.9)),
    "pan truncated": ("truncated", lambda x: truncate(x.hr_file(TILE, "pan"), 0.5)),
    "picture truncated": ("truncated", lambda x: truncate(x.hr_file(TILE, "rgb"), 0.5)),
    "lr corrupt": ("corrupt", lambda x: corrupt(x.lr_file(TILE, "L2A", 1, "data"))),
    "hr empty": ("corrupt", lambda x: truncate(x.hr_file(SIBLING, "ps"), 0.0)),
    "facts corrupt": ("corrupt", lambda x: truncate(x.lr_file(SINGLE, "L1C", 2, "metadata"), 0.5)),
    "split corrupt": ("table", lambda x: corrupt(x.root / SPLIT_CSV)),
    "mask mis-sized": ("mis-sized", lambda x: crop(x.lr_file(SINGLE, "L2A", 2, "CLM"), 1, 0)),
    "lr mis-sized": ("mis-sized", lambda x: crop(x.lr_file(SINGLE, "L2A", 2, "data"), 0, 3)),
    "hr mis-sized": ("mis-sized", lambda x: crop(x.hr_file(SINGLE, "ps"), 30, 30)),
    "unfinished": ("unfinished", lambda x: _left(x.lr_folder(TILE, "L2A") / "something.tiff.part")),
    "unfinished root": ("unfinished", lambda x: _left(x.root / "lr_dataset_l1c.zip.crdownload")),
}


def _gone(path: Path) -> Path:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    return path


def _left(path: Path) -> Path:
    path.write_bytes(b"half")
    return path


@pytest.mark.parametrize("defect", DEFECTS)
def test_each_defect_is_listed_and_nothing_else(layout: Layout, defect: str) -> None:
    kind, break_it = DEFECTS[defect]
    path = break_it(layout)
    assert listed(verify_tree(layout.root)) == {(kind, path.name)}


def test_all_defects_are_listed_at_once(layout: Layout) -> None:
    skipped = ("level missing", "lr folder missing", "hr folder missing", "facts missing")
    want = set()
    for defect, (kind, break_it) in DEFECTS.items():
        if defect in skipped or defect.startswith(("split", "metadata")) or defect in ("lr corrupt", "hr mis-sized"):
            continue
        want.add((kind, break_it(layout).name))
    assert listed(verify_tree(layout.root)) == want
    done = run("verify", layout.root)
    assert done.exit_code == 1
    for _, name in want:
        assert name in done.stdout
    assert f"{len(want)} problems in " in done.stderr


def test_a_tree_is_made_with_the_defects_that_are_asked_for(tmp_path: Path) -> None:
    spec = WorldStratSpec(
        aois=(TILE, SINGLE),
        revisits=2,
        size_px=24,
        levels=("L2A",),
        angles=False,
        broken=(("truncated", TILE, "L2A", 1, "data"), ("missing", SINGLE, "L2A", 2, "CLP")),
        broken_high=(("corrupt", TILE, "pan"), ("mis-sized", SINGLE, "ps")),
    )
    make_worldstrat(tmp_path, spec)
    found = {(kind, re.sub(r"\.\w+$", "", name)[-4:]) for kind, name in listed(verify_tree(tmp_path))}
    assert found == {("truncated", "data"), ("missing", "-CLP"), ("corrupt", "_pan"), ("mis-sized", "6_ps")}


def test_processes_find_the_same(layout: Layout) -> None:
    DEFECTS["hr truncated"][1](layout)
    DEFECTS["angle missing"][1](layout)
    assert verify_tree(layout.root, workers=2) == verify_tree(layout.root)


def test_a_whole_revisit_that_is_gone_is_listed_file_by_file(layout: Layout) -> None:
    for path in layout.lr_folder(SINGLE, "L2A").glob(f"{SINGLE}-2*"):
        path.unlink()
    result = verify_tree(layout.root)
    assert len(result.problems) == 9
    assert {found.kind for found in result.problems} == {"missing"}


def test_a_revisit_that_was_never_published_is_a_note(tmp_path: Path) -> None:
    spec = WorldStratSpec(aois=(TILE, SIBLING, SINGLE), revisits=2, size_px=24, levels=("L2A",), angles=False)
    make_worldstrat(tmp_path, spec)
    layout = Layout(tmp_path)
    for path in layout.lr_folder(SINGLE, "L2A").glob(f"{SINGLE}-2*"):
        path.unlink()
    metadata = tmp_path / METADATA_CSV
    metadata.write_text(
        "".join(line for line in metadata.read_text().splitlines(True) if not line.startswith(f"{SINGLE},2,"))
    )
    result = verify_tree(tmp_path)
    assert result.problems == ()
    assert any("metadata.csv knows of none" in found.what for found in result.findings)


def test_dates_that_disagree_with_the_table_are_a_note(layout: Layout) -> None:
    metadata = layout.root / METADATA_CSV
    metadata.write_text(
        re.sub(rf"^({SINGLE},1,[^,]*,[^,]*,)[^,]*", r"\g<1>1999-01-01", metadata.read_text(), flags=re.M)
    )
    result = verify_tree(layout.root)
    assert result.problems == ()
    assert sum("metadata.csv 1999-01-01" in found.what for found in result.findings) == 2


def test_a_wrong_root_is_one_line(layout: Layout) -> None:
    for wrong, hint in (
        (layout.root / "nowhere", "is not a folder"),
        (layout.hr, "is: give that"),
        (layout.root.parent, "is: give that"),
    ):
        done = run("verify", wrong)
        assert done.exit_code == 1
        assert hint in done.stdout
        assert "wrong root" in done.stdout
        assert "Traceback" not in done.stderr
    shutil.rmtree(layout.lr)
    assert "lacks lr_dataset" in run("verify", layout.root).stdout
    (layout.root / "lr_dataset_l2a.zip").write_bytes(b"PK")
    assert "holds lr_dataset_l2a.zip: unpack it there" in run("verify", layout.root).stdout


def test_quick_reads_no_pixels(layout: Layout) -> None:
    DEFECTS["lr truncated"][1](layout)
    DEFECTS["mask mis-sized"][1](layout)
    assert {kind for kind, _ in listed(verify_tree(layout.root, pixels=False))} == {"mis-sized"}


def test_the_card_tells_what_is_there(made: tuple[Path, dict[str, AoiTruth]], tmp_path: Path) -> None:
    root, truths = made
    done = run("describe", root, "--out", tmp_path / "card")
    assert done.exit_code == 0, done.stderr
    card = json.loads((tmp_path / "card" / "card.json").read_text())
    assert card["counts"]["places"] == 3
    assert card["counts"]["revisits_per_place"] == {"3": 3}
    assert card["failures"] == []
    assert card["splits"]["published"]["places_in_several_parts"] == [SINGLE]
    assert card["splits"]["published"]["test_places_with_a_sibling_in_train"] == 1
    assert card["splits"]["clean"]["sites_in_several_parts"] == {}
    assert card["siblings"]["sites_of_several_places"] == {"Amnesty POI-20": [TILE, SIBLING]}
    assert sum(card["strata"]["IPCC Class"].values()) == 3
    assert card["registration"]["trusted"] == 3
    assert card["registration"]["shift_down_px"]["median"] == pytest.approx(truths[TILE].shift_px[0], abs=0.04)
    assert card["radiometry"]["B08"]["gain"]["median"] == pytest.approx(truths[TILE].gains[3], rel=0.02)
    assert card["dates"]["days_to_high"]["count"] == 9
    assert 6.5 < card["sizes"]["ratio"]["min"] <= card["sizes"]["ratio"]["max"] < 6.8
    page = (tmp_path / "card" / "index.html").read_text()
    assert page.count("data:image/png;base64,") == 5
    assert "http" not in page
    assert not re.search(r"src=(?!\"data:)", page)


def test_the_card_lists_what_it_could_not_read(layout: Layout, tmp_path: Path) -> None:
    truncate(layout.hr_file(TILE, "ps"), 0.8)
    shutil.copy(layout.hr_file(SIBLING, "ps"), layout.hr_file(SINGLE, "ps"))
    (layout.root / SPLIT_CSV).unlink()
    done = run("describe", layout.root, "--out", tmp_path / "card", "--pairs", 0)
    assert done.exit_code == 0
    card = json.loads((tmp_path / "card" / "card.json").read_text())
    assert TILE in [failure["place"] for failure in card["failures"]]
    assert card["equal_images"] == [[SIBLING, SINGLE]]
    assert "missing" in card["split_problem"]
    assert run("describe", layout.hr, "--out", tmp_path / "x").exit_code == 1
