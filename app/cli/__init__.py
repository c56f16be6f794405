"""The command line: `sluice COMMAND`. Each command says what it does; the work is elsewhere.

A command raises what went wrong; `main` puts it into words and a status: 2 for a wrong setting,
1 for anything else that was foreseen.
"""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from shutil import which
from typing import NoReturn

import typer

from app.domain.api_key import ApiKey
from app.domain.errors import SluiceError
from app.settings import Settings, SettingsError, load_settings
from app.storage.embedded import EmbeddedError


def serve() -> None:
    """Run the service, with its own database unless DATABASE_URL names one."""
    from app import serve as supervision  # noqa: PLC0415 - see `commands`

    try:
        supervision.serve(load_settings(), announce=announce)
    except supervision.ServiceError as error:
        _end(str(error), status=1)


def migrate() -> None:
    """Make the database's roles where missing, and bring its schema to this version."""
    from app.storage.engine import connect_arguments  # noqa: PLC0415 - see `commands`
    from app.storage.migrate import upgrade  # noqa: PLC0415
    from app.storage.provision import provided  # noqa: PLC0415

    with provided(load_settings()) as (settings, _):
        assert settings.database_url is not None
        assert settings.owner_url is not None
        login = connect_arguments(settings.database_url).get("user")
        asyncio.run(upgrade(settings.owner_url, login))


def openapi() -> None:
    """Print the OpenAPI document."""
    from app.http.openapi import text  # noqa: PLC0415 - see `commands`
    from app.main import create_app  # noqa: PLC0415

    # Nothing connects: an application that is not started knows its routes.
    application = create_app(Settings(database_url="postgresql://localhost/sluice"))
    print(text(application), end="")


def commands(first: str | None) -> typer.Typer:
    """The command line, or only its part that begins with the argument `first`.

    What `serve` does not need takes a second to read, and in that second its database could have
    started: so modules are read when a command of theirs is asked for.
    """
    line = typer.Typer(
        name="sluice",
        help="The sales-funnel engine that other software calls.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    line.callback()(lambda: None)  # else a line of one command would take no command's name
    line.command()(serve)
    if first == "serve":
        return line
    from app.cli.definitions import metric_definitions  # noqa: PLC0415 - see above
    from app.cli.demo import demo  # noqa: PLC0415
    from app.cli.doctor import doctor  # noqa: PLC0415
    from app.cli.history import import_  # noqa: PLC0415
    from app.cli.keys import keys  # noqa: PLC0415
    from app.cli.reference import reference  # noqa: PLC0415

    for command in (migrate, demo, doctor, openapi, metric_definitions, reference):
        line.command()(command)
    line.command(name="import")(import_)
    line.add_typer(keys)
    return line


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command of these arguments, or of the process's; leaves by SystemExit."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        commands(given[0] if given else None)(args=given)
    except SettingsError as error:
        _end(str(error), status=2)
    except EmbeddedError as error:
        _end(str(error), status=1)
    except SluiceError as refused:
        breaches = (f"{breach.pointer}: {breach.detail}" for breach in refused.errors)
        _end("\n".join((refused.detail, *breaches)), status=1)


def announce(url: str, key: ApiKey | None) -> None:
    """Where the API is, how to get in, and what to try first; a key only if it was made here."""
    lines = [f"Sluice serves {url}", f"  The documentation is at {url}/docs"]
    if key is not None:
        lines.append(f"  The admin key, shown this once: {key}")
    else:
        lines.append(f"  Another key is made by: {_called()} keys create NAME --scope admin")
    lines.append("Try:")
    bearer = "$KEY" if key is None else str(key)
    lines += [
        f'  curl -H "Authorization: Bearer {bearer}" {url}/v1/{path}'
        for path in ("pipelines", "pipelines/demo/metrics/funnel", "idle-flags")
    ]
    print("\n".join(lines), flush=True)


def _called() -> str:
    """How this very command line is called from here: often it is not in the PATH."""
    script = sys.argv[0]
    if Path(script).name != "sluice":
        return f"{sys.executable} -m app.cli"
    return "sluice" if which("sluice") else script


def _end(message: str, *, status: int) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(status)
