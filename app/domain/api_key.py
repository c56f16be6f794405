"""The form of an API key: `slc_live_<id>_<secret><checksum>`, all hexadecimal but the prefix.

The checksum (CRC-32 of all that stands before it) lets a mistyped or cut-off key be refused without
asking the database, and lets secret scanners be sure of what they found. The id names the key in
lists and logs; only the SHA-256 of the secret is ever stored. A secret of 192 random bits needs no
slow hash: there is nothing to guess.
"""

import re
from dataclasses import dataclass
from hashlib import sha256
from zlib import crc32

PREFIX = "slc_live_"
ID_LENGTH = 16
SECRET_LENGTH = 48
KEY_ID = rf"^[0-9a-f]{{{ID_LENGTH}}}$"
"""The form of a key's id, as a pattern."""

_WRITTEN = re.compile(
    rf"{PREFIX}([0-9a-f]{{{ID_LENGTH}}})_([0-9a-f]{{{SECRET_LENGTH}}})([0-9a-f]{{8}})"
)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key in full. It is shown once, when it is made."""

    key_id: str
    secret: str

    @classmethod
    def parse(cls, text: str) -> "ApiKey | None":
        """The key that the text spells, or None where it spells none."""
        found = _WRITTEN.fullmatch(text)
        if found is None:
            return None
        key = cls(found[1], found[2])
        return key if str(key) == text else None

    def __str__(self) -> str:
        body = f"{PREFIX}{self.key_id}_{self.secret}"
        return f"{body}{crc32(body.encode()):08x}"

    def __repr__(self) -> str:
        return f"ApiKey({self.key_id!r}, …)"

    @property
    def secret_hash(self) -> bytes:
        return sha256(self.secret.encode()).digest()
