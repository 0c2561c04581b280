"""The pepper of the keys: from the settings, or from a file that is made once."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from conductor_ai.errors import InvalidInput, StoreUnavailable
from conductor_ai.settings import Settings
from conductor_ai.wiring.pepper import FILE_NAME, key_pepper

POSTGRES = "postgresql://app:password@db.example.com/conductor"


def test_the_variable_wins_and_no_file_is_made(conductor_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDUCTOR_KEY_PEPPER", "sixteen or more.")
    assert key_pepper(Settings.load()) == b"sixteen or more."
    assert not conductor_home.exists()


def test_a_variable_that_could_be_guessed_is_refused(conductor_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDUCTOR_KEY_PEPPER", "too short to do")
    with pytest.raises(InvalidInput, match="shorter than 16 characters") as caught:
        key_pepper(Settings.load())
    assert "too short to do" not in f"{caught.value} {caught.value.hint}"


def test_the_file_is_made_once_for_its_owner_only(conductor_home: Path) -> None:
    previous = os.umask(0)
    try:
        first = key_pepper(Settings.load())
    finally:
        os.umask(previous)
    assert len(first) == 64
    assert key_pepper(Settings.load()) == first
    assert [path.name for path in conductor_home.iterdir()] == [FILE_NAME]
    assert stat.S_IMODE((conductor_home / FILE_NAME).stat().st_mode) == 0o600
    assert stat.S_IMODE(conductor_home.stat().st_mode) == 0o700


def test_processes_that_begin_at_once_agree_on_it(conductor_home: Path) -> None:
    script = (
        "from conductor_ai.settings import Settings; from conductor_ai.wiring.pepper import key_pepper;"
        " settings = Settings.load(); print(end='.', flush=True); input(); print(key_pepper(settings).decode())"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.read(1) == "."
    outputs = {process.communicate("\n", timeout=60)[0] for process in processes}
    assert len(outputs) == 1
    assert [path.name for path in conductor_home.iterdir()] == [FILE_NAME]


def test_two_homes_have_two(conductor_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = key_pepper(Settings.load())
    monkeypatch.setenv("CONDUCTOR_HOME", str(conductor_home / "other"))
    assert key_pepper(Settings.load()) != first


def test_production_on_postgres_needs_the_variable(conductor_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", POSTGRES)
    key_pepper(Settings.load())
    monkeypatch.setenv("APP_ENV", "production")
    with pytest.raises(InvalidInput, match="CONDUCTOR_KEY_PEPPER is not set") as caught:
        key_pepper(Settings.load())
    assert "openssl rand" in str(caught.value.hint)
    monkeypatch.delenv("DATABASE_URL")
    key_pepper(Settings.load())


@pytest.mark.parametrize("content", ["", "short\n"])
def test_a_file_that_is_no_pepper_is_reported_and_left_alone(conductor_home: Path, content: str) -> None:
    conductor_home.mkdir()
    path = conductor_home / FILE_NAME
    path.write_text(content)
    with pytest.raises(InvalidInput, match="is damaged"):
        key_pepper(Settings.load())
    assert path.read_text() == content


def test_a_home_that_is_a_file_is_unavailable(conductor_home: Path) -> None:
    conductor_home.write_text("")
    with pytest.raises(StoreUnavailable):
        key_pepper(Settings.load())
