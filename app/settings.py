"""What the service is told from outside, read once from the environment and passed on.

`load_settings` is the only reader of the environment; nothing else looks there, and there is no
global. Each field's description says what is accepted: an error message and the README's table
are made of it.
"""

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_PREFIX = "SLUICE_"
_SECONDS = re.compile(r"\d+(?:\.\d+)?")
_CLAIM = r"^[\x21-\x7e]{1,200}$"
_ORIGIN = r"^https?://[a-z0-9.-]+(:[0-9]{1,5})?$"
_URL = re.compile(r"postgres(?:ql)?(?:\+asyncpg)?://(?P<rest>.+)")


class SettingsError(Exception):
    """A setting is wrong; the message names each variable, its fault and what is accepted."""


def _with_driver(url: str) -> str:
    """The same URL with the driver SQLAlchemy is to use; the plain scheme is what others hand out.

    Says nothing of the URL when it is wrong: it may hold a password.
    """
    match = _URL.fullmatch(url)
    if match is None:
        raise PydanticCustomError("database_url", "is not a PostgreSQL URL")
    return f"postgresql+asyncpg://{match['rest']}"


def _seconds_or_iso(value: object) -> object:
    """Take plain seconds, and leave ISO 8601 to Pydantic; refuse the other notations it knows."""
    if not isinstance(value, str):
        return value
    if _SECONDS.fullmatch(value):
        return timedelta(seconds=float(value))
    if not value.startswith("P"):
        raise PydanticCustomError("duration", "is no duration")
    return value


def _jwks_location(text: str) -> str:
    """An https URL, or a path; what looks like another URL is neither."""
    scheme, separator, rest = text.partition("://")
    if separator and (scheme != "https" or not rest.strip("/")):
        raise PydanticCustomError("jwks", "is neither an https URL nor a path")
    return text


def _words(value: object) -> object:
    return tuple(re.split(r"[\s,]+", value.strip(" ,"))) if isinstance(value, str) else value


def _default_data_dir() -> Path:
    # As root the database runs under an unprivileged account, to which root's own folders are
    # closed.
    return Path("/var/lib/sluice") if os.geteuid() == 0 else Path(".sluice")


DatabaseUrl = Annotated[str, AfterValidator(_with_driver)]
Algorithms = Annotated[
    tuple[Literal["RS256", "ES256", "EdDSA"], ...],
    NoDecode,
    BeforeValidator(_words),
    Field(min_length=1),
]
Origins = Annotated[
    tuple[Annotated[str, Field(pattern=_ORIGIN)], ...], NoDecode, BeforeValidator(_words)
]
ClaimName = Annotated[str, Field(pattern=_CLAIM)]
Interval = Annotated[timedelta, BeforeValidator(_seconds_or_iso)]


class Settings(BaseSettings):
    """Every setting, its variable and its default."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_ignore_empty=True,  # NAME= in a compose file means "not set"
        frozen=True,
        extra="forbid",
        validate_by_name=True,
        validate_by_alias=True,
        hide_input_in_errors=True,
    )

    database_url: DatabaseUrl | None = Field(
        default=None,
        repr=False,  # it may hold a password
        validation_alias="DATABASE_URL",
        description="postgresql://user:password@host/database of PostgreSQL 15 or newer; "
        "unset: the service runs its own PostgreSQL",
    )
    database_owner_url: DatabaseUrl | None = Field(
        default=None,
        repr=False,  # it may hold a password
        validation_alias="DATABASE_OWNER_URL",
        description="the same database as the login that owns the schema, for migrations; "
        "unset: DATABASE_URL",
    )
    database_read_url: DatabaseUrl | None = Field(
        default=None,
        repr=False,  # it may hold a password
        validation_alias="DATABASE_READ_URL",
        description="a replica, for metrics and exports; unset: DATABASE_URL",
    )
    host: str = Field(
        default="127.0.0.1", min_length=1, description="the address to listen on; 0.0.0.0 for all"
    )
    port: int = Field(
        default=8000, ge=0, le=65_535, description="a port from 1 to 65535, or 0 for any free one"
    )
    data_dir: Path = Field(
        default_factory=_default_data_dir,
        description="the folder of the service's own PostgreSQL; unset: .sluice in the working "
        "directory, as root /var/lib/sluice",
    )
    bootstrap_key: SecretStr | None = Field(
        default=None,
        min_length=1,
        description="the admin key to make on the first start; unset: a random one, printed once",
    )
    demo: bool = Field(
        default=True, description="1 or 0: whether an empty workspace gets a demo pipeline"
    )
    jobs: bool = Field(
        default=True,
        description="1 or 0: whether this process looks for idle deals, runs imports, folds deals"
        " for metrics and clears what is old by itself; one that does not leaves all of it to"
        " others on the same database",
    )
    idle_scan_interval: Interval = Field(
        default=timedelta(seconds=5),
        ge=timedelta(milliseconds=100),
        le=timedelta(hours=1),
        description="the time between two scans for idle deals, an ISO 8601 duration (PT5S) or "
        "seconds (5), from 0.1 seconds to an hour",
    )
    stream_heartbeat: Interval = Field(
        default=timedelta(seconds=15),
        ge=timedelta(milliseconds=100),
        le=timedelta(minutes=5),
        description="the time after which an event stream that has nothing to tell sends a "
        "comment, an ISO 8601 duration (PT15S) or seconds (15), from 0.1 seconds to 5 minutes",
    )
    stream_lifetime: Interval = Field(
        default=timedelta(hours=1),
        ge=timedelta(seconds=1),
        le=timedelta(days=1),
        description="the time after which an event stream is ended, for its client to come back "
        "with a key that is good still, an ISO 8601 duration (PT1H) or seconds (3600), from a "
        "second to a day",
    )
    webhooks: bool = Field(default=True, description="1 or 0: whether this service sends webhooks")
    webhooks_allow_loopback: bool = Field(
        default=False,
        description="1 or 0: whether webhooks may go to this machine itself, by http too; for "
        "development alone",
    )
    cors_origins: Origins = Field(
        default=(),
        description="the origins whose pages may call the API from a browser, like "
        "https://app.example.com, separated by spaces; unset: none",
    )
    jwt_issuer: str | None = Field(
        default=None,
        min_length=1,
        description="the issuer whose tokens (JWT) are taken beside API keys, as their claim iss "
        "has it; unset: tokens are refused",
    )
    jwt_audience: str | None = Field(
        default=None, min_length=1, description="what the claim aud of a token must be or hold"
    )
    jwt_jwks: Annotated[str, AfterValidator(_jwks_location)] | None = Field(
        default=None,
        min_length=1,
        description="where the issuer's public keys (JWKS) are: an https URL, or the path of a "
        "file",
    )
    jwt_algorithms: Algorithms = Field(
        default=("RS256", "ES256", "EdDSA"),
        description="the algorithms that a token may be signed with: some of RS256, ES256, EdDSA",
    )
    jwt_leeway: Interval = Field(
        default=timedelta(seconds=10),
        ge=timedelta(0),
        le=timedelta(seconds=30),
        description="how far the issuer's clock may be off, an ISO 8601 duration (PT10S) or "
        "seconds (10), at most 30 seconds",
    )
    jwt_workspace_claim: ClaimName = Field(
        default="workspace", description="the claim that holds the key of the workspace"
    )
    jwt_subject_claim: ClaimName = Field(
        default="sub", description="the claim that holds the caller's name, the actor in the log"
    )
    jwt_team_claim: ClaimName = Field(
        default="team", description="the claim that holds the caller's team"
    )
    jwt_row_scope_claim: ClaimName = Field(
        default="row_scope", description="the claim that holds the row scope: own, team or all"
    )
    jwt_scopes_claim: ClaimName = Field(
        default="scope",
        description="the claim that holds the scopes, a text of words or a list; others than ours "
        "are passed over",
    )
    jwt_default_row_scope: Literal["own", "team", "all"] = Field(
        default="own",
        description="own, team or all: the row scope of a token that names none",
    )
    rate_limit_key: float = Field(
        default=1000,
        ge=0,
        le=1_000_000,
        allow_inf_nan=False,
        description="requests a second that a worker takes with one credential, up to 1000000; 0: "
        "any number",
    )
    rate_limit_workspace: float = Field(
        default=4000,
        ge=0,
        le=1_000_000,
        allow_inf_nan=False,
        description="requests a second that a worker takes for one workspace, up to 1000000; 0: "
        "any number",
    )
    rate_limit_costly_key: float = Field(
        default=100,
        ge=0,
        le=1_000_000,
        allow_inf_nan=False,
        description="the same of costly requests with one credential, which count by themselves: "
        "metrics, digests, idle thresholds tried and suggested, idle scans, batches, imports, "
        "exports",
    )
    rate_limit_costly_workspace: float = Field(
        default=400,
        ge=0,
        le=1_000_000,
        allow_inf_nan=False,
        description="the same of costly requests for one workspace",
    )
    rate_limit_wrong_keys: float = Field(
        default=20,
        ge=0,
        le=1_000_000,
        allow_inf_nan=False,
        description="wrong API keys a second that a worker looks up for one client address, up to "
        "1000000; 0: any number",
    )
    rate_limit_burst: Interval = Field(
        default=timedelta(seconds=10),
        ge=timedelta(seconds=1),
        le=timedelta(hours=1),
        description="what may come in this time may come at once, an ISO 8601 duration (PT10S) or "
        "seconds (10), from a second to an hour",
    )
    requests_at_once: int = Field(
        default=256,
        ge=0,
        le=100_000,
        description="requests that a worker has in progress before it answers 503 to more, up to "
        "100000; 0: any number",
    )
    streams_at_once: int = Field(
        default=512,
        ge=0,
        le=100_000,
        description="event streams that a worker has open before it answers 503 to more, up to "
        "100000; 0: any number. Each needs an open file",
    )
    workers: int = Field(
        default=1, ge=1, le=64, description="the number of worker processes, from 1 to 64"
    )
    pool_size: int = Field(
        default=10, ge=1, le=100, description="database connections of a pool, from 1 to 100"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="debug, info, warning or error"
    )

    @model_validator(mode="after")
    def _one_database(self) -> Self:
        for name in ("database_owner_url", "database_read_url"):
            if getattr(self, name) is not None and self.database_url is None:
                raise PydanticCustomError(
                    "database_url", "{name} needs DATABASE_URL beside it", {"name": name.upper()}
                )
        return self

    @model_validator(mode="after")
    def _one_issuer(self) -> Self:
        together = ("jwt_issuer", "jwt_audience", "jwt_jwks")
        given = [variable(name) for name in together if getattr(self, name) is not None]
        lacking = [variable(name) for name in together if getattr(self, name) is None]
        if given and lacking:
            raise PydanticCustomError(
                "jwt",
                "{given} needs {lacking} beside it: tokens need all three or none",
                {"given": " and ".join(given), "lacking": " and ".join(lacking)},
            )
        return self

    @property
    def owner_url(self) -> str | None:
        """Where migrations connect; None as long as the database is the service's own."""
        return self.database_owner_url or self.database_url


def variable(field: str) -> str:
    """The environment variable of a field: `port` is SLUICE_PORT."""
    alias = Settings.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else f"{_PREFIX}{field.upper()}"


def load_settings() -> Settings:
    """Read the environment; raises `SettingsError` with a line for each thing that is wrong."""
    known = {variable(field) for field in Settings.model_fields}
    faults = [
        f"{name}: there is no such setting. Known are {', '.join(sorted(known))}."
        for name in sorted(os.environ)
        if name.startswith(_PREFIX) and name not in known
    ]
    try:
        settings = Settings()
    except ValidationError as error:
        faults += [_fault(entry["loc"], entry["msg"]) for entry in error.errors()]
        raise SettingsError("\n".join(faults)) from None
    if faults:
        raise SettingsError("\n".join(faults))
    return settings


def _fault(location: tuple[int | str, ...], message: str) -> str:
    if not location:  # two settings that do not go together
        return f"{message}."
    fields = {variable(field): field for field in Settings.model_fields}
    name = str(location[0])
    name = name if name in fields else variable(name)
    accepted = Settings.model_fields[fields[name]].description
    return f"{name}: {message}. Accepted: {accepted}."
