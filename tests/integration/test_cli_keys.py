"""`sluice keys`: a key is made, works, is listed without its secret, and is revoked."""

import asyncio
from collections.abc import Callable

import httpx
import pytest

from app.domain.access import Principal
from app.domain.api_key import ApiKey
from tests.commands import Ended, sluice
from tests.conftest import running

Command = Callable[..., Ended]


@pytest.fixture
def sluice_keys(login_url: str, principal: Principal, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs a command in this test's workspace."""
    monkeypatch.setenv("DATABASE_URL", login_url)

    def run(command: str, *arguments: str) -> Ended:
        workspace = ("--workspace", principal.workspace_id.hex)
        return sluice("keys", command, *arguments, *workspace)

    return run


def made(sluice_keys: Command, *more: str) -> ApiKey:
    result = sluice_keys("create", "nightly report", "--scope", "metrics:read", *more)
    assert result.exit_code == 0, result.output
    key = ApiKey.parse(result.stdout.strip())
    assert key is not None
    return key


def test_a_key_is_printed_once_and_listed_without_its_secret(sluice_keys: Command) -> None:
    key = made(sluice_keys, "--scope", "events:read", "--subject", "reporting")
    listed = sluice_keys("list").stdout
    (line,) = [line for line in listed.splitlines() if line.startswith(key.key_id)]
    assert "nightly report (reporting): events:read metrics:read" in line
    assert "in use" in line
    assert key.secret not in listed


def test_a_revoked_key_is_listed_as_such_and_stays_so(
    sluice_keys: Command,
) -> None:
    key = made(sluice_keys, "--expires-in", "P30D")
    assert sluice_keys("revoke", key.key_id).exit_code == 0
    listed = sluice_keys("list").stdout
    (line,) = [line for line in listed.splitlines() if line.startswith(key.key_id)]
    assert "revoked" in line
    assert sluice_keys("revoke", key.key_id).exit_code == 0
    assert sluice_keys("list").stdout == listed
    unknown = sluice_keys("revoke", "0" * 16)
    assert unknown.exit_code == 1
    assert "0" * 16 in unknown.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["create", "no scope"],
        ["create", "unknown scope", "--scope", "everything"],
        ["create", "no duration", "--scope", "admin", "--expires-in", "a month"],
    ],
)
def test_a_wrong_argument_is_a_message_and_no_key(
    sluice_keys: Command, arguments: list[str]
) -> None:
    before = sluice_keys("list").stdout
    result = sluice_keys(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert sluice_keys("list").stdout == before


def test_an_unknown_workspace_is_said_to_be_unknown(sluice_keys: Command) -> None:
    result = sluice("keys", "list", "--workspace", "nowhere")
    assert result.exit_code == 1
    assert "no workspace 'nowhere'" in result.stderr


async def test_the_key_opens_what_its_scopes_say(
    sluice_keys: Command, login_url: str, principal: Principal
) -> None:
    # The command has an event loop of its own, as it has on a command line.

    key = await asyncio.to_thread(made, sluice_keys)
    async with running(login_url) as connect:
        client: httpx.AsyncClient = connect(key)
        me = (await client.get("/v1/me")).json()
        assert me["workspace"]["id"] == str(principal.workspace_id)
        assert (me["subject"], me["scopes"]) == ("nightly report", ["metrics:read"])
        assert (await client.get("/v1/events")).status_code == 403
