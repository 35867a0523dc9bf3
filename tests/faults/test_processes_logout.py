"""A login manager that ends a user's processes at logout: reported when a run is started, with what
keeps it alive."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from rnnlm_tui.cli.main import run
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.system.processes import (
    EndsAtLogout,
    ends_at_logout,
    kills_processes_of,
    login_settings,
    own_group,
)
from rnnlm_tui.tui.screens.run_commands import start
from tests.tui.support import at_home, lines_of, until

pytestmark = pytest.mark.fault(
    "the login manager ends what you leave running (`KillUserProcesses`)"
)

SESSION = "0::/user.slice/user-1000.slice/session-3.scope\n"
MANAGED = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/tmux.scope\n"
ELSEWHERE = "0::/system.slice/cron.service\n"
KILLS = "[Login]\nKillUserProcesses=yes\nKillExcludeUsers=\n"
USER = pwd.getpwuid(os.geteuid()).pw_name


def machine(
    root: Path, cgroup: str, settings: str = "", *, lingers: bool = False, systemd: bool = True
) -> Path:
    """The files of a machine that decide what happens to processes at logout."""
    files = {
        "proc/self/cgroup": cgroup,
        "etc/systemd/logind.conf": "[Login]\n#KillUserProcesses=yes\n",
        "etc/systemd/logind.conf.d/lab.conf": settings,
    }
    if lingers:
        files[f"var/lib/systemd/linger/{USER}"] = ""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    if systemd:
        (root / "run/systemd/system").mkdir(parents=True)
    return root


def test_a_login_session_ends_a_run_at_logout_and_a_user_scope_does_not(tmp_path: Path) -> None:
    end = ends_at_logout(machine(tmp_path, SESSION, KILLS))
    assert end is not None
    assert "KillUserProcesses=yes" in end.fact
    assert (
        end.hint
        == "loginctl enable-linger, then start it with: systemd-run --user --scope rnnlm-tui …"
    )


def test_lingering_alone_does_not_keep_processes_of_a_login_session(tmp_path: Path) -> None:
    end = ends_at_logout(machine(tmp_path, SESSION, KILLS, lingers=True))
    assert end is not None
    assert end.hint == "start it with: systemd-run --user --scope rnnlm-tui …"


def test_processes_of_the_user_manager_end_with_it_unless_the_user_lingers(tmp_path: Path) -> None:
    end = ends_at_logout(machine(tmp_path / "a", MANAGED))
    assert end is not None
    assert end.hint == "loginctl enable-linger"
    assert ends_at_logout(machine(tmp_path / "b", MANAGED, KILLS, lingers=True)) is None


@pytest.mark.parametrize(
    ("cgroup", "settings", "systemd"),
    [
        (SESSION, "", True),
        (SESSION, "KillUserProcesses=no", True),
        (ELSEWHERE, KILLS, True),
        ("", KILLS, True),
        (SESSION, KILLS, False),
    ],
    ids=["by default", "said so", "a service", "no group", "no systemd"],
)
def test_no_warning_where_nothing_ends_a_run(
    tmp_path: Path, cgroup: str, settings: str, systemd: bool
) -> None:
    assert ends_at_logout(machine(tmp_path, cgroup, settings, systemd=systemd)) is None


def test_a_file_in_etc_overrides_one_of_the_same_name_in_usr(tmp_path: Path) -> None:
    root = machine(tmp_path, SESSION, "KillUserProcesses=no")
    vendor = root / "usr/lib/systemd/logind.conf.d"
    vendor.mkdir(parents=True)
    (vendor / "lab.conf").write_text(KILLS)
    assert ends_at_logout(root) is None
    (vendor / "zz.conf").write_text(KILLS)
    assert ends_at_logout(root) is not None


@pytest.mark.parametrize(
    ("settings", "user", "kills"),
    [
        ("", "ann", False),
        ("KillUserProcesses=yes", "ann", True),
        ("KillUserProcesses=yes", "root", False),
        ("KillUserProcesses=yes\nKillExcludeUsers=ann bob", "bob", False),
        ("KillUserProcesses=yes\nKillOnlyUsers=ann", "bob", False),
        ("KillUserProcesses=yes\nKillOnlyUsers=ann", "ann", True),
        ("KillUserProcesses=yes\nKillUserProcesses = no", "ann", False),
        ("#KillUserProcesses=yes", "ann", False),
    ],
)
def test_users_that_the_login_manager_spares(
    tmp_path: Path, settings: str, user: str, kills: bool
) -> None:
    root = machine(tmp_path, SESSION, settings)
    assert kills_processes_of(user, login_settings(root)) is kills


def test_the_group_is_found_in_both_versions_of_control_groups() -> None:
    assert own_group(SESSION) == "/user.slice/user-1000.slice/session-3.scope"
    assert own_group(
        "12:cpu:/\n1:name=systemd:/user.slice/user-1000.slice/session-3.scope\n0::/\n"
    ).endswith("session-3.scope")
    assert own_group("") == ""


@pytest.mark.usefixtures("warm")
def test_starting_a_run_from_the_command_line_warns(
    text: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "rnnlm_tui.system.processes.ends_at_logout",
        lambda: EndsAtLogout("logging out ends it", "loginctl enable-linger"),
    )
    assert (
        run(
            [
                "train",
                "--set",
                f"corpus.source={text}",
                "--set",
                "tokenizer.kind=character",
                "--set",
                "tokenizer.vocab_size=64",
                "--detach",
                "--name",
                "otter",
            ]
        )
        == 0
    )
    out, err = capsys.readouterr()
    assert out == "otter\n"
    assert "logging out ends it\nloginctl enable-linger\n" in err


async def test_starting_a_run_in_the_app_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    end = EndsAtLogout("logging out ends it", "loginctl enable-linger")
    async with at_home(None) as (app, pilot):
        monkeypatch.setattr("rnnlm_tui.system.processes.ends_at_logout", lambda: end)
        app.run_beside(start(app, DEMO))
        await until(pilot, lambda: any("logging out ends it" in line for line in lines_of(app)))
        assert any("loginctl enable-linger" in line for line in lines_of(app))
