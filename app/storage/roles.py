"""The database roles, as statements that may be run again and again.

`owner` owns the schema and migrates it. The service's own `login` takes one of two roles at the
head of each transaction: `sluice_app`, which sees one workspace, or `sluice_jobs`, which asks in
which workspaces there is work. Neither can log in, and the login inherits nothing from them: a
statement that forgot to take a role may do nothing. Owner and login may be the same.

What the roles may do in the schema is the migrations' matter.
"""

APP = "sluice_app"
JOBS = "sluice_jobs"
OWNER = "sluice_owner"
LOGIN = "sluice"

_GRANTS_WITH_OPTIONS = 16_00_00  # `WITH INHERIT FALSE, SET TRUE` came with PostgreSQL 16


def statements(server_version: int, owner: str, login: str) -> list[str]:
    """The statements that make what is missing of the roles and their memberships.

    `server_version` is PostgreSQL's `server_version_num` (180004). Each statement is one line, so
    that single-user mode takes it as well. Who runs them needs CREATEROLE only where something is
    missing. On PostgreSQL 15, where inheritance is a property of the member, a login that is not
    the owner is set to NOINHERIT.
    """
    made = [
        _create(APP, "NOLOGIN"),
        _create(JOBS, "NOLOGIN"),
        _create(owner, "LOGIN CREATEDB"),
        _create(login, "LOGIN NOINHERIT"),
    ]
    if server_version < _GRANTS_WITH_OPTIONS and login != owner:
        made.append(_stop_inheriting(login))
    for member in dict.fromkeys((owner, login)):
        made.extend(_grant(role, member, server_version) for role in (APP, JOBS))
    return made


def _create(role: str, attributes: str) -> str:
    return _unless(
        f"EXISTS (SELECT FROM pg_roles WHERE rolname = {_literal(role)})",
        f"CREATE ROLE {_identifier(role)} {attributes}",
    )


def _stop_inheriting(role: str) -> str:
    return _unless(
        f"EXISTS (SELECT FROM pg_roles WHERE rolname = {_literal(role)} AND NOT rolinherit)",
        f"ALTER ROLE {_identifier(role)} NOINHERIT",
    )


def _grant(role: str, member: str, server_version: int) -> str:
    options, privilege = "", "MEMBER"
    if server_version >= _GRANTS_WITH_OPTIONS:
        options, privilege = " WITH INHERIT FALSE, SET TRUE", "SET"
    return _unless(
        f"pg_has_role({_literal(member)}, {_literal(role)}, '{privilege}')",
        f"GRANT {_identifier(role)} TO {_identifier(member)}{options}",
    )


def _unless(condition: str, statement: str) -> str:
    return f"DO $sluice$ BEGIN IF NOT {condition} THEN {statement}; END IF; END $sluice$"


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
