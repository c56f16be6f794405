"""What processes have cost in processor time, from Linux' /proc: a figure that neighbours on the
machine disturb less than they disturb the clock."""

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def seconds(pid: int) -> float:
    """What this process and its ended children have used; 0 where it has ended itself."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    # The name, second and in brackets, may hold spaces: what follows it is counted from there.
    user, system, children_user, children_system = map(int, stat.rpartition(")")[2].split()[11:15])
    return (user + system + children_user + children_system) / _TICKS


def seconds_of_server(data: Path) -> float:
    """What a PostgreSQL server and its backends have used; `data` is its folder."""
    postmaster = int((data / "cluster" / "postmaster.pid").read_text().splitlines()[0])
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    return sum(map(seconds, [postmaster, *map(int, children)]))
