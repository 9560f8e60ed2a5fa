"""Fixtures every room's tests share: a database of one's own, and the rule on what may be skipped."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# a busy machine is no failure: what takes long is found by processor time and by ratios, elsewhere
settings.register_profile("retain", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("retain")

POSTGRES_DEFAULT = "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"


def skip_or_fail(need: str, reason: str) -> None:
    """Skip a test whose surroundings are missing, unless RETAIN_TEST_REQUIRE names them: then it is a failure."""
    required = os.environ.get("RETAIN_TEST_REQUIRE", "").replace(" ", "").split(",")
    if need in required:
        pytest.fail(f"{need} is required by RETAIN_TEST_REQUIRE but missing: {reason}")
    pytest.skip(f"{need}: {reason}")


@pytest.fixture(scope="session")
def postgres_server() -> str:
    """The address of a PostgreSQL server that answers (RETAIN_TEST_POSTGRES_URL, or the local default)."""
    import psycopg

    url = os.environ.get("RETAIN_TEST_POSTGRES_URL", POSTGRES_DEFAULT)
    plain = url.replace("postgresql+psycopg://", "postgresql://")
    try:
        psycopg.connect(plain, connect_timeout=5).close()
    except psycopg.OperationalError as error:
        skip_or_fail("postgres", f"no server at {url.split('@')[-1]} ({type(error).__name__})")
    return url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """A fresh, empty PostgreSQL database of this test's own, dropped afterwards."""
    import psycopg

    name = f"retain_test_{uuid.uuid4().hex[:12]}"
    plain = postgres_server.replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(plain, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"')
    try:
        yield f"{postgres_server.rsplit('/', 1)[0]}/{name}"
    finally:
        with psycopg.connect(plain, autocommit=True) as admin:
            admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
