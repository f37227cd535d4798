"""Put conf/ and the scripts of src/ into the wheel; everything else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConf(build_py):
    """Copies them into the package, where `tempo.paths` looks for them; an editable install needs no copy."""

    def run(self) -> None:
        """Build, then copy."""
        super().run()
        if self.editable_mode:
            return
        package = Path(self.build_lib, "tempo")
        own = shutil.ignore_patterns("local")  # a machine's own settings
        shutil.copytree("conf", package / "conf", ignore=own, dirs_exist_ok=True)
        (package / "scripts").mkdir(exist_ok=True)
        for script in Path("src").glob("*.py"):
            shutil.copy(script, package / "scripts")


setup(cmdclass={"build_py": BuildWithConf})
