"""Which server a process works with: the one its settings name, or the embedded one.

Not how it talks to it (`engine.py`) nor how the embedded one is kept running (`embedded.py`).
"""

from collections.abc import Iterator
from contextlib import contextmanager

from app.settings import Settings
from app.storage import roles
from app.storage.embedded import EmbeddedPostgres

_SPARE_CONNECTIONS = 20  # for migrations, the command line, a person with psql
_POOLS_PER_WORKER = 2  # one for writes, one for reads


@contextmanager
def provided(settings: Settings) -> Iterator[tuple[Settings, EmbeddedPostgres | None]]:
    """Settings whose `database_url` is set, and the embedded server where there is one.

    The server is stopped, or let go of, at the end. Raises `EmbeddedError`.
    """
    if settings.database_url is not None:
        yield settings, None
        return
    needed = settings.workers * settings.pool_size * _POOLS_PER_WORKER + _SPARE_CONNECTIONS
    options = {"max_connections": str(max(100, needed))}
    with EmbeddedPostgres(settings.data_dir, options=options) as server:
        urls = {"database_url": server.url(), "database_owner_url": server.url(roles.OWNER)}
        yield settings.model_copy(update=urls), server
