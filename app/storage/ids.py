"""Keys of rows: UUID version 7 (RFC 9562), made here so that an id is known before it is sent.

They are of the driver's own class, a `uuid.UUID` that is made, written and sent much faster.
"""

import os
import time
from uuid import UUID

from asyncpg.pgproto import pgproto

_AT_ONCE = 256
_drawn: list[bytes] = []  # randomness for the next ids: a system call for each would be half of it
os.register_at_fork(after_in_child=_drawn.clear)


def new_id() -> UUID:
    """A UUIDv7: 48 bits of Unix milliseconds, then 74 random bits; sorts by time of making."""
    try:
        drawn = _drawn.pop()
    except IndexError:
        noise = os.urandom(10 * _AT_ONCE)
        _drawn.extend(noise[n : n + 10] for n in range(10, len(noise), 10))
        drawn = noise[:10]
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80 | int.from_bytes(drawn, "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    made: UUID = pgproto.UUID(value.to_bytes(16, "big"))
    return made
