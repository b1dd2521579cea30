"""Files that lie outside the package in the repository and inside it in a wheel; all else stands in pyproject.toml.

An editable installation copies nothing: ``parlab.options.resources`` finds the files in the checkout.
"""

from __future__ import annotations

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = {"configs": "parlab/configs", "recipes/an4/model": "parlab/models/an4"}


class BuildWithFiles(build_py):
    """``build_py`` that also copies the files of ``SHIPPED``."""

    def _files(self) -> dict[str, str]:
        """Source to target."""
        return {
            str(path): str(Path(self.build_lib, target, path.relative_to(source)))
            for source, target in SHIPPED.items()
            for path in sorted(Path(source).rglob("*"))
            if path.is_file()
        }

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for source, target in self._files().items():
            self.mkpath(str(Path(target).parent))
            self.copy_file(source, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        own = [] if self.editable_mode else list(self._files().values())
        return [*super().get_outputs(include_bytecode), *own]


setup(cmdclass={"build_py": BuildWithFiles})
