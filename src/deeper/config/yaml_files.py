"""Where the YAML files are."""

from pathlib import Path


def conf_directory() -> Path:
    """Return where the YAML files are: in the checkout, or inside an installed package."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"
