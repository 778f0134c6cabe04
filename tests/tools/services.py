"""Postgres, Redis and MariaDB of our own: on loopback and free ports, in folders that go away again.

`python tests/tools/services.py install` installs what is missing, on Debian and as root.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.tools.local_airflow import Processes, free_port

if TYPE_CHECKING:
    from collections.abc import Sequence

PACKAGES: Final = {
    "postgres": "postgresql",
    "redis-server": "redis-server",
    "mariadbd": "mariadb-server-core",
    "my_print_defaults": "mariadb-client-core",  # mariadb-install-db asks it
}
"""Program -> Debian package."""
NAME: Final = "journal"
"""Every database server has a database of this name for tests, and a user of this name who owns it."""
SECONDS: Final = 600  # for a server to answer


def find(program: str) -> str | None:
    """Return where a program is; Debian keeps Postgres' own in a folder for each version."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None or not Path(found).is_absolute():
        versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
        return str(versions[-1]) if versions else None
    return found


def program(name: str) -> str:
    """Return where a program is, or say what to do."""
    found = find(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed: run `python -m tests.tools.services install` as root.")
    return found


def install() -> None:
    """Install the Debian packages whose programs are missing; their own services are not needed."""
    missing = [package for name, package in PACKAGES.items() if find(name) is None]
    if missing:
        print(f"Installing {', '.join(missing)}", flush=True)
        env = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}  # 1: services are not started
        quiet = ["apt-get", "-qq"]
        subprocess.run([*quiet, "update"], env=env, check=True, stdout=subprocess.DEVNULL)
        command = [*quiet, "install", "-y", "--no-install-recommends", *missing]
        subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)


def airflow_on(port: int, database: str) -> dict[str, str]:
    """Return the environment of an Airflow that keeps its own tables in Postgres.

    On SQLite its parts get "database is locked" as soon as they are really busy, and end.
    """
    url = f"postgresql+{{}}://{NAME}@127.0.0.1:{port}/{database}"
    return {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url.format("psycopg2"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": url.format("asyncpg"),
    }


class Services:
    """Servers among other processes; the folder of their data is removed by `remove`.

    :param processes: which ends them.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        # Not in pytest's folder, which only its owner may enter: Postgres refuses to run as root.
        self._data = Path(tempfile.mkdtemp(prefix="bitrix24-services-"))
        self._data.chmod(0o755)

    def remove(self) -> None:
        """Remove all data; the servers have ended."""
        shutil.rmtree(self._data)

    def redis(self) -> str:
        """Start Redis; return its URL."""
        port = free_port()
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._data)]
        self._processes.start("redis", [program("redis-server"), *options], os.environ)
        self._wait("redis", [program("redis-cli"), "-p", str(port), "ping"])
        return f"redis://127.0.0.1:{port}"

    def postgres(self, *databases: str) -> int:
        """Start Postgres with these databases beside the one for tests; return its port."""
        port, data = free_port(), self._data / "postgres"
        data.mkdir()
        as_user = self._unprivileged(data)
        self._run([*as_user, program("initdb"), "-D", str(data), "-A", "trust", "-U", NAME, "--no-sync"])
        options = ["-p", str(port), "-k", str(data), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        self._processes.start("postgres", [*as_user, program("postgres"), "-D", str(data), *options], os.environ)
        address = ["-h", "127.0.0.1", "-p", str(port), "-U", NAME]
        self._wait("postgres", [program("pg_isready"), *address, "-d", "postgres"])
        for database in (NAME, *databases):
            self._run([program("createdb"), *address, database])
        return port

    def mariadb(self) -> int:
        """Start MariaDB; return its port."""
        port, data = free_port(), self._data / "mariadb"
        user = f"--user={pwd.getpwuid(os.geteuid()).pw_name}"
        sql = self._data / "mariadb.sql"
        sql.write_text(
            f"CREATE DATABASE {NAME} CHARACTER SET utf8mb4;\n"
            f"CREATE USER {NAME}@'127.0.0.1' IDENTIFIED BY '{NAME}';\n"
            f"GRANT ALL ON {NAME}.* TO {NAME}@'127.0.0.1';\n"
        )
        defaults = "--no-defaults"
        self._run(
            [program("mariadb-install-db"), defaults, f"--datadir={data}", user, "--skip-test-db",
             "--auth-root-authentication-method=normal"]
        )  # fmt: skip
        options = [f"--datadir={data}", user, f"--port={port}", "--bind-address=127.0.0.1", "--skip-name-resolve"]
        options += [f"--socket={data}/socket", f"--pid-file={data}/pid", f"--init-file={sql}"]
        self._processes.start("mariadb", [program("mariadbd"), defaults, *options], os.environ)
        log = self._processes.logs / "mariadb.log"
        self._wait("mariadb", ["grep", "-q", "ready for connections", str(log)])
        return port

    def _unprivileged(self, folder: Path) -> list[str]:
        """What has to stand before a command that root must not run, in a folder that is given away for it."""
        if os.geteuid() != 0:
            return []
        shutil.chown(folder, "postgres", "postgres")
        return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]

    @staticmethod
    def _run(command: Sequence[str]) -> None:
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", stdin=subprocess.DEVNULL)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")

    def _wait(self, name: str, question: Sequence[str]) -> None:
        deadline = time.monotonic() + SECONDS
        while subprocess.run(question, capture_output=True, cwd="/").returncode:
            self._processes.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} did not answer within {SECONDS} s")
            time.sleep(0.2)


if __name__ == "__main__":
    if sys.argv[1:] != ["install"]:
        raise SystemExit("Usage: python -m tests.tools.services install")
    install()
