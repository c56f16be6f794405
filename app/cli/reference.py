"""`sluice reference`: the page that lists every operation and every setting, written from the code.

docs/reference.md is what this prints, and a test fails when it is not.
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from itertools import groupby
from typing import Any, Final

from pydantic_core import to_jsonable_python

from app.settings import Settings, variable

_HEAD: Final = """\
<!-- Made by `sluice reference` from the code. -->

# Reference

Every operation, by subject, with the scope that it needs, and every setting of the service. The
schemas of requests and answers are at `/docs` of a running service and in its `/openapi.json`, from
which clients are generated.
"""
_OPEN: Final = "none: open to all"
_ANY: Final = "any key"


def reference() -> None:
    """Print the page of all operations and settings, in Markdown."""
    from app.http.openapi import document  # noqa: PLC0415 - as in `cli.openapi`
    from app.main import create_app  # noqa: PLC0415

    application = create_app(Settings(database_url="postgresql://localhost/sluice"))
    print(page(document(application)), end="")


def page(document: Mapping[str, Any]) -> str:
    """The page, of an application that this OpenAPI document describes."""
    parts = [_HEAD, *_operations(document), "## Settings\n", settings_table() + "\n"]
    return "\n".join(parts)


def settings_table() -> str:
    """Every setting with its default and meaning; it stands in the README too."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default: Any = "" if field.is_required() or field.default is None else field.default
        if field.default_factory is not None:
            default = ""
        written = {True: "1", False: "0"}.get(default, str(default))
        if isinstance(default, timedelta):
            written = to_jsonable_python(default)
        if isinstance(default, tuple):
            written = " ".join(default)
        rows.append(
            f"| `{variable(name)}` | {f'`{written}`' if written else ''} | {field.description} |"
        )
    return "\n".join(rows)


def _operations(document: Mapping[str, Any]) -> Iterator[str]:
    found = [
        (operation["tags"][0], path, method, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]
    order = [tag["name"] for tag in document["tags"]]
    found.sort(key=lambda each: order.index(each[0]))  # stable: by path within a tag
    described = {tag["name"]: tag["description"] for tag in document["tags"]}
    for tag, members in groupby(found, key=lambda each: each[0]):
        rows = (
            f"| `{method.upper()} {path}` | {_scopes(operation)} | {_does(operation)} |"
            for _, path, method, operation in members
        )
        table = ("| operation | scope | what it does |", "|---|---|---|", *rows)
        yield f"## {tag.capitalize()}\n\n{described[tag]}\n\n" + "\n".join(table) + "\n"


def _scopes(operation: Mapping[str, Any]) -> str:
    if not operation["security"]:
        return _OPEN
    scopes = sorted({scope for way in operation["security"] for scope in next(iter(way.values()))})
    return ", ".join(f"`{scope}`" for scope in scopes) or _ANY


def _does(operation: Mapping[str, Any]) -> str:
    """The first paragraph of its description, on one line of a table."""
    first = operation["description"].partition("\n\n")[0]
    return " ".join(first.split()).replace("|", "\\|")
