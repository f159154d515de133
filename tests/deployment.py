"""Reads the deployment files as data: which programs run, with which environment, secrets and probes."""

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import yaml
from dotenv import dotenv_values

from tests.processes import ROOT

KUBERNETES = ROOT / "k8s"
OVERLAYS = ("small", "production", "demo")
KUBECTL = shutil.which("kubectl")
_VARIABLE = re.compile(r"\$\$|\$\{(\w+)(?::?-([^}]*))?\}")
Object = dict[str, Any]


@dataclass(frozen=True)
class Program:
    """One container."""

    name: str
    image: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    secrets: frozenset[str]
    secrets_dir: str
    probes: Mapping[str, Any]
    grace_seconds: float
    raw: Mapping[str, Any] = field(repr=False)

    @property
    def queues(self) -> tuple[str, ...]:
        """Return the queues of a worker; nothing for another program."""
        if "--queues" not in self.argv:
            return ()
        return tuple(self.argv[self.argv.index("--queues") + 1].split(","))


def image_environment() -> dict[str, str]:
    """Return the environment that the Dockerfile sets for every process, without PATH."""
    text = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ").rpartition("\nFROM ")[2]
    pairs = [word for line in re.findall(r"^ENV (.*)$", text, re.M) for word in line.split()]
    return dict(pair.split("=", 1) for pair in pairs if not pair.startswith("PATH="))


def dotenv(*, demo: bool = False) -> dict[str, str]:
    """Return .env.example as Docker Compose reads it. With *demo*, the last two lines are uncommented."""
    text = (ROOT / ".env.example").read_text("utf-8")
    if demo:
        before, _, after = text.rpartition("# The demo:")
        text = before + after.replace("\n#", "\n").partition("\n")[2]
    values = dotenv_values(stream=StringIO(text), interpolate=False)
    return {name: value for name, value in values.items() if value is not None}


def compose_file(env: Mapping[str, str] | None = None) -> Object:
    """Return docker-compose.yml with its variables filled in from *env*."""
    given = env or {}

    def value(match: re.Match[str]) -> str:
        return "$" if match[0] == "$$" else (given.get(match[1]) or match[2] or "")

    def filled(part: Any) -> Any:
        if isinstance(part, dict):
            return {name: filled(each) for name, each in part.items()}
        if isinstance(part, list):
            return [filled(each) for each in part]
        return _VARIABLE.sub(value, part) if isinstance(part, str) else part

    document: Object = filled(yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8")))
    return document


def compose(env: Mapping[str, str] | None = None) -> dict[str, Program]:
    """Return the services of docker-compose.yml."""
    given = dotenv() if env is None else env
    programs = {}
    for name, service in compose_file(given)["services"].items():
        own = image_environment() if service["image"].startswith("pagetrail:") else {}
        from_file = given if "env_file" in service else {}
        programs[name] = Program(
            name=name,
            image=service["image"],
            argv=tuple(service.get("command", ())),
            env={**own, **from_file, **service.get("environment", {})},
            secrets=frozenset(service.get("secrets", ())),
            secrets_dir="/run/secrets",
            probes={"health": service.get("healthcheck", {}).get("test")},
            grace_seconds=float(service.get("stop_grace_period", "10s").removesuffix("s")),
            raw=service,
        )
    return programs


@cache
def rendered(overlay: str) -> tuple[Object, ...]:
    """Return the objects of an overlay as kubectl renders them."""
    assert KUBECTL
    command = [KUBECTL, "kustomize", str(KUBERNETES / "overlays" / overlay)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def files(kustomization: Path) -> Iterator[Path]:
    """Yield the files of a kustomization, also in the folders that it refers to."""
    document = yaml.safe_load((kustomization / "kustomization.yaml").read_text("utf-8"))
    for name in [*document.get("resources", ()), *document.get("components", ())]:
        path = (kustomization / name).resolve()
        if path.is_dir():
            yield from files(path)
        else:
            yield path


def objects(overlay: str) -> list[Object]:
    """Return the objects of an overlay as written, before any patch. This needs no tool."""
    paths = files(KUBERNETES / "overlays" / overlay)
    return [yaml.safe_load(path.read_text("utf-8")) for path in paths]


def settings(overlay: str) -> dict[str, str]:
    """Return the ConfigMap that an overlay generates."""
    values = dict(dotenv_values(KUBERNETES / "base" / "settings.env"))
    folders = {path.parent for path in files(KUBERNETES / "overlays" / overlay)}
    for folder in [*sorted(folders), KUBERNETES / "overlays" / overlay]:
        document = yaml.safe_load((folder / "kustomization.yaml").read_text("utf-8"))
        for generator in document.get("configMapGenerator", ()):
            values.update(literal.split("=", 1) for literal in generator.get("literals", ()))
    return {name: value or "" for name, value in values.items()}


def kubernetes(overlay: str, given: tuple[Object, ...] | None = None) -> dict[str, Program]:
    """Return the containers of an overlay, from its files or from *given*, its rendered objects."""
    programs = {}
    for found in given or objects(overlay):
        if "template" not in found.get("spec", {}):
            continue
        pod = found["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        own = image_environment() if "pagetrail" in container["image"] else {}
        shared = settings(overlay) if "envFrom" in container else {}
        extra = {entry["name"]: entry["value"] for entry in container.get("env", ())}
        programs[found["metadata"]["name"]] = Program(
            name=found["metadata"]["name"],
            image=container["image"],
            argv=(*container["command"], *container.get("args", ())),
            env={**own, **shared, **extra},
            secrets=frozenset(_secrets(pod)),
            secrets_dir=next(
                mount["mountPath"]
                for mount in container["volumeMounts"]
                if mount["name"] == "secrets"
            ),
            probes={
                kind: container[f"{kind}Probe"]
                for kind in ("startup", "liveness", "readiness")
                if f"{kind}Probe" in container
            },
            grace_seconds=pod.get("terminationGracePeriodSeconds", 30),
            raw=found,
        )
    return programs


def _secrets(pod: Object) -> Iterator[str]:
    """Yield the secret files of a pod. Those of pagetrail-storage are the keys of storage."""
    for volume in pod["volumes"]:
        for source in volume.get("projected", {}).get("sources", ()):
            if source["secret"]["name"] == "pagetrail-storage":
                yield from ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
            yield from (item["path"] for item in source["secret"].get("items", ()))
