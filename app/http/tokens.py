"""Bearer tokens (JWT, RFC 7519) of the one issuer that is configured, beside API keys.

A token is verified with the issuer's keys (`http.issuer_keys`), then read (`http.claims`); the
libraries PyJWT and cryptography do what is cryptography. The algorithm is one of the allow-list,
and fits the key because keys are looked up by it. Of a token's header nothing is used but `alg` and
`kid`; one that says that more must be understood (`crit`) is refused.

A token found good is believed for `BELIEVED` seconds, and never past its `exp`: verifying it and
finding its workspace anew would cost more than all the rest of a small request.
"""

from collections.abc import Collection
from datetime import UTC, datetime
from hashlib import sha256
from time import monotonic, time
from typing import Any, Final

import jwt
from jwt import exceptions

from app.domain.access import Principal
from app.domain.errors import Unauthenticated
from app.http.claims import ClaimNames, bearer_of
from app.http.issuer_keys import IssuerKeys
from app.storage import access
from app.storage.engine import Database, Role

LONGEST: Final = 8_192
"""Characters of a token."""
BELIEVED: Final = 5.0
MOST_BELIEVED: Final = 10_000
_FOR_EVER: Final = datetime(9999, 1, 1, tzinfo=UTC).timestamp()

_FAULTS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (exceptions.ExpiredSignatureError, "The token has expired."),
    (exceptions.ImmatureSignatureError, "The token is not valid yet: its nbf or iat lies ahead."),
    (exceptions.InvalidIssuedAtError, "The token's iat is no number."),
    (exceptions.InvalidAudienceError, "The token is meant for another audience."),
    (exceptions.InvalidIssuerError, "The token is of another issuer."),
    (exceptions.InvalidSignatureError, "The token's signature does not fit its key."),
)


class Tokens:
    """Verifies tokens. `leeway` in seconds: how far the issuer's clock may be off."""

    def __init__(
        self,
        keys: IssuerKeys,
        *,
        issuer: str,
        audience: str,
        algorithms: Collection[str],
        leeway: float,
        names: ClaimNames,
    ) -> None:
        self.keys = keys
        self._issuer = issuer
        self._audience = audience
        self._algorithms = frozenset(algorithms)
        self._leeway = leeway
        self._names = names
        # By the hash of the token: when it was verified, when it expires, whom it makes of who
        # bears it.
        self._believed: dict[bytes, tuple[float, float, Principal]] = {}

    async def caller(self, text: str, database: Database) -> Principal:
        """Whom the token makes of who bears it. Raises Unauthenticated and Unavailable."""
        if len(text) > LONGEST:
            raise Unauthenticated(f"A token has at most {LONGEST:,} characters.")
        digest, now = sha256(text.encode()).digest(), monotonic()
        kept = self._believed.get(digest)
        if kept is not None and now - kept[0] < BELIEVED and time() < kept[1]:
            return kept[2]
        claims = await self.verified(text)
        bearer = bearer_of(claims, self._names)
        async with database.read(None, role=Role.JOBS) as connection:
            workspace = await access.find_workspace(connection, bearer.workspace)
        if workspace is None:
            raise Unauthenticated("The token names a workspace that is not here.")
        until = datetime.fromtimestamp(min(claims["exp"], _FOR_EVER), UTC)
        principal = bearer.principal(workspace, until)
        if len(self._believed) >= MOST_BELIEVED:
            self._believed.clear()
        self._believed[digest] = (now, claims["exp"], principal)
        return principal

    async def verified(self, text: str) -> dict[str, Any]:
        """The claims of a token that is the issuer's, for this service, and good now."""
        try:
            header = jwt.get_unverified_header(text)
        except exceptions.PyJWTError as error:
            raise _unreadable() from error
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            raise Unauthenticated("The token's algorithm is not one that is taken here.")
        if "crit" in header:
            raise Unauthenticated("The token's header demands an extension (crit) unknown here.")
        key = await self.keys.find(algorithm, header.get("kid"))
        try:
            claims = jwt.decode(
                text,
                key,
                algorithms=[algorithm],
                audience=self._audience,
                issuer=self._issuer,
                leeway=self._leeway,
                # Which claim is the subject is configured, and what it must be is asked later.
                options={"require": ["exp"], "verify_sub": False, "verify_jti": False},
            )
        except exceptions.MissingRequiredClaimError as error:
            raise Unauthenticated(f"The token lacks the claim {error.claim}.") from error
        except exceptions.PyJWTError as error:
            raise _refusal(error) from error
        for name in ("exp", "nbf", "iat"):  # PyJWT takes texts that spell a number, too
            if type(claims.get(name, 0)) not in {int, float}:
                raise Unauthenticated(f"The token's {name} is no number.")
        return claims


def _refusal(error: exceptions.PyJWTError) -> Unauthenticated:
    for kind, detail in _FAULTS:
        if isinstance(error, kind):
            return Unauthenticated(detail)
    if not isinstance(error, exceptions.DecodeError):
        return _unreadable()
    # Its three parts could be read, or it would not have come so far: it is what the claims say.
    for name in ("exp", "nbf"):
        if f"({name})" in str(error):
            return Unauthenticated(f"The token's {name} is no number, or not a finite one.")
    return Unauthenticated("The token's claims are no JSON object, or one nested too deep.")


def _unreadable() -> Unauthenticated:
    return Unauthenticated("The token cannot be read: cut off, or with a header unknown here?")
