"""What is installed brings what it serves and runs: pages, the API's description, migrations."""

import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest

from app.http.guide import PAGES, mappings

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as `pip install` makes it."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (made,) = folder.glob("*.whl")
    return made


def test_the_wheel_holds_every_page_every_mapping_file_and_migration_and_the_description(
    wheel: Path,
) -> None:
    held = set(ZipFile(wheel).namelist())
    assert {f"app/_docs/{name}.md" for name in PAGES} <= held
    assert {f"app/_docs/imports/{name}" for name in mappings()} <= held
    revisions = {path.name for path in (ROOT / "migrations" / "versions").glob("*.py")}
    assert {f"app/_migrations/versions/{name}" for name in revisions} <= held
    assert ZipFile(wheel).read("app/_openapi.json") == (ROOT / "openapi.json").read_bytes()


def test_an_installed_service_finds_its_pages_and_its_description(
    wheel: Path, tmp_path: Path
) -> None:
    with ZipFile(wheel) as packed:
        packed.extractall(tmp_path)
    code = (
        "from app.http import contract, guide;"
        " print(guide.FOLDER, len(guide.mappings()), contract.FILE)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    within = tmp_path / "app"
    assert ran.stdout.split() == [
        str(within / "_docs"),
        str(len(mappings())),
        str(within / "_openapi.json"),
    ]


def test_the_image_is_built_from_all_that_the_wheel_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    build = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*build["packages"], *build["force-include"]}
    recipe = (ROOT / "Dockerfile").read_text()
    let_in = (ROOT / ".dockerignore").read_text().split()
    assert [name for name in needed if f"COPY {name} {name}\n" not in recipe] == []
    assert [name for name in needed if f"!{name}" not in let_in] == []
