"""The command line: `sluice COMMAND`. Each command says what it does; the work is elsewhere.

A command raises what went wrong; `main` puts it into words and a status: 2 for a wrong setting,
1 for anything else that was foreseen.
"""

import asyncio
import sys
from collections.abc import Sequence
from typing import NoReturn

import typer

from app.cli.demo import demo
from app.cli.doctor import doctor
from app.cli.history import import_
from app.cli.keys import keys
from app.domain.api_key import ApiKey
from app.domain.errors import SluiceError
from app.settings import Settings, SettingsError, load_settings
from app.storage.embedded import EmbeddedError
from app.storage.engine import connect_arguments
from app.storage.migrate import upgrade
from app.storage.provision import provided
from app.storage.walls import WallsDown

app = typer.Typer(
    name="sluice",
    help="The sales-funnel engine that other software calls.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(demo)
app.command()(doctor)
app.command(name="import")(import_)
app.add_typer(keys)


@app.command()
def serve() -> None:
    """Run the service, with its own database unless DATABASE_URL names one."""
    settings = load_settings()
    from app.serve import ServiceError, serve  # noqa: PLC0415 - a second of imports, only here

    try:
        serve(settings, announce=_announce)
    except ServiceError as error:
        _end(str(error), status=1)


@app.command()
def migrate() -> None:
    """Make the database's roles where missing, and bring its schema to this version."""
    with provided(load_settings()) as (settings, _):
        assert settings.database_url is not None
        assert settings.owner_url is not None
        login = connect_arguments(settings.database_url).get("user")
        asyncio.run(upgrade(settings.owner_url, login))


@app.command()
def openapi() -> None:
    """Print the OpenAPI document."""
    from app.http.openapi import text  # noqa: PLC0415 - as in `serve`
    from app.main import create_app  # noqa: PLC0415

    # Nothing connects: an application that is not started knows its routes.
    application = create_app(Settings(database_url="postgresql://localhost/sluice"))
    print(text(application), end="")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command of these arguments, or of the process's; leaves by SystemExit."""
    try:
        app(args=arguments)
    except SettingsError as error:
        _end(str(error), status=2)
    except (EmbeddedError, WallsDown) as error:
        _end(str(error), status=1)
    except SluiceError as refused:
        breaches = (f"{breach.pointer}: {breach.detail}" for breach in refused.errors)
        _end("\n".join((refused.detail, *breaches)), status=1)


def _announce(url: str, key: ApiKey | None) -> None:
    """Where the API is, how to get in, and what to try first."""
    bearer = "$KEY" if key is None else str(key)
    lines = [f"Sluice serves {url}", f"  The documentation is at {url}/docs"]
    if key is None:
        lines.append("  The admin key was shown once; `sluice keys create` makes another.")
    else:
        lines.append(f"  The admin key, shown this once: {key}")
    lines.append("Try:")
    lines += [
        f'  curl -H "Authorization: Bearer {bearer}" {url}/v1/{path}'
        for path in ("pipelines", "pipelines/demo/metrics/funnel", "idle-flags")
    ]
    print("\n".join(lines), flush=True)


def _end(message: str, *, status: int) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(status)
