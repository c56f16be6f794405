"""Commands of the guide and of the command line run as they stand."""

import asyncio
import json
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app import cli
from app.domain.access import Principal
from app.domain.api_key import ApiKey
from tests.guide import fence, fences, text
from tests.streams import Serving, serving

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not here")


@pytest.fixture
async def service(login_url: str) -> AsyncIterator[Serving]:
    async with serving(login_url, webhooks=False, jobs=False) as running:
        yield running


async def shell(service: Serving, key: ApiKey, script: str) -> str:
    """What the commands print, with this service and key where the guide has its own."""
    script = script.replace("BASE=http://127.0.0.1:8000", f"BASE={service.url}")
    script = script.replace("KEY='paste the key here'", f"KEY={key}")
    ran = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c"),
        script.replace("curl ", "curl --silent --show-error --fail-with-body "),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await ran.communicate()
    assert ran.returncode == 0, (out + err).decode()
    return out.decode()


async def test_the_ten_lines_of_the_index_run_as_they_stand(
    service: Serving, identity: tuple[Principal, ApiKey]
) -> None:
    beginning, ten_lines = (each.code for each in fences("sh") if each.page == "README")
    told = await shell(service, identity[1], f"{beginning}\n{ten_lines}")
    assert '"kind":"advanced"' in told
    funnel = json.loads(told[told.rindex('{"definition"') :])
    assert [stage["reached"] for stage in funnel["total"]["stages"]][:3] == [1, 1, 0]


async def test_the_receiver_of_the_page_is_told_what_its_commands_do(
    login_url: str, identity: tuple[Principal, ApiKey], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = f"{free.getsockname()[1]}"
    program = tmp_path / "receiver.py"
    program.write_text(fence("webhooks", "python receiver").replace("9000", port))
    (commands,) = (each.code for each in fences("sh") if "127.0.0.1:9000" in each.code)
    beginning = next(fences("sh")).code
    receiver = await asyncio.create_subprocess_exec(
        *(sys.executable, str(program)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert receiver.stdout is not None
    try:
        async with (
            asyncio.timeout(30),
            serving(login_url, webhooks_allow_loopback=True, jobs=False) as service,
        ):
            await shell(service, identity[1], beginning + commands.replace("9000", port))
            lines = [(await receiver.stdout.readline()).decode().strip() for _ in range(2)]
    finally:
        receiver.kill()
        await receiver.communicate()
    assert sorted(lines) == ["1 pipeline.updated", "2 opportunity.created prospect"]
    for line in lines:
        assert f"`{line}`" in text("webhooks")


async def test_the_key_of_the_page_sees_its_subjects_deals_alone(
    service: Serving, identity: tuple[Principal, ApiKey]
) -> None:
    (command,) = (each.code for each in fences("sh") if each.page == "access")
    told = await shell(service, identity[1], next(fences("sh")).code + command)
    key = ApiKey.parse(json.loads(told)["key"])
    assert key is not None
    async with service.client(key) as client:
        me = (await client.get("/v1/me")).json()
    assert (me["subject"], me["row_scope"]) == ("mia", "own")


def test_the_command_that_a_later_start_tells_of_is_one_that_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cli.announce("http://127.0.0.1:8000", None)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "keys create" in line]
    command = shlex.split(line.partition(": ")[2])
    at = command.index("keys")
    assert command[at:] == ["keys", "create", "NAME", "--scope", "admin"]
    helped = [*command[:at], "keys", "create", "--help"]
    ran = subprocess.run(helped, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "--scope" in ran.stdout


def test_the_command_line_of_an_environment_is_called_by_its_path(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [".venv/bin/sluice", "serve"])
    monkeypatch.setenv("PATH", "/nowhere")
    cli.announce("http://127.0.0.1:8000", None)
    assert ".venv/bin/sluice keys create NAME --scope admin" in capsys.readouterr().out
