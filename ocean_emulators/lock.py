"""What `dvc.lock` says: the values that results were made with."""

from typing import Any

from ocean_emulators.config.yaml_files import load_yaml
from ocean_emulators.errors import UserError
from ocean_emulators.workspace import Workspace, look_up


def locked_params(workspace: Workspace, stage: str) -> dict[str, Any]:
    """The values that a stage's result was made with, by their dotted keys; empty if it was not made.

    Raises
    ------
    UserError
        If `dvc.lock` is not as DVC writes it.
    """
    path = workspace.root / "dvc.lock"
    if not path.is_file():
        return {}
    content = load_yaml(path)
    try:
        return dict(content["stages"].get(stage, {}).get("params", {}).get(workspace.params.name, {}))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: not as DVC writes it; `git checkout {path.name}` brings it back") from error


def changed_since(workspace: Workspace) -> dict[str, tuple[Any, Any]]:
    """Values in `params.yaml` that differ from those that results were made with: dotted key -> (then, now)."""
    now = load_yaml(workspace.params)
    changed: dict[str, tuple[Any, Any]] = {}
    for stage in ("prepare", "stats", "train", "evaluate", "compare"):
        for key, then in locked_params(workspace, stage).items():
            changed |= differences(key, then, _get(now, key))
    return changed


def _get(tree: Any, key: str) -> Any:
    try:
        return look_up(tree, key)
    except (KeyError, TypeError):
        return None


def differences(key: str, then: Any, now: Any) -> dict[str, tuple[Any, Any]]:
    """The leaves in which two values of a dotted key differ, by their own keys."""
    if isinstance(then, dict) and isinstance(now, dict):
        prefix = f"{key}." if key else ""
        parts = [differences(f"{prefix}{k}", then.get(k), now.get(k)) for k in dict.fromkeys([*then, *now])]
        return {k: pair for part in parts for k, pair in part.items()}
    return {} if then == now else {key: (then, now)}
