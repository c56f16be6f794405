"""`sluice demo`: believable deals for a workspace that has no pipeline yet."""

from typing import Annotated
from uuid import UUID

import typer

from app.actions import load_demo
from app.cli.workspaces import in_workspace
from app.storage.engine import Database


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

    async def work(database: Database, workspace_id: UUID) -> int:
        return await load_demo.load_demo(database, workspace_id, deals=deals, seed=seed)

    loaded = in_workspace(workspace, work)
    if loaded:
        print(f"Loaded {loaded} deals into the pipeline {load_demo.KEY!r}.")
    else:
        print(f"The workspace {workspace!r} has a pipeline already: nothing was loaded.")
