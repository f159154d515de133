"""The deployment files agree with the code and with each other."""

import re
import tomllib
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.deployment import (
    KUBERNETES,
    OVERLAYS,
    Program,
    compose,
    compose_file,
    files,
    image_environment,
    kubernetes,
    objects,
    settings,
)
from tests.processes import ROOT
from workers.app import QUEUES, VISIBILITY_SECONDS
from workers.machine.fleet import queues_of
from workers.settings.environment import LARGE_PAGE_MB, Settings, variables
from workers.settings.secret_files import SECRETS_DIR

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
WORKERS = ("worker", "worker-due")
WORKING = tuple(queue for queue in QUEUES if queue != "sign")
"""The queues whose workers have the vault keys and may be many."""
WRITTEN = ("docker-compose.yml", ".env.example", "Dockerfile", "deploy", "k8s")
REQUIRED = {"PAGETRAIL_REDIS_URL", "PAGETRAIL_STORAGE_URL"}
ALL_OF_THEM = REQUIRED | {"PAGETRAIL_VAULT_KEYS"}
every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


def of_kind(overlay: str, *kinds: str) -> dict[str, Mapping[str, Any]]:
    return {one["metadata"]["name"]: one for one in objects(overlay) if one["kind"] in kinds}


def of_pagetrail(programs: Mapping[str, Program]) -> list[Program]:
    """Return the programs that read our settings."""
    return [one for one in programs.values() if one.argv[:1] == ("celery",)]


def test_every_queue_has_workers_of_its_own_in_kubernetes() -> None:
    """A Deployment has the name of the one queue that it consumes, and no other program consumes queues."""
    consuming = {name: one.queues for name, one in kubernetes("production").items() if one.queues}
    assert consuming == {queue: (queue,) for queue in QUEUES}


def test_compose_divides_the_queues_as_one_machine_does() -> None:
    """One service never takes backfill. The service that is scaled takes everything."""
    programs = compose()
    consuming = [",".join(programs[name].queues) for name in ("worker-due", "worker")]
    assert consuming == [queues_of(number, 2).removesuffix(",sign") for number in (1, 2)]
    assert programs["signer"].queues == ("sign",)
    assert {queue for one in programs.values() for queue in one.queues} == set(QUEUES)


def test_a_service_can_be_scaled() -> None:
    """A worker uses nothing exclusively that a second one needs too."""
    for name in WORKERS:
        assert not {"ports", "container_name", "hostname"} & set(compose()[name].raw)


def test_every_queue_is_scaled_by_its_own_list() -> None:
    """KEDA reads the list that Celery uses (the key prefix and the queue), and never scales to zero."""
    scaled = of_kind("production", "ScaledObject")
    assert set(scaled) == set(WORKING)
    prefix = settings("production")["PAGETRAIL_KEY_PREFIX"]
    for queue, found in scaled.items():
        spec = found["spec"]
        assert spec["scaleTargetRef"]["name"] == queue
        lists = [one["metadata"] for one in spec["triggers"] if one["type"] == "redis"]
        assert [one["listName"] for one in lists] == [f"{prefix}:{queue}"]
        assert 1 <= spec["minReplicaCount"] < spec["maxReplicaCount"]


def test_every_metric_that_scales_is_shown() -> None:
    """Each trigger on age uses metrics that docs/metrics.md has, for its own queue or its tick."""
    shown = (ROOT / "docs/metrics.md").read_text("utf-8")
    for queue, found in of_kind("production", "ScaledObject").items():
        triggers = [one for one in found["spec"]["triggers"] if one["type"] == "prometheus"]
        (query,) = [one["metadata"]["query"] for one in triggers]
        assert all(f"`{name}`" in shown for name in re.findall(r"pagetrail_\w+", query))
        assert set(re.findall(r'queue="(\w+)"', query)) == ({queue} - {"plan"})


def test_prometheus_asks_every_process_that_answers() -> None:
    """In compose a service's name gives all its containers, and every mounted file exists."""
    config = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text("utf-8"))
    (asked,) = config["scrape_configs"][0]["dns_sd_configs"]
    programs = compose()
    answering = {one.name for one in of_pagetrail(programs) if one.name != "flower"}
    assert set(asked["names"]) == answering
    assert {programs[name].env["PAGETRAIL_METRICS_PORT"] for name in answering} == {
        str(asked["port"])
    }
    for program in programs.values():
        for volume in program.raw.get("volumes", ()):
            if isinstance(volume, str) and volume.startswith("./"):
                assert (ROOT / volume.partition(":")[0]).is_file()


def test_the_objects_for_keda_have_known_fields() -> None:
    """KEDA silently ignores a misspelt field. These are the fields that we use, of KEDA 2.17 or newer."""
    schema = yaml.safe_load((ROOT / "tests/unit/keda.schema.yaml").read_text("utf-8"))
    found = of_kind("production", "ScaledObject", "TriggerAuthentication")
    for one in found.values():
        Draft202012Validator(schema[one["kind"]]).validate(one)
    used = {
        trigger["authenticationRef"]["name"]
        for one in found.values()
        for trigger in one["spec"].get("triggers", ())
        if "authenticationRef" in trigger
    }
    assert used <= {name for name, one in found.items() if one["kind"] == "TriggerAuthentication"}


def test_every_name_of_ours_in_the_files_is_a_setting() -> None:
    """An unknown name would prevent the start, or be ignored."""
    for path in WRITTEN:
        for file in (ROOT / path).rglob("*") if (ROOT / path).is_dir() else [ROOT / path]:
            if file.is_file():
                found = set(re.findall(r"\bPAGETRAIL_[A-Z_]*[A-Z]\b", file.read_text("utf-8")))
                assert found <= set(variables()), file


def test_every_program_gets_the_settings_that_it_needs() -> None:
    """Redis, storage and vault keys come from outside the container. Secrets are files, never variables."""
    stacks = [compose(), *map(kubernetes, OVERLAYS)]
    for program in (one for programs in stacks for one in of_pagetrail(programs)):
        told = program.secrets | set(program.env)
        assert "PAGETRAIL_REDIS_URL" in program.secrets
        assert not {"PAGETRAIL_REDIS_URL", "PAGETRAIL_VAULT_KEYS"} & set(program.env)
        assert ("signer.pem" in program.secrets) == (program.queues == ("sign",))
        assert ("PAGETRAIL_SIGNER_URI" in program.env) == (program.queues == ("sign",))
        assert program.env.get(SECRETS_DIR, "/run/secrets") == program.secrets_dir
        if program.name == "flower":
            assert "PAGETRAIL_FLOWER_PASSWORD" in program.secrets
        else:
            needed = {"PAGETRAIL_VAULT_KEYS"} if program.queues != ("sign",) else set()
            assert told & ALL_OF_THEM == REQUIRED | needed
            assert program.env["PAGETRAIL_METRICS_HOST"] == "0.0.0.0"  # noqa: S104 - in a container
            assert program.env["PAGETRAIL_METRICS_PORT"] == "9464"


@every_overlay
def test_a_worker_is_asked_for_its_own_health(overlay: str) -> None:
    """Probes check the age of files, Redis and storage. They never send a message through Redis."""
    programs = kubernetes(overlay)
    words = ("live", "ready", "signs")
    live, ready, signs = (["python", "-m", "workers.health", word] for word in words)
    for name in QUEUES:
        probes = {kind: one["exec"]["command"] for kind, one in programs[name].probes.items()}
        works = signs if name == "sign" else ready
        assert probes == {"startup": live, "liveness": live, "readiness": works}
    assert programs["beat"].probes["liveness"]["exec"]["command"] == live
    for program in programs.values():
        assert "liveness" in program.probes
    for name in WORKERS:
        assert compose()[name].probes["health"] == ["CMD", *ready]
    assert compose()["signer"].probes["health"] == ["CMD", *signs]
    assert compose()["beat"].probes["health"] == ["CMD", *live]


def test_a_worker_gets_the_time_to_finish_its_pages() -> None:
    """A worker finishes its tasks before it is killed, and no page takes as long as a message stays hidden."""
    for programs in (compose(), *map(kubernetes, OVERLAYS)):
        for program in programs.values():
            if program.queues:
                assert program.grace_seconds >= VISIBILITY_SECONDS + 5


def test_a_worker_may_take_the_memory_that_pages_can_take() -> None:
    """The limit fits the setting, one large page and the process itself. A lower limit would kill a busy worker."""
    needed = Settings.model_fields["pages_memory_mb"].default + LARGE_PAGE_MB + 150
    units = {"Gi": 1024, "g": 1024, "Mi": 1, "m": 1}
    limits = [compose()[name].raw["mem_limit"] for name in WORKERS]
    for overlay in OVERLAYS:
        for program in kubernetes(overlay).values():
            if {"fetch", "backfill", "seal"} & set(program.queues):
                (container,) = program.raw["spec"]["template"]["spec"]["containers"]
                limits.append(container["resources"]["limits"]["memory"])
    assert len(limits) == len(WORKERS) + 3 * len(OVERLAYS)
    for limit in limits:
        amount, unit = re.fullmatch(r"(\d+)(\D+)", limit).groups()  # type: ignore[union-attr]  # or the test fails
        assert int(amount) * units[unit] >= needed


@every_overlay
@pytest.mark.parametrize("name", ["beat", "sign"])
def test_there_is_one_beat_and_one_signer_and_the_old_one_ends_first(
    overlay: str, name: str
) -> None:
    spec = of_kind(overlay, "Deployment")[name]["spec"]
    assert (spec["replicas"], spec["strategy"]["type"]) == (1, "Recreate")


@every_overlay
def test_the_signer_is_a_pod_of_its_own(overlay: str) -> None:
    """No other pod has its account, its key or its store, and what is allowed to workers is not allowed to it."""
    own = {"serviceAccountName": "pagetrail-signer", "claim": "heads", "secret": "pagetrail-signer"}
    for name, program in kubernetes(overlay).items():
        pod = program.raw["spec"]["template"]["spec"]
        volumes = pod["volumes"]
        claims = {
            one["persistentVolumeClaim"]["claimName"]
            for one in volumes
            if "persistentVolumeClaim" in one
        }
        secrets = {
            source["secret"]["name"]
            for one in volumes
            for source in one.get("projected", {}).get("sources", ())
        }
        found = (
            pod.get("serviceAccountName") == own["serviceAccountName"],
            own["claim"] in claims,
            own["secret"] in secrets,
        )
        assert found == (name == "sign",) * 3
    policies = of_kind(overlay, "NetworkPolicy")
    (labels,) = [policies["allow-signer"]["spec"]["podSelector"]["matchLabels"]]
    assert labels == {"app.kubernetes.io/component": "signer"}
    (https,) = policies["allow-https"]["spec"]["podSelector"]["matchExpressions"]
    assert "signer" not in https["values"]


@every_overlay
def test_pods_are_closed(overlay: str) -> None:
    """Each pod passes the restricted standard, only writes to volumes, and has no token."""
    for name, program in kubernetes(overlay).items():
        pod = program.raw["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["enableServiceLinks"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] >= 10_000, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name
        assert "memory" in container["resources"]["limits"], name


def test_services_are_closed() -> None:
    """Each container has a read-only file system, only necessary rights, and no port beyond this machine."""
    for name, program in compose().items():
        service = program.raw
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "mem_limit" in service, name
        assert program.probes["health"], name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        if name != "storage":  # its image changes the user by itself
            assert int(service["user"].partition(":")[0]) >= 10_000 or name == "grafana", name


def test_images_are_the_same_everywhere_and_can_not_move() -> None:
    """Our image has the project's version, and other images have a digest."""
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    assert f'image.version="{VERSION}"' in dockerfile
    assert re.search(r"^ARG PYTHON=python:[\w.-]+@sha256:[0-9a-f]{64}$", dockerfile, re.M)
    assert re.findall(r"^FROM (\S+)", dockerfile, re.M) == ["${PYTHON}"] * 2
    in_compose = {name: program.image for name, program in compose().items()}
    in_kubernetes = {name: program.image for name, program in kubernetes("demo").items()}
    for image in {*in_compose.values(), *in_kubernetes.values()}:
        assert image == f"pagetrail:{VERSION}" or re.search(r":[\w.]+@sha256:[0-9a-f]{64}$", image)
    for name in ("redis", "storage", "simulator", "beat", "flower"):
        assert in_compose[name] == in_kubernetes[name]


def pairs(words: tuple[str, ...]) -> list[str]:
    return [" ".join(pair) for pair in pairwise(words)]


def test_compose_and_kubernetes_run_the_same_commands() -> None:
    """Programs in both are started in the same way. Workers only differ in their queues."""
    here, there = compose(), kubernetes("demo")
    for name in ("redis", "beat", "flower", "simulator"):
        assert here[name].argv == there[name].argv
    assert {"--appendonly yes", "--maxmemory-policy noeviction"} <= set(pairs(here["redis"].argv))
    assert ("weed", *here["storage"].argv) == there["storage"].argv
    assert {here[name].argv[:-1] for name in WORKERS} == {there[name].argv[:-1] for name in QUEUES}
    assert image_environment()["PAGETRAIL_DATA_DIR"] in str(here["flower"].raw["volumes"])


def test_deployments_of_workers_differ_where_they_should() -> None:
    """A change to one of the four files must also be made in the others."""

    def shape(queue: str) -> Any:
        text = (KUBERNETES / "base" / f"{queue}.yaml").read_text("utf-8")
        document = yaml.safe_load(re.sub(rf"\b{queue}\b", "QUEUE", text))
        pod = document["spec"]["template"]["spec"]
        pod.pop("terminationGracePeriodSeconds")
        pod["volumes"][0]["emptyDir"].pop("sizeLimit")
        pod["containers"][0].pop("resources")
        pod["containers"][0].pop("env", None)
        return document

    first, *others = map(shape, WORKING)
    assert others == [first] * 3


@every_overlay
def test_policies_and_services_point_at_pods_that_are_there(overlay: str) -> None:
    """A selector without a match would silently allow nothing."""
    pods = [
        program.raw["spec"]["template"]["metadata"]["labels"]
        for program in kubernetes(overlay).values()
    ]

    def matches(selector: Mapping[str, Any]) -> bool:
        pairs = selector.get("matchLabels", {}).items()
        one_of = [(each["key"], each["values"]) for each in selector.get("matchExpressions", ())]
        return any(
            all(pod.get(name) == value for name, value in pairs)
            and all(pod.get(name) in values for name, values in one_of)
            for pod in pods
        )

    for name, found in of_kind(overlay, "NetworkPolicy").items():
        assert matches(found["spec"]["podSelector"]), name
        for rule in [*found["spec"].get("ingress", ()), *found["spec"].get("egress", ())]:
            for peer in rule.get("from", rule.get("to", ())):
                if "podSelector" in peer and "namespaceSelector" not in peer:
                    assert matches(peer["podSelector"]), name
    for name, found in of_kind(overlay, "Service").items():
        assert matches({"matchLabels": found["spec"]["selector"]}), name
    for name, found in of_kind(overlay, "PodDisruptionBudget").items():
        assert matches(found["spec"]["selector"]), name
    assert of_kind(overlay, "NetworkPolicy")["deny-all"]["spec"] == {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
    }


def test_each_object_has_a_file_and_each_file_a_kustomization() -> None:
    """No file is left out of the kustomizations."""
    used = {path for overlay in OVERLAYS for path in files(KUBERNETES / "overlays" / overlay)}
    apart = {"kustomization.yaml", "secret.example.yaml", "identity.yaml", "signer-identity.yaml"}
    there = {path for path in KUBERNETES.rglob("*.yaml") if path.name not in apart}
    assert used == there
    for path in used:
        assert len(list(yaml.safe_load_all(path.read_text("utf-8")))) == 1


def test_the_example_of_the_secret_has_the_names_that_pods_read() -> None:
    example = yaml.safe_load((KUBERNETES / "secret.example.yaml").read_text("utf-8"))
    read = {name for one in of_pagetrail(kubernetes("production")) for name in one.secrets}
    assert set(example["stringData"]) == {name for name in read if name.startswith("PAGETRAIL_")}


def test_every_secret_of_compose_is_a_file_of_its_name() -> None:
    document = compose_file()
    declared = {name: one["file"] for name, one in document["secrets"].items()}
    assert declared == {name: f"secrets/{name}" for name in declared}
    assert set(declared) == {name for one in compose().values() for name in one.secrets}


def test_everything_that_the_guide_names_exists() -> None:
    """The files, folders, services and Deployments that docs/deploy.md names exist."""
    guide = (ROOT / "docs/deploy.md").read_text("utf-8")
    for path in set(re.findall(r"\b(?:deploy|k8s|tests|observability)/[\w/*-]+(?:\.\w+)*", guide)):
        if not path.startswith(
            ("deploy/plan", "deploy/seal", "deploy/sign")
        ):  # kubectl's Deployments
            assert list(ROOT.glob(path)), path
    assert set(re.findall(r"compose exec (\S+)", guide)) <= set(compose())
    assert set(re.findall(r"-it deploy/(\w+)", guide)) <= set(kubernetes("small"))
    assert set(re.findall(r"--profile (\w+)", guide)) == {"demo", "watch"}
