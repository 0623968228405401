"""What ``trimtab serve`` reads, from its options."""

from pathlib import Path

import pytest
import yaml

from trimtab.control.metrics import METRICS
from trimtab.control.sources import SourceOptions, named_sources
from trimtab.discovery.manifests import Manifests
from trimtab.errors import ConfigError
from trimtab.telemetry import Counters


def kubeconfig(path, *contexts):
    content = {
        "contexts": [{"name": c, "context": {"cluster": c}} for c in contexts],
        "clusters": [{"name": c, "cluster": {"server": f"http://{c}:1"}} for c in contexts],
        "current-context": contexts[0],
    }
    path.write_text(yaml.safe_dump(content))
    return str(path)


def made(options, environ=None):
    found = named_sources(options, environ or {})
    return {name: make(print, Counters(METRICS)) for name, make in found}


def regions(sources):
    return {name: source._fold._reader._region for name, source in sources.items()}


def servers(sources):
    return {name: source._access.server for name, source in sources.items()}


def test_manifests_are_files():
    (source,) = made(SourceOptions(manifests=Path("x"))).values()
    assert isinstance(source, Manifests)


def test_one_cluster_has_its_contexts_name_and_no_region(tmp_path):
    found = made(SourceOptions(kubeconfigs=[kubeconfig(tmp_path / "a", "staging")]))
    assert regions(found) == {"staging": ""}


def test_several_clusters_are_told_apart_by_name_and_region(tmp_path):
    file = kubeconfig(tmp_path / "a", "staging", "prod")
    found = made(SourceOptions(kubeconfigs=[f"east={file}", file], contexts=["prod", "staging"]))
    assert regions(found) == {"east": "east", "staging": "staging"}
    assert servers(found) == {"east": "http://prod:1", "staging": "http://staging:1"}


def test_contexts_alone_are_those_that_kubectl_knows(tmp_path):
    environ = {"KUBECONFIG": kubeconfig(tmp_path / "a", "staging", "prod")}
    assert set(made(SourceOptions(contexts=["prod", "staging"]), environ)) == {"prod", "staging"}


def test_a_file_with_an_equals_sign_in_its_folder_is_a_file(tmp_path):
    folder = tmp_path / "a=b"
    folder.mkdir()
    assert set(made(SourceOptions(kubeconfigs=[kubeconfig(folder / "c", "x")]))) == {"x"}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (SourceOptions(), "nothing to read endpoints from: give --in-cluster"),
        (
            SourceOptions(manifests=Path("x"), in_cluster=True),
            "--manifests and --in-cluster: give one",
        ),
        (SourceOptions(in_cluster=True), "KUBERNETES_SERVICE_HOST is not set"),
        (SourceOptions(manifests=Path("x"), namespaces=["shop"]), "--namespace and --selector"),
        (SourceOptions(kubeconfigs=["=x"]), "give FILE or NAME=FILE"),
        (SourceOptions(kubeconfigs=["/nowhere"]), "/nowhere: cannot be read: No such file"),
        (SourceOptions(kubeconfigs=["a"], contexts=["x", "y"]), "--context y: there are more"),
    ],
)
def test_what_can_not_be_meant_is_an_error_that_says_what_to_give(options, text):
    with pytest.raises(ConfigError) as error:
        named_sources(options, {})
    assert text in str(error.value)


def test_two_clusters_of_one_name_need_names(tmp_path):
    file = kubeconfig(tmp_path / "a", "admin")
    with pytest.raises(ConfigError, match="'admin' is the name of another cluster already"):
        named_sources(SourceOptions(kubeconfigs=[file, file]), {})
