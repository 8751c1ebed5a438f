"""Writes ``deeper/_commit.txt`` into wheels and sdists; Hatchling calls it (pyproject.toml)."""

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CommitHook(BuildHookInterface):
    """Adds the commit that the code is of, where that is known."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Have one file more put into what is built."""
        package = Path(self.root) / "src" / "deeper"
        spec = importlib.util.spec_from_file_location("deeper_version", package / "version.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        text = module.commit_text()
        # An editable install asks git; an unpacked sdist has the file already.
        if text is None or version == "editable" or (package / module.COMMIT_FILE).is_file():
            return
        self.folder = tempfile.TemporaryDirectory()
        file = Path(self.folder.name) / module.COMMIT_FILE
        file.write_text(text)
        target = "src/deeper/" if self.target_name == "sdist" else "deeper/"
        build_data["force_include"][str(file)] = target + module.COMMIT_FILE

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the temporary file."""
        if hasattr(self, "folder"):
            self.folder.cleanup()
