"""How commands end."""

from __future__ import annotations

import click
import pytest

from cli import main


def test_a_command_that_is_stopped_writes_nothing_but_its_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "settings_with", stopped)
    with pytest.raises(click.Abort):
        main.cli(["status"], standalone_mode=False)
    assert capsys.readouterr() == ("", "")
