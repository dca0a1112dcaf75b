"""Items of a YAML file of the policy, each checked and with its line. Only these readers need PyYAML."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from governance.policy_csv import PolicyError, in_words, text_of

if TYPE_CHECKING:
    import yaml

Item = TypeVar("Item", bound=BaseModel)
Lines = Mapping[str, int]  # field -> line


def read_items(
    path: Path, sections: Mapping[str, type[Item]], mappings: Collection[str] = ()
) -> Iterator[tuple[str, int, Lines, Item]]:
    """(section, line, line of each field, item) of every item of the lists that the file holds.

    A file of one section must hold it; of several, each may be left out. `mappings` are the fields in which another
    mapping stands. Raises PolicyError.
    """
    import yaml

    root = _composed(path)
    if root is None and len(sections) > 1:
        return
    missing = f"must hold a list called {' or '.join(sections)}"
    lists = _fields(path, root, missing) if root else {}
    if not lists:
        raise PolicyError(path.name, 1, missing)
    for section, listed in lists.items():
        if section not in sections or not isinstance(listed, yaml.SequenceNode):
            raise PolicyError(path.name, listed.start_mark.line + 1, missing)
        known = sections[section].model_fields
        for item in listed.value:
            fields = _fields(path, item, f"write `{'`, `'.join(f'{name}: …' for name in known)}`, each on its line")
            lines = {name: node.start_mark.line + 1 for name, node in fields.items()}
            lines |= {
                f"{name}.{index}": key.start_mark.line + 1
                for name, node in fields.items()
                if isinstance(node, yaml.MappingNode)
                for index, (key, _) in enumerate(node.value)
            }
            line = item.start_mark.line + 1
            given = {name: _value(path, node, name in mappings) for name, node in fields.items()}
            try:
                found = sections[section].model_validate(given)
            except ValidationError as error:
                fault = error.errors(include_url=False)[0]
                field, part = (".".join(map(str, fault["loc"][:depth])) for depth in (1, 2))
                reason = in_words(fault, _called(sections[section]))
                raise PolicyError(path.name, lines.get(part, lines.get(field, line)), reason) from None
            yield section, line, lines, found


def read_mapping(path: Path, of: type[Item]) -> Item:
    """The one mapping that a file is, its parts mappings or values.

    Raises PolicyError with the line of the field at fault.
    """
    import yaml

    root = _composed(path)
    if root is None:
        return of()
    lines, given = dict[str, int](), dict[str, Any]()
    for name, node in _fields(path, root, "`name: value` belongs here, each on its line").items():
        lines[name] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            parts = _fields(path, node, "")
            lines |= {f"{name}.{part}": value.start_mark.line + 1 for part, value in parts.items()}
            given[name] = {part: _or_null(path, value) for part, value in parts.items()}
        else:
            given[name] = _or_null(path, node)
    try:
        return of.model_validate(given)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        field, part = (".".join(map(str, fault["loc"][:depth])) for depth in (1, 2))
        inside = len(fault["loc"]) > 1 and isinstance(fault["loc"][1], str)  # a part, not a place in a list
        told = {**fault, "loc": fault["loc"][1:]} if inside else fault
        reason = in_words(told, field if inside else _called(of))
        raise PolicyError(path.name, lines.get(part, lines.get(field, 1)), reason) from None


def _composed(path: Path) -> yaml.Node | None:
    """The document, or None where there is none. Raises PolicyError on what is not YAML."""
    import yaml

    try:
        return yaml.compose(text_of(path), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # ten times as fast
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise PolicyError(path.name, line, error.problem or "is not YAML") from None
    except yaml.YAMLError:
        raise PolicyError(path.name, 1, "is not YAML: it holds a character that YAML forbids") from None


def _or_null(path: Path, node: yaml.Node) -> Any:
    """As `_value`, but a null is one: it switches off what has a default."""
    return None if node.tag == "tag:yaml.org,2002:null" else _value(path, node, False)


def _called(item: type[BaseModel]) -> str:
    name = item.__name__.lower()
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _fields(path: Path, node: yaml.Node, otherwise: str) -> dict[str, yaml.Node]:
    """The fields of a mapping, each once: YAML itself would silently keep the last of two."""
    import yaml

    if not isinstance(node, yaml.MappingNode):
        raise PolicyError(path.name, node.start_mark.line + 1, otherwise)
    fields: dict[str, yaml.Node] = {}
    for name, value in node.value:
        if not isinstance(name, yaml.ScalarNode):
            raise PolicyError(path.name, name.start_mark.line + 1, "the name of a field is one word")
        if name.value in fields:
            raise PolicyError(path.name, name.start_mark.line + 1, f"{name.value} is given twice")
        fields[name.value] = value
    return fields


def _value(path: Path, node: yaml.Node, mapping: bool) -> Any:
    """What was written, as text (so that 0.1 stays 0.1 and a team may be called On), or a list or a mapping of such."""
    import yaml

    if isinstance(node, yaml.ScalarNode):
        return node.value
    if isinstance(node, yaml.SequenceNode) and all(isinstance(part, yaml.ScalarNode) for part in node.value):
        return [part.value for part in node.value]
    if mapping:
        fields = _fields(path, node, "`name: value`, one or several, belong here")
        return {name: _value(path, value, False) for name, value in fields.items()}
    raise PolicyError(path.name, node.start_mark.line + 1, "one value or a list of values belongs here")
