"""`sluice demo`: believable deals for a workspace that has no pipeline yet."""

import asyncio
from typing import Annotated

import typer

from app.actions import load_demo
from app.domain.errors import NotFound, SluiceError
from app.settings import load_settings
from app.storage import access
from app.storage.engine import Database, Role
from app.storage.provision import provided


def demo(
    deals: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="How many deals.")
    ] = load_demo.DEALS,
    seed: Annotated[int, typer.Option(help="The same seed tells the same tales.")] = load_demo.SEED,
    workspace: Annotated[
        str, typer.Option("--workspace", "-w", help="The workspace's key.")
    ] = "default",
) -> None:
    """Load a demo pipeline with a year of deals, unless the workspace has a pipeline."""

    async def run(url: str) -> int:
        database = await Database.open(url, size=1)
        try:
            async with database.read(None, role=Role.JOBS) as connection:
                found = await access.find_workspace(connection, workspace)
            if found is None:
                raise NotFound(f"There is no workspace {workspace!r}.")
            return await load_demo.load_demo(database, found, deals=deals, seed=seed)
        finally:
            await database.close()

    with provided(load_settings()) as (settings, _):
        assert settings.database_url is not None, "provided says where the database is"
        try:
            loaded = asyncio.run(run(settings.database_url))
        except SluiceError as refused:
            typer.echo(refused.detail, err=True)
            raise typer.Exit(1) from refused
    if loaded:
        print(f"Loaded {loaded} deals into the pipeline {load_demo.KEY!r}.")
    else:
        print(f"The workspace {workspace!r} has a pipeline already: nothing was loaded.")
