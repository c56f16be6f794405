"""Which databases are prepared: known to the process that does it, asked by each of its workers.

Nothing may be asked of a database before its schema and its walls are known to be in order, and
workers are up before, where it is away at first. A worker has no word with the process that made
it; so the two share a byte for each database.
"""

from ctypes import c_bool
from multiprocessing import get_context


class Prepared:
    """What is prepared so far; shared with processes that are given it when they are made."""

    def __init__(self) -> None:
        memory = get_context("spawn")
        self._database = memory.RawValue(c_bool)
        self._replica = memory.RawValue(c_bool)

    @property
    def database(self) -> bool:
        return self._database.value

    @property
    def replica(self) -> bool:
        return self._replica.value

    def tell_of_database(self) -> None:
        self._database.value = True

    def tell_of_replica(self) -> None:
        self._replica.value = True
