"""What the README says of the settings is what the settings are."""

from datetime import timedelta
from pathlib import Path

from pydantic_core import to_jsonable_python

from app.settings import Settings, variable

README = Path(__file__).parents[2] / "README.md"


def settings_table() -> str:
    """The configuration table as the settings make it."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.is_required() or field.default is None else field.default
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


def test_the_readme_has_every_setting_with_its_default_and_meaning() -> None:
    assert (
        f"<!-- settings:begin -->\n{settings_table()}\n<!-- settings:end -->" in README.read_text()
    )
