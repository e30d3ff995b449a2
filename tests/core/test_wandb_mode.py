"""The mode of W&B: the parameter, then W&B's own variables, then the key."""

import pytest

from lib.core.errors import InputError
from lib.core.wandb_mode import wandb_mode


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_MODE", "WANDB_DISABLED", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("key", ["", "0" * 40])
@pytest.mark.parametrize(
    ("variable", "value", "mode"),
    [
        ("WANDB_MODE", "offline", "offline"),
        ("WANDB_MODE", "dryrun", "offline"),
        ("WANDB_MODE", "disabled", "disabled"),
        ("WANDB_MODE", "online", "online"),
        ("WANDB_MODE", "run", "online"),
        ("WANDB_MODE", "", None),
        ("WANDB_DISABLED", "true", "disabled"),
        ("WANDB_DISABLED", "false", None),
    ],
)
def test_variables_decide_for_auto(
    monkeypatch: pytest.MonkeyPatch, key: str, variable: str, value: str, mode: str | None
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setenv(variable, value)
    assert wandb_mode("auto") == (mode or ("online" if key else "offline"))
    assert [wandb_mode(given) for given in ("online", "offline", "disabled")] == ["online", "offline", "disabled"]


def test_unknown_value_of_the_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "ofline")
    with pytest.raises(InputError, match=r"WANDB_MODE is 'ofline': choose one of online, .*, or unset it"):
        wandb_mode("auto")
    assert wandb_mode("offline") == "offline"
