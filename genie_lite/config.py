"""Recipes: one complete YAML file, checked against frozen models, errors in one line.

`load(path, Schema, overrides)` is the only way from text to configuration. Everything strict lives
here; modules receive plain frozen objects and only read their attributes.
"""

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from genie_lite.errors import UserError


class Config(BaseModel):
    """Base of every configuration: immutable, its own numbers finite, and an unknown key is an error."""

    # What is handed on to others unread, such as a trainer's arguments, may hold infinities: they are written too.
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, ser_json_inf_nan="constants"
    )


ConfigT = TypeVar("ConfigT", bound=Config)

# What a bound expects, by the name of its error.
BOUNDS = {
    "greater_than_equal": "at least {ge:g}",
    "greater_than": "more than {gt:g}",
    "less_than_equal": "at most {le:g}",
    "less_than": "less than {lt:g}",
    "finite_number": "a finite number",
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
}


def load(path: Path, schema: type[ConfigT], overrides: Sequence[str] = ()) -> ConfigT:
    """Read a YAML file, choose its size, apply `key.path=value` overrides and validate.

    A file may hold one recipe in several sizes: under `sizes`, what each of them changes, and as `size` the one
    to take; see `choose_size`.

    Raises:
        UserError: missing file, not text, bad YAML, unknown key (with the nearest valid one), wrong value.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such recipe; expected a YAML file")
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text from byte {error.start} on; save it as UTF-8") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: what looks like a date and is none
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise UserError(f"{path}: expected a mapping of keys at the top, found {type(tree).__name__}")
    chosen = [each for each in overrides if each.partition("=")[0].strip() == "size"]
    others = [each for each in overrides if each not in chosen]
    if "sizes" in tree:
        tree = choose_size(override(tree, chosen), str(path))
    elif chosen:
        raise UserError(f"override '{chosen[0]}': {path} comes in one size only; remove it")
    return parse(override(tree, others), schema, str(path))


def choose_size(tree: dict[str, Any], where: str) -> dict[str, Any]:
    """The tree with what `sizes[size]` changes put over it, key by key, and without these two keys.

    Raises:
        UserError: no such size, or `sizes` is not a mapping of mappings.
    """
    rest = {key: value for key, value in tree.items() if key not in ("size", "sizes")}
    sizes, size = tree["sizes"], tree.get("size")
    if not isinstance(sizes, dict) or not all(isinstance(each, dict) for each in sizes.values()):
        raise UserError(f"{where}: sizes: expected a mapping from the name of a size to what it changes")
    if size not in sizes:
        raise UserError(f"{where}: size: found {size!r}, expected one of {', '.join(map(str, sizes))}")
    return _merge(rest, sizes[size])


def override(tree: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Apply `key.path=value` to a plain tree, in place, and return it; sections that are missing are made.

    Raises:
        UserError: an override without a key or without a value, or one that goes through a value.
    """
    for each in overrides:
        _set(tree, *_split(each), each)
    return tree


def parse(tree: dict[str, Any], schema: type[ConfigT], where: str) -> ConfigT:
    """Validate a plain tree. `where` begins every message, usually the file's path.

    Raises:
        UserError: the first thing that is wrong, in one line.
    """
    try:
        return schema.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        raise UserError(_explain(error, schema, where)) from error
    except TypeError as error:  # json.dumps met a date or another YAML type that recipes never hold
        raise UserError(f"{where}: {error}; quote the value") from error


def dump(config: Config) -> str:
    """The complete YAML text of a configuration; `load` of it gives the same configuration."""
    return yaml.safe_dump(json.loads(config.model_dump_json()), sort_keys=False)


def change(before: Mapping[str, Any], now: Mapping[str, Any], ignored: Set[str] = frozenset()) -> str | None:
    """The first setting in which two plain trees differ, in words; None where they agree.

    Args:
        before: one tree.
        now: the other.
        ignored: last parts of keys that make no difference.
    """
    old, new = dict(leaves(before)), dict(leaves(now))
    for key in sorted(old.keys() | new.keys()):
        if key.split(".")[-1] not in ignored and old.get(key) != new.get(key):
            return f"{key}={old.get(key)}, now it is {new.get(key)}"
    return None


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a tree of mappings, with its dotted key."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _merge(tree: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Mappings are merged, anything else is replaced."""
    merged = dict(tree)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _split(text: str) -> tuple[list[str], Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"override '{text}': expected key=value, such as lam.train.steps=100")
    try:
        return key.strip().split("."), yaml.safe_load(value)
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"override '{text}': the value is not valid YAML") from error


def _set(tree: dict[str, Any], keys: list[str], value: Any, text: str) -> None:
    for depth, key in enumerate(keys[:-1]):
        child = tree.setdefault(key, {})
        if child is None:
            child = tree[key] = {}
        if not isinstance(child, dict):
            raise UserError(f"override '{text}': {'.'.join(keys[: depth + 1])} is a value, not a section")
        tree = child
    tree[keys[-1]] = value


def _explain(error: ValidationError, schema: type[BaseModel], where: str) -> str:
    errors = error.errors()
    # A misspelt key shows up as an unknown key and often as a missing one too: name the misspelling.
    first = next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
    path, models = _walk(first["loc"], schema)
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        return _unknown_key(where, path, models)
    if first["type"] == "missing":
        return f"{where}: {key}: missing; add it to the recipe"
    if first["type"] == "union_tag_not_found":
        return f"{where}: {key}: needs kind: one of {', '.join(_kinds(models, path[-1]))}"
    if first["type"] == "union_tag_invalid":
        about = first.get("ctx", {})
        return f"{where}: {key}: kind: found {about['tag']!r}, expected one of {about['expected_tags']}"
    found = first.get("input")
    if first["type"] == "float_type" and isinstance(found, str) and _is_number(found):
        return (
            f"{where}: {key}: '{found}' is text; YAML 1.1 needs a dot and a sign: write {_yaml_number(found)}"
        )
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] in BOUNDS:
        message = f"expected {BOUNDS[first['type']].format(**first.get('ctx', {}))}"
    if first["type"] == "value_error" and isinstance(found, dict):
        # A section's own check: it says what it found, and quoting the whole section would bury that.
        return f"{where}: {key}: {message}" if key else f"{where}: {message}"
    return f"{where}: {key}: found {found!r}; {message}" if key else f"{where}: {message}"


def _unknown_key(where: str, path: list[str], models: list[type[BaseModel]]) -> str:
    section, key = ".".join(path[:-1]), path[-1]
    valid = [name for model in models for name in model.model_fields]
    near = difflib.get_close_matches(key, valid, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"valid keys: {', '.join(valid)}"
    return f"{where}: {section + ': ' if section else ''}unknown key '{key}', {hint}"


def _walk(loc: tuple[int | str, ...], schema: type[BaseModel]) -> tuple[list[str], list[type[BaseModel]]]:
    """Follow an error's location; drop the union tags in it; return the models its last key may sit in."""
    path: list[str] = []
    models: list[type[BaseModel]] = [schema]
    for position, part in enumerate(loc):
        tagged = [model for model in models if _tag(model) == part]
        if tagged and len(models) > 1:
            models = tagged
            continue
        path.append(str(part))
        if position == len(loc) - 1:
            break
        fields = [model.model_fields[str(part)] for model in models if str(part) in model.model_fields]
        if fields:
            models = [model for field in fields for model in _models_in(field.annotation)]
    return path, models


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _tag(model: type[BaseModel]) -> str | None:
    kind = model.model_fields.get("kind")
    return kind.default if kind is not None else None


def _kinds(models: list[type[BaseModel]], key: str) -> list[str]:
    annotations = [model.model_fields[key].annotation for model in models if key in model.model_fields]
    return [str(_tag(variant)) for annotation in annotations for variant in _models_in(annotation)]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _yaml_number(text: str) -> str:
    mantissa, _, exponent = text.lower().partition("e")
    mantissa = mantissa if "." in mantissa else f"{mantissa}.0"
    exponent = exponent if exponent[:1] in {"+", "-"} else f"+{exponent}"
    return f"{mantissa}e{exponent}"
