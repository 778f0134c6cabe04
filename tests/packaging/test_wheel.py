"""The built wheel: what is in it, and that beside plain Airflow it adds itself and nothing else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

import airflow_provider_bitrix24
from tests.tools.printed import printed_json

pytestmark = pytest.mark.newest_only

ROOT = Path(__file__).resolve().parents[2]
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
PINS = ROOT / "requirements" / f"airflow-3.3-py{PYTHON}.txt"

AIRFLOW = """
import contextlib, io, json, sys
from airflow.__main__ import main
printed = []
for command in json.loads(sys.argv[1]):
    sys.argv = ["airflow", *command]
    with contextlib.redirect_stdout(io.StringIO()) as output:
        main()
    printed.append(output.getvalue())
print(json.dumps(printed))
"""
"""What the commands of Airflow print, by one process: it takes Airflow most of its time to start."""


def run(*command: str | Path, **env: str) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=ROOT, env=os.environ | env, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ".")
    (built,) = folder.glob("*.whl")
    return built


def test_name_and_version_come_from_one_place(wheel: Path) -> None:
    assert wheel.name == f"airflow_provider_bitrix24-{airflow_provider_bitrix24.__version__}-py3-none-any.whl"


def test_holds_the_package_and_only_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    metadata = f"airflow_provider_bitrix24-{airflow_provider_bitrix24.__version__}.dist-info"
    assert {Path(name).parts[0] for name in names} == {"airflow_provider_bitrix24", metadata}
    tracked = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "airflow_provider_bitrix24").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if not name.startswith(metadata)} == tracked
    assert "airflow_provider_bitrix24/py.typed" in tracked
    assert {"index.html", "page.css", "page.js"} <= {
        Path(name).name for name in names if name.startswith("airflow_provider_bitrix24/sandbox/page/")
    }
    assert f"{metadata}/licenses/LICENSE" in names


def test_declares_its_entry_points(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (path,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        text = archive.read(path).decode()
    assert "[apache_airflow_provider]" in text
    assert "airflow_provider_bitrix24.get_provider_info:get_provider_info" in text
    assert "[pytest11]" in text
    assert "bitrix24-airflow = airflow_provider_bitrix24.__main__:console" in text


def plain_airflow(folder: Path) -> Path:
    """An environment with Airflow's pins and nothing else: links to what is installed here, which takes no download."""
    venv.create(folder)
    here = Path(sysconfig.get_path("purelib"))
    there = folder / here.relative_to(sys.prefix)
    for name, version in re.findall(r"^([\w.-]+)(?:\[.*?\])?==([^\s;]+)", PINS.read_text(), re.MULTILINE):
        installed = distribution(name)
        assert installed.version == version
        for file in installed.files or ():
            if ".." not in file.parts and (here / file).exists():
                (there / file).parent.mkdir(parents=True, exist_ok=True)
                (there / file).symlink_to(here / file)
    return folder / "bin" / "python"


@pytest.mark.slow
def test_adds_no_third_party_package_to_plain_airflow(wheel: Path, tmp_path: Path) -> None:
    python = plain_airflow(tmp_path / "venv")
    env = {"AIRFLOW_HOME": str(tmp_path / "airflow"), "PYTHONPATH": "", "PIP_NO_COMPILE": "1"}

    def pip(*arguments: str | Path) -> str:
        return run(sys.executable, "-m", "pip", "--python", python, *arguments, **env)

    plain = set(pip("freeze").splitlines())
    assert len(plain) == len(PINS.read_text().splitlines())
    pip("install", "--quiet", "--no-index", wheel)
    after = set(pip("freeze").splitlines())
    assert {line.partition(" @ ")[0] for line in after - plain} == {"airflow-provider-bitrix24"}
    assert plain < after
    assert "No broken requirements found." in pip("check")

    commands = (
        ["providers", "list", "--output", "json"],
        ["providers", "get", "airflow-provider-bitrix24", "--full"],
        ["providers", "hooks", "--output", "json"],
    )
    providers, described, hooks = printed_json(run(python, "-c", AIRFLOW, json.dumps(commands), **env))
    (ours,) = [row for row in json.loads(providers) if row["package_name"] == "airflow-provider-bitrix24"]
    assert ours["version"] == airflow_provider_bitrix24.__version__
    assert "bitrix24" in described
    hooks = json.loads(hooks)
    assert [row["package_name"] for row in hooks if row["connection_type"] == "bitrix24"] == [
        "airflow-provider-bitrix24"
    ]
    assert "journal" in run(tmp_path / "venv" / "bin" / "bitrix24-airflow", "--help", **env)
