"""Files that parlab ships, by name: configurations and the small model, in a checkout and in an installed wheel."""

from __future__ import annotations

from pathlib import Path

from parlab.errors import UserError

PACKAGE = Path(__file__).resolve().parents[1]


def configs() -> Path:
    """The folder of the shipped configurations (``model/``, ``data/``, ``trainer/``, ``decoder/``)."""
    return _shipped(PACKAGE / "configs", PACKAGE.parent / "configs")


def shipped_model(name: str = "an4") -> Path:
    """The folder of a model that parlab ships.

    Raises:
        UserError: this installation lacks it.
    """
    folder = _shipped(PACKAGE / "models" / name, PACKAGE.parent / "recipes" / name / "model")
    if not (folder / "config.yaml").is_file():
        raise UserError(f"there is no model in {folder}, expected the one that parlab ships; give --model")
    return folder


def _shipped(installed: Path, in_checkout: Path) -> Path:
    return installed if installed.is_dir() else in_checkout


def find_config(name: str, folder: Path = Path()) -> Path:
    """The file that ``name`` stands for: a path relative to ``folder``, else a shipped configuration.

    A name of neither is taken as the path, so that the error of reading it names that.
    """
    path = folder / Path(name).expanduser()
    shipped = configs() / name
    return shipped if not _is_file(path) and _is_file(shipped) else path


def resolve_config(name: str) -> str:
    """The value of ``--config``: the path of a shipped configuration where no file is called ``name``, else ``name``."""
    return name if _is_file(Path(name).expanduser()) or not _is_file(configs() / name) else str(configs() / name)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # the value is no path but YAML text
        return False
