"""An issuer of tokens: its keys, the set that it publishes, and what it signs."""

import json
from dataclasses import dataclass
from functools import cache
from time import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER = "https://issuer.example/"
AUDIENCE = "sluice"
_WRITERS = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}


@dataclass(frozen=True)
class Signer:
    """One key of the issuer, with its private half."""

    kid: str
    algorithm: str
    private: Any

    def jwk(self, **more: object) -> dict[str, Any]:
        written = _WRITERS[self.algorithm].to_jwk(self.private.public_key(), as_dict=True)
        return {**written, "kid": self.kid, "use": "sig", "alg": self.algorithm, **more}

    @property
    def pem(self) -> bytes:
        """The public key as everybody may have it."""
        return self.private.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )

    def sign(self, claims: dict[str, Any], **header: object) -> str:
        return jwt.encode(claims, self.private, self.algorithm, headers={"kid": self.kid, **header})


@cache  # a key of RSA takes a tenth of a second to make
def signer(algorithm: str, kid: str | None = None) -> Signer:
    private = {
        "RS256": lambda: rsa.generate_private_key(65_537, 2_048),
        "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate,
    }[algorithm]()
    return Signer(kid or f"{algorithm}-1", algorithm, private)


def key_set(*keys: Signer | dict[str, Any]) -> bytes:
    """The document that the issuer publishes."""
    written = [key.jwk() if isinstance(key, Signer) else key for key in keys]
    return json.dumps({"keys": written}).encode()


def claims(**changes: object) -> dict[str, Any]:
    """What a good token says; a change to None leaves a claim out."""
    now = int(time())
    said = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": now,
        "nbf": now,
        "exp": now + 300,
        "sub": "mia",
        "workspace": "acme",
        "scope": "openid opportunities:read",
        **changes,
    }
    return {name: value for name, value in said.items() if value is not None}
