"""The tools that read the deployment files accept them."""

import json
import re
import stat
import subprocess
import sys
from pathlib import Path

import compose_spec
import pytest

from tests.deployment import KUBECTL, KUBERNETES, OVERLAYS, compose, compose_file, dotenv, rendered
from tests.processes import ROOT

BIN = Path(sys.executable).parent
needs_kubectl = pytest.mark.skipif(
    KUBECTL is None, reason="kubectl is not installed (Debian: kubernetes-client)"
)


def run(*command: object, **options: object) -> "subprocess.CompletedProcess[str]":
    argv = [str(word) for word in command]
    return subprocess.run(argv, check=False, capture_output=True, text=True, **options)  # type: ignore[call-overload,no-any-return]  # any option of subprocess.run


@pytest.mark.parametrize("demo", [False, True], ids=["plain", "demo"])
def test_the_compose_specification_knows_every_field(demo: bool) -> None:
    # Docker accepts a tag beside a digest, but this parser doesn't.
    document = re.sub(r":[\w.]+@", "@", json.dumps(compose_file(dotenv(demo=demo))))
    compose_spec.PyCompose.from_json(document)
    with pytest.raises(ValueError, match="healthchek"):
        compose_spec.PyCompose.from_json(document.replace("healthcheck", "healthchek", 1))


def test_the_dockerfile_has_no_finding() -> None:
    done = run(BIN / "hadolint", "--no-color", "--failure-threshold", "style", ROOT / "Dockerfile")
    assert (done.returncode, done.stdout) == (0, "")


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubernetes_knows_every_field(overlay: str, tmp_path: Path) -> None:
    """kubectl renders the overlay, and each of its objects follows its schema strictly."""
    kinds = [one["kind"] for one in rendered(overlay)]
    assert {"Namespace", "ConfigMap", "Deployment", "NetworkPolicy"} <= set(kinds)
    file = tmp_path / "objects.yaml"
    file.write_text(run(KUBECTL, "kustomize", KUBERNETES / "overlays" / overlay).stdout)
    done = run(BIN / "kubernetes-validate", "--strict", file)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    ours = [line for line in said.splitlines() if line.startswith("WARN")]
    assert all("keda.sh/" in line for line in ours), said  # tests/unit has their schema


@needs_kubectl
def test_overlays_change_the_objects_that_they_name() -> None:
    """Patches and replacements reach their objects."""
    by_name = {(one["kind"], one["metadata"]["name"]): one for one in rendered("production")}
    for queue in ("plan", "fetch", "backfill", "seal"):
        assert "replicas" not in by_name["Deployment", queue]["spec"]
    annotations = by_name["ServiceAccount", "pagetrail"]["metadata"]["annotations"]
    assert "eks.amazonaws.com/role-arn" in annotations
    signer = by_name["ServiceAccount", "pagetrail-signer"]["metadata"]["annotations"]
    assert signer.keys() == annotations.keys()
    assert signer != annotations
    images = {
        one["spec"]["template"]["spec"]["containers"][0]["image"]
        for one in by_name.values()
        if one["kind"] == "Deployment"
    }
    assert len(images) == 1
    assert "@sha256:" in images.pop()


def test_secrets_are_made_once_and_fit_together(tmp_path: Path) -> None:
    """Every file that compose needs is there, and a second run changes none."""
    directory = tmp_path / "secrets"
    first = run(ROOT / "deploy" / "make-secrets", directory, "127.0.0.1:7000")
    assert first.returncode == 0, first.stderr
    made = {path.name: path.read_text() for path in directory.iterdir()}
    assert {name for one in compose().values() for name in one.secrets} <= set(made)
    password = made["redis.conf"].removeprefix("requirepass ").strip()
    assert made["PAGETRAIL_REDIS_URL"] == f"redis://:{password}@127.0.0.1:7000/0\n"
    (identity,) = json.loads(made["s3.json"])["identities"]
    assert identity["credentials"] == [
        {
            "accessKey": made["AWS_ACCESS_KEY_ID"].strip(),
            "secretKey": made["AWS_SECRET_ACCESS_KEY"].strip(),
        }
    ]
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert run(ROOT / "deploy" / "make-secrets", directory, "elsewhere:1").returncode == 0
    assert made == {path.name: path.read_text() for path in directory.iterdir()}
