"""Settings: what they accept, how they refuse, what their hash depends on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geodiff.config import (
    MaskConfig,
    SuperresConfig,
    TileConfig,
    canonical_json,
    catalogs_dir,
    config_hash,
    data_dir,
    read_yaml,
)
from geodiff.schema import UsageError

ASKED: dict[str, object] = {"catalog": "here", "bbox": (2.8, 42.3, 2.9, 42.4), "datetime": "2020-01-01/2020-06-30"}


def test_yaml_round_trip_keeps_every_value(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(
        "catalog: earth-search\ncollections: [sentinel-2-l2a]\nbbox: [2.8, 42.3, 2.9, 42.4]\n"
        "datetime: 2020-01-01/2020-06-30\ntarget: 2020-05-04\nmask: {dilation_m: 0}\ntile: {core: 64}\n"
    )
    settings = SuperresConfig.parse(read_yaml(file), where=str(file))
    assert settings.tile == TileConfig(core=64)
    assert settings.mask == MaskConfig(dilation_m=0)
    assert str(settings.target) == "2020-05-04"
    assert SuperresConfig.parse(json.loads(settings.to_json())) == settings


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ensmble": 4}, "run: unknown key 'ensmble', did you mean 'ensemble'?"),
        ({"tile": {"cor": 64}}, "run: unknown key 'tile.cor', did you mean 'core'?"),
        ({"max_dates": 33}, "max_dates: Input should be less than or equal to 32 (got 33)"),
        ({"ensemble": 0}, "ensemble: Input should be greater than or equal to 1 (got 0)"),
        ({"resolution_m": 0.001}, "resolution_m"),
        ({"format": "netcdf"}, "'zarr' or 'cog'"),
        ({"tile": {"core": 32, "feather": 20}}, "feather 20 is more than half of core 32"),
        ({"bbox": (42.3, 2.8, 42.4, 2.9), "region": {}}, "give one of bbox and region"),
        ({"bbox": (2.9, 42.3, 2.8, 42.4)}, "run: bbox"),
        ({"bbox": None}, "give one of bbox and region"),
        ({"target": "2020-05-04", "every": "10D"}, "give one of target and every"),
        ({"every": "10 days"}, "every"),
        ({"datetime": "2020-06-30/2020-01-01"}, "is reversed"),
        ({"bands": ["B02", "B02"]}, "a band is named twice"),
        ({"mask": {"scl_classes": [12]}}, "mask.scl_classes.0"),
        ({"catalog": None}, "catalog"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line_that_names_it(change: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError) as refusal:
        SuperresConfig.parse({**ASKED, **change}, where="run")
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(UsageError, match="key 'catalog' is missing"):
        SuperresConfig.parse({k: v for k, v in ASKED.items() if k != "catalog"})


@pytest.mark.parametrize(
    ("text", "said"),
    [("catalog: [", "not YAML in line"), ("- one\n", "holds list"), ("\t", "not YAML"), ("", "NoneType")],
)
def test_a_file_that_holds_no_settings_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=said) as refusal:
        SuperresConfig.parse(read_yaml(file), where=str(file))
    assert str(file) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_yaml(tmp_path / "none.yaml")


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        TileConfig().core = 64  # type: ignore[misc]


def test_the_hash_of_known_settings_never_changes() -> None:
    # Stored outputs are found again by this hash: a change of the canonical form would orphan all of them.
    assert canonical_json({"b": (1, 2.0), "a": {"z": None, "y": "é"}}) == '{"a":{"y":"é","z":null},"b":[1,2.0]}'
    assert config_hash(TileConfig()) == config_hash({"halo": 16, "feather": 8, "core": 128})
    assert config_hash(TileConfig()) == "b82c44eb6158b1cf"


@given(
    st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=4) | st.booleans(), min_size=2, max_size=5)
)
def test_the_hash_ignores_order_and_sees_every_value(values: dict[str, object]) -> None:
    assert config_hash(values) == config_hash(dict(reversed(values.items())))
    for key in values:
        assert config_hash({**values, key: [values[key]]}) != config_hash(values)


def test_equal_requests_written_differently_have_one_hash() -> None:
    spelled = SuperresConfig.parse({**ASKED, "bbox": [2.8, 42.3, 2.9, 42.4], "ensemble": "4", "tile": {"core": 128}})
    assert config_hash(spelled) == config_hash(SuperresConfig.parse(ASKED))
    assert config_hash(SuperresConfig.parse({**ASKED, "seed": 1})) != config_hash(spelled)


@pytest.mark.parametrize("value", [{1, 2}, {"a": {"b", "c"}}, {"a": float("nan")}, {"a": object()}])
def test_a_value_without_canonical_form_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        config_hash(value)


def test_the_data_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEODIFF_DATA", str(tmp_path))
    assert data_dir() == tmp_path.resolve()
    monkeypatch.setenv("GEODIFF_DATA", "")
    assert data_dir() is None
    monkeypatch.setenv("GEODIFF_DATA", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="not a folder"):
        data_dir()


def test_the_packaged_catalogs_are_found() -> None:
    assert (catalogs_dir() / "sources.yaml").is_file()
