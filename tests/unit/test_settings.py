"""Settings: where they come from, and what is said of a wrong one."""

import os
import pickle
from datetime import timedelta
from pathlib import Path

import pytest

from app.settings import Settings, SettingsError, load_settings, variable


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("SLUICE_", "DATABASE_")):
            monkeypatch.delenv(name)


def test_without_any_variable_the_service_runs_its_own_database_on_loopback() -> None:
    settings = load_settings()
    assert settings.database_url is None
    assert settings.owner_url is None
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 8000, 1)
    assert settings.idle_scan_interval == timedelta(seconds=5)


def test_the_default_data_folder_is_one_that_the_servers_account_can_enter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert load_settings().data_dir == Path("/var/lib/sluice")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert load_settings().data_dir == Path(".sluice")


@pytest.mark.parametrize("field", list(Settings.model_fields))
def test_every_setting_says_what_it_accepts(field: str) -> None:
    assert Settings.model_fields[field].description
    assert variable(field) in {f"SLUICE_{field.upper()}", field.upper()}


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
def test_a_database_url_gets_the_driver(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    monkeypatch.setenv("DATABASE_URL", f"{scheme}://user:p%40ss@host:5433/deals?ssl=require")
    settings = load_settings()
    assert settings.database_url == "postgresql+asyncpg://user:p%40ss@host:5433/deals?ssl=require"
    assert settings.owner_url == settings.database_url


def test_the_owners_url_is_for_migrations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://sluice@host/deals")
    monkeypatch.setenv("DATABASE_OWNER_URL", "postgresql://boss@host/deals")
    assert load_settings().owner_url == "postgresql+asyncpg://boss@host/deals"


@pytest.mark.parametrize(
    ("text", "seconds"), [("PT10S", 10), ("PT1M30S", 90), ("7", 7), ("0.5", 0.5), ("PT0.25S", 0.25)]
)
def test_an_interval_is_iso_8601_or_seconds(
    monkeypatch: pytest.MonkeyPatch, text: str, seconds: float
) -> None:
    monkeypatch.setenv("SLUICE_IDLE_SCAN_INTERVAL", text)
    assert load_settings().idle_scan_interval == timedelta(seconds=seconds)


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_PORT", "")
    assert load_settings().port == 8000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SLUICE_PORT", "80x"),
        ("SLUICE_PORT", "65536"),
        ("SLUICE_WORKERS", "0"),
        ("SLUICE_POOL_SIZE", "1000"),
        ("SLUICE_DEMO", "perhaps"),
        ("SLUICE_LOG_LEVEL", "loud"),
        ("SLUICE_IDLE_SCAN_INTERVAL", "00:00:05"),
        ("SLUICE_IDLE_SCAN_INTERVAL", "PT0S"),
        ("SLUICE_IDLE_SCAN_INTERVAL", "P1M"),
        ("SLUICE_IDLE_SCAN_INTERVAL", "-5"),
        ("SLUICE_JWT_JWKS", "http://issuer.example/keys"),
        ("SLUICE_JWT_JWKS", "file:///etc/keys.json"),
        ("SLUICE_JWT_JWKS", "https://"),
        ("SLUICE_JWT_ALGORITHMS", "HS256"),
        ("SLUICE_JWT_ALGORITHMS", "RS256 none"),
        ("SLUICE_JWT_ALGORITHMS", "rs256"),
        ("SLUICE_JWT_ALGORITHMS", ","),
        ("SLUICE_JWT_LEEWAY", "31"),
        ("SLUICE_JWT_LEEWAY", "PT1M"),
        ("SLUICE_JWT_SUBJECT_CLAIM", "user name"),
        ("SLUICE_JWT_DEFAULT_ROW_SCOPE", "some"),
        ("DATABASE_URL", "mysql://user@host/db"),
        ("DATABASE_URL", "postgresql+psycopg://user@host/db"),
    ],
)
def test_a_wrong_value_names_its_variable_and_what_is_accepted(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=rf"^{name}: .*Accepted: .+\.$"):
        load_settings()


def test_an_unknown_variable_of_ours_is_taken_for_a_slip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_PROT", "8000")
    with pytest.raises(SettingsError, match=r"^SLUICE_PROT: there is no such setting.*SLUICE_PORT"):
        load_settings()


def test_all_faults_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_PORT", "x")
    monkeypatch.setenv("SLUICE_WORKERS", "y")
    monkeypatch.setenv("SLUICE_TYPO", "z")
    with pytest.raises(SettingsError) as raised:
        load_settings()
    assert len(str(raised.value).splitlines()) == 3


@pytest.mark.parametrize("name", ["DATABASE_OWNER_URL", "DATABASE_READ_URL"])
def test_a_url_beside_the_embedded_database_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "postgresql://user@host/db")
    with pytest.raises(SettingsError, match=f"{name} needs DATABASE_URL"):
        load_settings()


@pytest.mark.parametrize("text", ["ES256 RS256", "ES256,RS256", " ES256, RS256 "])
def test_algorithms_are_words(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SLUICE_JWT_ALGORITHMS", text)
    assert load_settings().jwt_algorithms == ("ES256", "RS256")


TOGETHER = {
    "SLUICE_JWT_ISSUER": "https://issuer.example/",
    "SLUICE_JWT_AUDIENCE": "sluice",
    "SLUICE_JWT_JWKS": "/etc/sluice/jwks.json",
}


def test_an_issuer_is_configured_with_its_audience_and_its_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert load_settings().jwt_issuer is None
    for name, value in TOGETHER.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.jwt_issuer == TOGETHER["SLUICE_JWT_ISSUER"]
    assert settings.jwt_default_row_scope == "own"


@pytest.mark.parametrize("lacking", TOGETHER)
def test_an_issuer_without_its_audience_or_keys_is_refused(
    monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    for name in TOGETHER.keys() - {lacking}:
        monkeypatch.setenv(name, TOGETHER[name])
    with pytest.raises(SettingsError, match=f"needs {lacking} beside"):
        load_settings()


def test_neither_the_repr_nor_a_message_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:canary@host/db")
    monkeypatch.setenv("SLUICE_BOOTSTRAP_KEY", "canary")
    assert "canary" not in repr(load_settings())
    monkeypatch.setenv("DATABASE_URL", "mysql://user:canary@host/db")
    with pytest.raises(SettingsError) as raised:
        load_settings()
    assert "canary" not in str(raised.value)


def test_settings_travel_to_a_worker_whole_and_cannot_be_changed() -> None:
    settings = Settings(port=1, database_url="postgresql://host/db")
    assert pickle.loads(pickle.dumps(settings)) == settings
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 2  # type: ignore[misc] # which is the point
