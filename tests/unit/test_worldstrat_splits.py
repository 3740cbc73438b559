"""The splits of WorldStrat: as published, and one that nothing leaks through."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geodiff.imagery import worldstrat_splits as splits
from geodiff.imagery.worldstrat_layout import Layout, parent_of
from geodiff.imagery.worldstrat_splits import (
    PARTS,
    SplitRow,
    clean_split,
    published_split,
    read_split,
    read_split_rows,
    sites_of,
)
from geodiff.schema import GeodiffError, UsageError
from geodiff.testing.worldstrat_files import CLASSES, write_split


def full_size() -> list[SplitRow]:
    """Rows like those of the publication: 3,928 places, 549 of them 3 x 3 tiles of 61 orders, and repetitions."""
    tiled = [
        f"{order}-{x}-{y}"
        for order in (*(f"ASMSpotter-{i}" for i in range(1, 40)), *(f"Amnesty POI-{i}" for i in range(1, 23)))
        for x in (1, 2, 3)
        for y in (1, 2, 3)
    ]
    single = [*(f"UNHCR-NGAs{i:06d}" for i in range(979)), *(f"Landcover-{i}" for i in range(2400))]
    rows = []
    for number, name in enumerate([*tiled, *single]):
        cover = CLASSES[(number // 9 if number < len(tiled) else number // 10) % len(CLASSES)]
        part = "train" if number % 10 < 8 else "val" if number % 10 == 8 else "test"
        rows.append(SplitRow(name, f"{name.split('-')[0]}/{cover}/11", cover, part))
    moved = [SplitRow(row.aoi, row.stratum, row.cover, "train") for row in rows[9::97][:11]]
    return [*rows, *rows[:200:8], *moved]


def nothing_crosses(rows: list[SplitRow], where: dict[str, tuple[float, float]] | None = None) -> None:
    split = clean_split(rows, splits.sites_of([row.aoi for row in rows], where or {}))
    assert set(split.parts) == {row.aoi for row in rows}
    parents: dict[str, set[str]] = {}
    for aoi, part in split.parts.items():
        parents.setdefault(aoi.rsplit("-", 2)[0] if aoi.startswith(("ASM", "Amn")) else aoi, set()).add(part)
    assert all(len(parts) == 1 for parts in parents.values())


@pytest.mark.parametrize(
    ("name", "parent"),
    [
        ("ASMSpotter-17-2-2", "ASMSpotter-17"),
        ("Amnesty POI-20-1-3", "Amnesty POI-20"),
        ("UNHCR-GRCs035302", "UNHCR-GRCs035302"),
        ("Landcover-769876", "Landcover-769876"),
        ("testing on one Amnesty POI", "testing on one Amnesty POI"),
        ("Landcover-12-3-4", "Landcover-12-3-4"),
        ("ASMSpotter-1-1-1", "ASMSpotter-1"),
        ("ASMSpotter-11-1-1", "ASMSpotter-11"),
    ],
)
def test_names_tell_the_order_that_a_place_was_cut_from(name: str, parent: str) -> None:
    assert parent_of(name) == parent


def test_the_published_split_is_told_as_it_is() -> None:
    rows = full_size()
    split = published_split(rows, sites_of([row.aoi for row in rows], {}))
    assert len(split.parts) == 3928
    assert sum(split.repeated.values()) - len(split.repeated) == len(rows) - 3928 == 36
    assert split.torn
    assert all(split.parts[aoi] == "train" for aoi in split.torn)
    assert split.leaks()


def test_no_sibling_crosses_the_clean_split() -> None:
    rows = full_size()
    nothing_crosses(rows)
    split = clean_split(rows, sites_of([row.aoi for row in rows], {}))
    assert split.leaks() == {}
    published = published_split(rows, split.sites)
    size = Counter(split.sites.values())
    for aoi, part in split.parts.items():
        if size[split.sites[aoi]] == 1:
            assert part == published.parts[aoi]


@pytest.mark.parametrize("mutant", ["names", "deal", "prefix"])
def test_a_sibling_across_the_clean_split_is_noticed(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = full_size()
    if mutant == "names":
        monkeypatch.setattr(splits, "parent_of", lambda aoi: aoi)
    elif mutant == "prefix":  # the last number taken for the tile alone
        monkeypatch.setattr(splits, "parent_of", lambda aoi: aoi.rsplit("-", 1)[0] if aoi.count("-") > 2 else aoi)
    else:
        monkeypatch.setattr(f"{__name__}.clean_split", published_split)
    with pytest.raises(AssertionError):
        nothing_crosses(rows)


def test_the_clean_split_keeps_the_proportions() -> None:
    rows = full_size()
    sites = sites_of([row.aoi for row in rows], {})
    published, clean = published_split(rows, sites), clean_split(rows, sites)
    cover = {row.aoi: row.cover for row in rows}
    for part in PARTS:
        wanted, got = len(published.aois(part)), len(clean.aois(part))
        assert abs(got - wanted) <= 12, (part, wanted, got)
        for source in ("ASMSpotter", "Amnesty POI", "UNHCR", "Landcover"):
            was = sum(aoi.startswith(source) for aoi in published.aois(part))
            now = sum(aoi.startswith(source) for aoi in clean.aois(part))
            assert abs(now - was) <= 0.1 * was + 9, (part, source, was, now)
        before, after = (Counter(cover[aoi] for aoi in split.aois(part)) for split in (published, clean))
        for name in CLASSES:
            assert abs(after[name] / got - before[name] / wanted) < 0.03  # nine places of 390 are 0.023


def test_the_clean_split_does_not_depend_on_the_order_of_rows() -> None:
    rows = full_size()
    sites = sites_of([row.aoi for row in rows], {})
    assert clean_split(rows, sites).parts == clean_split(rows[::-1], sites).parts


PLACES = st.sampled_from(["ASMSpotter-1", "ASMSpotter-11", "Amnesty POI-1", "Landcover-7", "UNHCR-X1", "Landcover-8"])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.builds(
            lambda order, x, y, part, cover: SplitRow(
                f"{order}-{x}-{y}" if order.startswith("A") else order, f"s/{cover}/11", cover, part
            ),
            PLACES,
            st.integers(1, 3),
            st.integers(1, 3),
            st.sampled_from(PARTS),
            st.sampled_from(CLASSES),
        ),
        min_size=1,
        max_size=40,
    ),
    st.dictionaries(st.sampled_from(["Landcover-7", "UNHCR-X1", "Landcover-8"]), st.just((7.0, 51.0))),
)
def test_every_place_is_in_one_part_and_every_site_too(
    rows: list[SplitRow], where: dict[str, tuple[float, float]]
) -> None:
    nothing_crosses(rows, where)
    split = clean_split(rows, sites_of([row.aoi for row in rows], where))
    assert split.leaks() == {}
    near = {split.parts[aoi] for aoi in where if aoi in split.parts}
    assert len(near) <= 1


def test_places_that_overlap_are_one_site() -> None:
    where = {
        "UNHCR-A1": (10.0, 0.0),
        "UNHCR-A2": (10.02, 0.0),  # 2.2 km
        "UNHCR-A3": (10.04, 0.0),  # near the second alone
        "Landcover-5": (10.08, 0.0),  # 4.4 km further
        "UNHCR-E": (179.995, 60.0),
        "UNHCR-W": (-179.995, 60.0),
        "ASMSpotter-3-1-1": (10.045, 0.001),
    }
    found = sites_of([*where, "ASMSpotter-3-3-3"], where)
    assert len({found[a] for a in ("UNHCR-A1", "UNHCR-A2", "UNHCR-A3", "ASMSpotter-3-1-1", "ASMSpotter-3-3-3")}) == 1
    assert found["UNHCR-E"] == found["UNHCR-W"]
    assert len(set(found.values())) == 3


def test_the_file_is_read_with_its_defects(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    rows = [
        ("Landcover-1", "Water", "11", "Landcover", "test"),
        ("Landcover-1", "Water", "11", "Landcover", "val"),
        ("Landcover-2", "", "30", "Landcover", "val"),
        ("Landcover-2", "", "30", "Landcover", "val"),
    ]
    write_split(layout.root / "stratified_train_val_test_split.csv", rows)
    assert [row.part for row in read_split_rows(layout)] == ["test", "val", "val", "val"]
    split = read_split(layout, "clean")
    assert split.parts == {"Landcover-1": "val", "Landcover-2": "val"}
    assert split.repeated == {"Landcover-1": 2, "Landcover-2": 2}
    assert split.torn == ("Landcover-1",)
    assert read_split_rows(layout)[2].cover == "unknown"
    with pytest.raises(UsageError, match="unknown split"):
        read_split(layout, "random")
    with pytest.raises(UsageError, match="unknown part"):
        split.aois("all")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot read"),
        ("tile,split\n", "lacks rows"),
        ("tile,part\nLandcover-1,train\n", "lacks the column 'split'"),
        ("tile,split\nLandcover-1,holdout\n", "names a part 'holdout'"),
        ("tile,split\n,train\n", "lacks a tile"),
    ],
)
def test_a_broken_file_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "stratified_train_val_test_split.csv").write_text(text)
    with pytest.raises(GeodiffError, match=message):
        read_split(Layout(tmp_path))
    with pytest.raises(GeodiffError, match="missing"):
        read_split(Layout(tmp_path / "elsewhere"))
