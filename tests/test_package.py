"""The project around the package: metadata, typing marker, the README's commands, the CI that runs them."""

import re
import subprocess
import tomllib
from importlib import metadata, resources
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def setup_blocks() -> list[str]:
    """The bash blocks under the README's heading `## Set up`, in order."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = re.search(r"^## Set up\n(.*?)(?=^## |\Z)", readme, re.DOTALL | re.MULTILINE)
    assert section is not None, "README.md has no heading '## Set up'"
    return re.findall(r"^```bash\n(.*?)^```$", section[1], re.DOTALL | re.MULTILINE)


def installed() -> metadata.Distribution:
    try:
        return metadata.distribution("titans-mlx")
    except metadata.PackageNotFoundError:
        pytest.skip("titans-mlx is on the path but not installed: pip install -e '.[dev]'")


def test_installed_metadata_is_what_pyproject_says():
    distribution = installed()
    assert distribution.version == project()["version"]
    assert distribution.metadata["Requires-Python"] == project()["requires-python"]
    assert distribution.metadata["License-Expression"] == "Apache-2.0"


def test_each_platform_gets_its_mlx():
    mlx = [r for r in project()["dependencies"] if re.match(r"mlx\W", r) and not r.startswith("mlx-")]
    assert mlx == ["mlx>=0.32.4; sys_platform == 'darwin'", "mlx[cpu]>=0.32.4; sys_platform == 'linux'"]


def test_the_package_is_typed():
    assert resources.files("titans_mlx").joinpath("py.typed").is_file()


def test_readme_sets_up_with_two_commands_of_one_line():
    blocks = setup_blocks()
    assert len(blocks) == 2
    assert [block.count("\n") for block in blocks] == [1, 1]
    assert "notebooks/titans_claims.py" in blocks[0]
    assert "pytest" in blocks[1]


def test_ci_runs_the_readme_command():
    asked = subprocess.run(
        [ROOT / ".ci" / "run", "--show-command"], capture_output=True, text=True, check=True, timeout=60
    )
    assert asked.stdout == setup_blocks()[1]
