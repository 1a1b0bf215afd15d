"""Recipes: what is accepted, what is refused, and in which words."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from genie_lite.config import Config, dump, load, parse
from genie_lite.errors import UserError


class Learned(Config):
    kind: Literal["learned"] = "learned"
    num_codes: int = 8
    decay: float = 0.99


class Fixed(Config):
    kind: Literal["fixed"] = "fixed"
    levels: tuple[int, ...] = (8, 5)


class Model(Config):
    frame_hw: tuple[int, int] = (64, 64)
    width: int = 256
    code: Annotated[Learned | Fixed, Field(discriminator="kind")] = Learned()


class Small(Config):
    name: str
    lr: float = 3e-4
    note: str | None = None
    model: Model = Model()
    trainer: dict[str, int | float | str | bool | None] = {}


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False)
codes = st.builds(Learned, num_codes=st.integers(), decay=numbers) | st.builds(
    Fixed, levels=st.lists(st.integers(), max_size=4).map(tuple)
)
recipes = st.builds(
    Small,
    name=texts,
    lr=numbers,
    note=texts | st.none(),
    model=st.builds(Model, frame_hw=st.tuples(st.integers(), st.integers()), width=st.integers(), code=codes),
    trainer=st.dictionaries(texts, st.integers() | st.booleans() | texts | st.none(), max_size=3),
)


@given(recipes)
def test_what_is_dumped_loads_again_as_the_same(
    tmp_path_factory: pytest.TempPathFactory, recipe: Small
) -> None:
    path = write(tmp_path_factory.mktemp("recipes"), dump(recipe))
    assert load(path, Small) == recipe


def test_overrides_reach_into_sections_and_make_missing_ones(tmp_path: Path) -> None:
    path = write(tmp_path, "name: one\n")
    loaded = load(
        path,
        Small,
        [
            "model.code.kind=learned",
            "model.code.num_codes=16",
            "model.frame_hw=[32, 48]",
            "name=two",
            "note=null",
        ],
    )
    assert loaded == Small(name="two", model=Model(frame_hw=(32, 48), code=Learned(num_codes=16)))


SIZES = """
size: small
name: base
lr: 1.0
model: {width: 8, frame_hw: [8, 8]}
sizes:
  small: {}
  large: {name: big, model: {width: 64, code: {kind: fixed, levels: [4]}}}
"""


def test_a_size_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    path = write(tmp_path, SIZES)
    assert load(path, Small) == Small(name="base", lr=1.0, model=Model(width=8, frame_hw=(8, 8)))
    large = Model(width=64, frame_hw=(8, 8), code=Fixed(levels=(4,)))
    assert load(path, Small, ["size=large"]) == Small(name="big", lr=1.0, model=large)


def test_a_change_of_ones_own_wins_over_the_size_wherever_it_stands(tmp_path: Path) -> None:
    path = write(tmp_path, SIZES)
    for overrides in (["size=large", "model.width=3"], ["model.width=3", "size=large"]):
        loaded = load(path, Small, overrides)
        assert (loaded.name, loaded.model.width) == ("big", 3)


def test_a_variant_is_chosen_by_its_kind(tmp_path: Path) -> None:
    path = write(tmp_path, "name: one\nmodel: {code: {kind: fixed, levels: [4, 4]}}\n")
    assert load(path, Small).model.code == Fixed(levels=(4, 4))


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Model().width = 3  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("text", "overrides", "words"),
    [
        ("name: a\nnmae: b\n", [], "unknown key 'nmae', did you mean 'name'?"),
        ("nmae: a\n", [], "unknown key 'nmae', did you mean 'name'?"),
        ("name: a\nmodel: {widht: 3}\n", [], "model: unknown key 'widht', did you mean 'width'?"),
        ("name: a\nmodel: {zzz: 3}\n", [], "model: unknown key 'zzz', valid keys: frame_hw, width, code"),
        (
            "name: a\nmodel: {code: {kind: fixed, level: [1]}}\n",
            [],
            "model.code: unknown key 'level', did you mean 'levels'?",
        ),
        ("name: a\nmodel: {code: {kind: learnt}}\n", [], "model.code: kind: found 'learnt', expected one of"),
        ("name: a\nmodel: {code: {num_codes: 3}}\n", [], "model.code: needs kind: one of learned, fixed"),
        ("name: a\nlr: 3e-4\n", [], "lr: '3e-4' is text; YAML 1.1 needs a dot and a sign: write 3.0e-4"),
        ("name: a\nlr: fast\n", [], "lr: found 'fast'"),
        ("name: a\nmodel: {width: '8'}\n", [], "model.width: found '8'"),
        ("lr: 1.0\n", [], "name: missing"),
        ("name: 2024-01-01\n", [], "quote the value"),
        ("- a\n", [], "expected a mapping of keys at the top, found list"),
        ("name: [a\n", [], "not valid YAML"),
        ("name: 2024-13-45\n", [], "not valid YAML: month must be in 1..12"),
        ("name: a\n", ["name=2024-13-45"], "override 'name=2024-13-45': the value is not valid YAML"),
        ("name: a\nlr: .inf\n", [], "lr: found inf; expected a finite number"),
        (
            "name: a\nmodel: {frame_hw: [1, 2, 3]}\n",
            [],
            "frame_hw: found [1, 2, 3]; expected at most 2 of them",
        ),
        ("name: a\n", ["lr"], "override 'lr': expected key=value"),
        ("name: a\n", ["lr.deep=1"], "lr"),
        ("name: a\nlr: 1.0\n", ["lr.deep=1"], "override 'lr.deep=1': lr is a value, not a section"),
        (SIZES, ["size=huge"], "size: found 'huge', expected one of small, large"),
        ("name: a\nsizes: {small: {}}\n", [], "size: found None, expected one of small"),
        ("name: a\nsize: s\nsizes: {s: 3}\n", [], "sizes: expected a mapping from the name of a size"),
        ("name: a\n", ["size=small"], "comes in one size only"),
        ("name: a\nsize: small\n", [], "unknown key 'size'"),
        ("name: a\n", ["name=[a"], "override 'name=[a': the value is not valid YAML"),
    ],
)
def test_a_mistake_is_told_in_one_line(tmp_path: Path, text: str, overrides: list[str], words: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UserError) as caught:
        load(path, Small, overrides)
    message = str(caught.value)
    assert words in message
    assert "\n" not in message
    assert message.startswith((str(path), "override"))


def test_a_recipe_in_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes("name: Käfer\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"recipe\.yaml: not UTF-8 text from byte 7 on; save it as UTF-8"):
        load(path, Small)
    path.write_bytes("name: Käfer\n".encode())
    assert load(path, Small).name == "Käfer"


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.yaml: no such recipe"):
        load(tmp_path / "nowhere.yaml", Small)


def test_a_plain_tree_is_checked_in_the_same_way() -> None:
    assert parse({"name": "a", "model": {"frame_hw": [8, 8]}}, Small, "here").model.frame_hw == (8, 8)
    with pytest.raises(UserError, match="here: model: unknown key 'with', did you mean 'width'"):
        parse({"name": "a", "model": {"with": 3}}, Small, "here")
