"""The first start of a service: one workspace, one admin key, however many start at once."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.actions.bootstrap import WORKSPACE, bootstrap, chosen_key
from app.actions.manage_keys import new_key
from app.settings import SettingsError
from app.storage.engine import Database
from tests.conftest import running


@pytest.fixture
async def alone(own_database: str) -> AsyncIterator[Database]:
    """A database in which nothing was started yet."""
    opened = await Database.open(own_database)
    yield opened
    await opened.close()


async def test_services_that_start_at_once_make_one_workspace_and_one_key(
    alone: Database, own_database: str
) -> None:
    made = await asyncio.gather(*(bootstrap(alone) for _ in range(8)))
    (key,) = [key for key in made if key is not None]
    assert await bootstrap(alone) is None
    async with running(own_database) as connect:
        me = (await connect(key).get("/v1/me")).json()
    assert me["workspace"]["key"] == WORKSPACE
    assert (me["subject"], me["scopes"]) == ("admin", ["admin"])


async def test_a_chosen_key_is_the_one_that_opens(alone: Database, own_database: str) -> None:
    chosen = new_key()
    assert await bootstrap(alone, chosen_key(str(chosen))) == chosen
    assert await bootstrap(alone, new_key()) is None
    async with running(own_database) as connect:
        assert (await connect(chosen).get("/v1/me")).status_code == 200


def test_a_chosen_key_must_be_well_formed_and_is_never_repeated_in_the_refusal() -> None:
    with pytest.raises(SettingsError, match="sluice keys generate") as refused:
        chosen_key("correct horse battery staple")
    assert "horse" not in str(refused.value)
