"""Opens a cluster as a service does, in a process that tests may kill.

    python cluster_process.py FOLDER hold|write [UID]

Prints one line of JSON when the server is ready, or its error. `hold` then waits for the end of
its input; `write` inserts 1, 2, 3 … and prints each number once it is committed.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

import asyncpg

from app.storage.embedded import EmbeddedError, EmbeddedPostgres


async def write(url: str) -> None:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    await connection.execute("CREATE TABLE written (n bigint PRIMARY KEY)")
    n = 0
    while True:
        n += 1
        await connection.execute("INSERT INTO written VALUES ($1)", n)
        print(n, flush=True)


def main() -> None:
    folder, what, *account = sys.argv[1:]
    if account:
        # Here rather than before the start: the interpreter may lie where only root can read.
        os.setgroups([])
        os.setgid(int(account[0]))
        os.setuid(int(account[0]))
    server = EmbeddedPostgres(Path(folder))
    try:
        server.start()
    except EmbeddedError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return
    print(json.dumps({"is_owner": server.is_owner, "url": server.url()}), flush=True)
    if what == "write":
        asyncio.run(write(server.url("sluice_owner")))
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main()
