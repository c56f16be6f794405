"""How a receiver knows that a delivery is ours: Standard Webhooks 1.0, symmetric signatures (v1).

HMAC-SHA256 over `id.timestamp.body`, one for each secret that stands, so that a receiver may change
from an old secret to a new one whenever it likes within their overlap.
"""

import hmac
from base64 import b64encode
from collections.abc import Sequence
from typing import Final

PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32
"""The standard asks for 24 to 64."""


def written(secret: bytes) -> str:
    """A secret as the receiver is shown it, once."""
    return PREFIX + b64encode(secret).decode()


def signature(secrets: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`; `timestamp` is in whole seconds since 1970, UTC."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return " ".join(
        "v1," + b64encode(hmac.digest(secret, signed, "sha256")).decode() for secret in secrets
    )
