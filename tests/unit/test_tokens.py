"""Which tokens are the issuer's, for this service and good now; what their claims make of one."""

import base64
import hashlib
import hmac
import json
from time import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from app.domain.access import RowScope, Scope
from app.domain.api_key import ApiKey
from app.domain.errors import Unauthenticated
from app.http.authentication import is_token
from app.http.claims import ClaimNames, bearer_of
from app.http.issuer_keys import IssuerKeys
from app.http.tokens import Tokens
from tests.issuer import AUDIENCE, ISSUER, Signer, claims, key_set, signer

RSA, EC, ED = signer("RS256"), signer("ES256"), signer("EdDSA")
ALL = ("RS256", "ES256", "EdDSA")
LEEWAY = 10


def verifier(*keys: Signer | dict[str, object], algorithms: tuple[str, ...] = ALL) -> Tokens:
    async def fetch() -> bytes:
        return key_set(*keys)

    return Tokens(
        IssuerKeys(fetch),
        issuer=ISSUER,
        audience=AUDIENCE,
        algorithms=algorithms,
        leeway=LEEWAY,
        names=ClaimNames(),
    )


def part(value: object) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def unsigned(header: dict[str, object], signature: str = "") -> str:
    return f"{part(header)}.{part(claims())}.{signature}"


def hmac_signed(secret: bytes, **header: object) -> str:
    """Signed with a public key as if it were a secret, which PyJWT itself would refuse to do."""
    text = f"{part({'alg': 'HS256', 'typ': 'JWT', **header})}.{part(claims())}"
    return f"{text}.{part(hmac.digest(secret, text.encode(), hashlib.sha256))}"


def rsa_signed(header: dict[str, object]) -> str:
    """With a header that PyJWT would not write."""
    text = f"{part(header)}.{part(claims())}"
    return f"{text}.{part(RSA.private.sign(text.encode(), PKCS1v15(), SHA256()))}"


@pytest.mark.parametrize("key", [RSA, EC, ED], ids=lambda key: key.algorithm)
async def test_a_token_of_the_issuer_is_good_with_each_algorithm(key: Signer) -> None:
    said = claims()
    assert await verifier(RSA, EC, ED).verified(key.sign(said)) == said


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": ["other", AUDIENCE]},
        {"nbf": None, "iat": None},
        {"exp": time() + 1e6 + 0.5},
        {"jti": 7},
    ],
)
async def test_a_token_is_good_that_says_more_or_less_than_usual(
    changes: dict[str, object],
) -> None:
    assert await verifier(RSA).verified(RSA.sign(claims(**changes)))


async def test_clocks_may_differ_by_the_leeway_and_no_more() -> None:
    now = int(time())
    tokens = verifier(RSA)
    for good in ({"exp": now - LEEWAY + 5}, {"nbf": now + LEEWAY - 5}, {"iat": now + LEEWAY - 5}):
        assert await tokens.verified(RSA.sign(claims(**good)))
    for bad in ({"exp": now - LEEWAY - 5}, {"nbf": now + LEEWAY + 5}, {"iat": now + LEEWAY + 5}):
        with pytest.raises(Unauthenticated):
            await tokens.verified(RSA.sign(claims(**bad)))


BAD_CLAIMS = {
    "expired": ({"exp": int(time()) - 3600}, "has expired"),
    "without exp": ({"exp": None}, "lacks the claim exp"),
    "exp a text": ({"exp": str(int(time()) + 10**6)}, "exp is no number"),
    "exp true": ({"exp": True}, "has expired"),
    "exp without end": ({"exp": float("inf")}, "exp is no number, or not a finite one"),
    "nbf without end": ({"nbf": float("inf")}, "nbf is no number, or not a finite one"),
    "exp a list": ({"exp": [1]}, "exp is no number, or not a finite one"),
    "nbf far ahead": ({"nbf": int(time()) + 10**9}, "not valid yet"),
    "nbf a text": ({"nbf": "0"}, "nbf is no number"),
    "issued in the future": ({"iat": int(time()) + 10**6}, "not valid yet"),
    "iat no number": ({"iat": "then"}, "iat is no number"),
    "another audience": ({"aud": "billing"}, "another audience"),
    "a part of the audience": ({"aud": AUDIENCE[:-1]}, "another audience"),
    "two other audiences": ({"aud": ["billing", "crm"]}, "another audience"),
    "without audience": ({"aud": None}, "lacks the claim aud"),
    "audience no text": ({"aud": {AUDIENCE: 1}}, "another audience"),
    "another issuer": ({"iss": "https://other.example/"}, "another issuer"),
    "almost the issuer": ({"iss": ISSUER.rstrip("/")}, "another issuer"),
    "without issuer": ({"iss": None}, "lacks the claim iss"),
}


@pytest.mark.parametrize(("changes", "detail"), BAD_CLAIMS.values(), ids=BAD_CLAIMS)
async def test_a_token_whose_claims_are_not_for_here_or_now_is_refused(
    changes: dict[str, object], detail: str
) -> None:
    with pytest.raises(Unauthenticated, match=detail):
        await verifier(RSA).verified(RSA.sign(claims(**changes)))


def claiming(payload: bytes) -> str:
    """A token of the issuer whose payload is not what its library would write."""
    text = f"{part({'alg': 'RS256', 'typ': 'JWT', 'kid': RSA.kid})}.{part(payload)}"
    return f"{text}.{part(RSA.private.sign(text.encode(), PKCS1v15(), SHA256()))}"


BAD_PAYLOADS = {
    "exp beyond numbers": (b'{"exp":1e999}', "exp is no number, or not a finite one"),
    "nbf null": (b'{"exp":9999999999,"nbf":null}', "nbf is no number, or not a finite one"),
    "deep": (b'{"a":' * 100_000, "no JSON object, or one nested too deep"),
    "deep and whole": (
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        "no JSON object, or one nested too deep",
    ),
    "a list": (b"[]", "no JSON object"),
    "no JSON": (b"exp=1", "no JSON object"),
    "no UTF-8": (b'{"exp":"\xff"}', "no JSON object"),
}


@pytest.mark.parametrize(("payload", "detail"), BAD_PAYLOADS.values(), ids=BAD_PAYLOADS)
async def test_a_token_whose_payload_is_at_fault_is_told_so(payload: bytes, detail: str) -> None:
    with pytest.raises(Unauthenticated, match=detail):
        await verifier(RSA).verified(claiming(payload))


OTHER = Signer(RSA.kid, "RS256", rsa.generate_private_key(65_537, 2_048))
BAD_TOKENS = {
    "alg none": (unsigned({"alg": "none"}), "algorithm"),
    "alg None, otherwise written": (unsigned({"alg": "nOnE", "kid": RSA.kid}), "algorithm"),
    "alg none with a signature": (unsigned({"alg": "none", "kid": RSA.kid}, "AAAA"), "algorithm"),
    "no alg": (unsigned({"kid": RSA.kid}), "algorithm"),
    "alg no text": (unsigned({"alg": ["RS256"], "kid": RSA.kid}), "algorithm"),
    "no signature": (unsigned({"alg": "RS256", "kid": RSA.kid}), "signature does not fit"),
    "HMAC with the public key": (hmac_signed(RSA.pem, kid=RSA.kid), "algorithm"),
    "HMAC with the public key's JWK": (
        hmac_signed(json.dumps(RSA.jwk()).encode(), kid=RSA.kid),
        "algorithm",
    ),
    "RSA of another hash": (
        jwt.encode(claims(), RSA.private, "RS512", headers={"kid": RSA.kid}),
        "algorithm",
    ),
    "RSA with PSS": (
        jwt.encode(claims(), RSA.private, "PS256", headers={"kid": RSA.kid}),
        "algorithm",
    ),
    "signed by somebody else": (OTHER.sign(claims()), "signature does not fit"),
    "with a key of its own": (
        OTHER.sign(claims(), jwk=OTHER.jwk(), jku="https://evil.example/"),
        "signature does not fit",
    ),
    "unknown kid": (Signer("new", "RS256", RSA.private).sign(claims()), "unknown key"),
    "kid of a key of another type": (EC.sign(claims(), kid=RSA.kid), "unknown key"),
    "no kid where several keys are": (
        jwt.encode(claims(), RSA.private, "RS256"),
        "no key id",
    ),
    "kid no text": (unsigned({"alg": "RS256", "kid": 1}), "cannot be read"),
    "crit": (RSA.sign(claims(), crit=["exp"], exp=1), "header unknown"),
    "crit that the library knows": (
        rsa_signed({"alg": "RS256", "kid": RSA.kid, "crit": ["b64"], "b64": True}),
        "demands an extension",
    ),
    "payload not encoded": (
        unsigned({"alg": "RS256", "kid": RSA.kid, "b64": False, "crit": ["b64"]}),
        "cannot be read",
    ),
    "no object inside": (
        jwt.PyJWS().encode(b"[]", RSA.private, "RS256", headers={"kid": RSA.kid}),
        "claims are no JSON object",
    ),
    "no JSON inside": (
        jwt.PyJWS().encode(b"\xff", RSA.private, "RS256", headers={"kid": RSA.kid}),
        "claims are no JSON object",
    ),
    "deep inside": (
        jwt.PyJWS().encode(b"[" * 5_000, RSA.private, "RS256", headers={"kid": RSA.kid}),
        "claims are no JSON object",
    ),
    "a deep header": (f"{part(b'[' * 5_000)}.AA.AA", "cannot be read"),
    "garbage": ("a.b.c", "cannot be read"),
}


@pytest.mark.parametrize(("token", "detail"), BAD_TOKENS.values(), ids=BAD_TOKENS)
async def test_a_token_that_the_issuer_did_not_sign_as_agreed_is_refused(
    token: str, detail: str
) -> None:
    second = signer("RS256", "RS256-2")
    with pytest.raises(Unauthenticated, match=detail):
        await verifier(RSA, second, EC).verified(token)


async def test_an_algorithm_that_is_not_allowed_is_refused_whatever_the_key() -> None:
    tokens = verifier(RSA, EC, algorithms=("ES256",))
    assert await tokens.verified(EC.sign(claims()))
    with pytest.raises(Unauthenticated, match="algorithm"):
        await tokens.verified(RSA.sign(claims()))


async def test_a_token_without_kid_is_good_where_only_one_key_can_be_meant() -> None:
    token = jwt.encode(claims(), EC.private, "ES256")
    assert await verifier(RSA, EC, ED).verified(token)
    with pytest.raises(Unauthenticated, match="no key id"):
        await verifier(EC, signer("ES256", "ES256-2")).verified(token)


GOOD = RSA.sign(claims())


@given(st.integers(0, len(GOOD) - 1), st.characters(categories=["L", "N", "P"]))
async def test_any_single_changed_character_makes_it_no_token_of_the_issuer(
    place: int, typed: str
) -> None:
    changed = GOOD[:place] + typed + GOOD[place + 1 :]
    if changed == GOOD:
        return
    with pytest.raises(Unauthenticated):
        await verifier(RSA).verified(changed)


def test_no_text_is_both_a_token_and_an_api_key() -> None:
    key = str(ApiKey("0" * 16, "0" * 48))
    assert is_token(GOOD)
    assert not is_token(key)
    for text in ("", "a", "a.b", "a.b.c.d", ".b.c", "a..c", f"{key}.a.b", "a.b.c ", "ä.b.c"):
        assert not is_token(text), text
    assert is_token("a.b.")  # without a signature it is one still, and refused as such


# What claims make of their bearer.


@pytest.mark.parametrize(
    ("said", "scopes"),
    [
        ("opportunities:read metrics:read", {Scope.OPPORTUNITIES_READ, Scope.METRICS_READ}),
        (["opportunities:read", "metrics:read"], {Scope.OPPORTUNITIES_READ, Scope.METRICS_READ}),
        ("openid profile opportunities:read", {Scope.OPPORTUNITIES_READ}),
        ("platform", set()),
        (["platform", "admin "], set()),
        ("opportunities:READ", set()),
        ([["admin"], {"admin": 1}, None, 1], set()),
        ("", set()),
        (None, set()),
        ("admin", {Scope.ADMIN}),
    ],
)
def test_scopes_are_taken_by_name_and_those_of_others_are_passed_over(
    said: object, scopes: set[Scope]
) -> None:
    assert bearer_of(claims(scope=said), ClaimNames()).scopes == scopes


@pytest.mark.parametrize("rows", list(RowScope))
def test_the_row_scope_is_what_the_token_says(rows: RowScope) -> None:
    names = ClaimNames(rows=RowScope.ALL)
    assert bearer_of(claims(row_scope=rows.value), names).row_scope is rows


def test_a_token_that_names_no_row_scope_sees_its_own_unless_it_is_configured() -> None:
    assert bearer_of(claims(), ClaimNames()).row_scope is RowScope.OWN
    assert bearer_of(claims(), ClaimNames(rows=RowScope.ALL)).row_scope is RowScope.ALL


def test_claims_have_the_names_that_are_configured() -> None:
    names = ClaimNames(
        workspace="https://acme.example/ws",
        subject="email",
        team="group",
        row_scope="rows",
        scopes="scp",
    )
    said = claims(
        **{"https://acme.example/ws": "north", "email": "mia@acme.example", "group": "emea"},
        rows="team",
        scp=["admin"],
        sub=17,
    )
    bearer = bearer_of(said, names)
    assert (bearer.workspace, bearer.subject, bearer.team) == ("north", "mia@acme.example", "emea")
    assert (bearer.row_scope, bearer.scopes) == (RowScope.TEAM, {Scope.ADMIN})


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"workspace": None}, "lacks the claim workspace"),
        ({"workspace": "Not A Key"}, "claim workspace"),
        ({"workspace": "a\ud800"}, "claim workspace"),
        ({"workspace": ["acme"]}, "claim workspace"),
        ({"sub": None}, "lacks the claim sub"),
        ({"sub": ""}, "claim sub"),
        ({"sub": " mia"}, "claim sub"),
        ({"sub": "mi\x00a"}, "claim sub"),
        ({"sub": "mi\ud800a"}, "claim sub"),
        ({"sub": "x" * 101}, "claim sub"),
        ({"sub": 17}, "claim sub"),
        ({"team": ["north", "south"]}, "claim team"),
        ({"team": "a\nb"}, "claim team"),
        ({"row_scope": "everything"}, "claim row_scope is none of own, team, all"),
        ({"row_scope": ["all"]}, "claim row_scope is none of"),
        ({"scope": {"admin": True}}, "claim scope is neither"),
        ({"scope": 1}, "claim scope is neither"),
    ],
)
def test_a_claim_that_cannot_be_read_refuses_the_token(
    changes: dict[str, object], detail: str
) -> None:
    with pytest.raises(Unauthenticated, match=detail):
        bearer_of(claims(**changes), ClaimNames(rows=RowScope.ALL))
