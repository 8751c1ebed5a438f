"""YAML files of other packages: ``[project.entry-points."deeper.conf"]``.

A package that is installed with such an entry point, whose value is the package that holds its YAML
files, needs no ``--config-dir``. The plugin has to be in this namespace for Hydra to find it. Every
Hydra program on the machine imports it, so it does not import deeper, and changes only deeper's
search path.
"""

from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

GROUP = "deeper.conf"


class PackagesSearchPath(SearchPathPlugin):
    """Adds the directories of the entry points after ``conf/``, in the order of their names."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add the directories to the search path."""
        if not any(_is_ours(str(part.path)) for part in search_path.get_path()):
            return
        for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
            search_path.append(provider=point.name, path=f"pkg://{point.value}")


def _is_ours(path: str) -> bool:
    spec = find_spec("deeper")
    if spec is None or spec.origin is None:
        return False
    package = Path(spec.origin).resolve().parent
    return path.removeprefix("file://") in (str(package / "conf"), str(package.parents[1] / "conf"))
