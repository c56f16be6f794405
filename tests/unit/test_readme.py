"""What the README says of the settings is what the settings are."""

from pathlib import Path

from app.cli.reference import settings_table

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_has_every_setting_with_its_default_and_meaning() -> None:
    assert (
        f"<!-- settings:begin -->\n{settings_table()}\n<!-- settings:end -->" in README.read_text()
    )
