"""Which sources ``trimtab serve`` reads, from what it was told."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trimtab.control.serve import MakeSource, NamedFactory
from trimtab.discovery import ReportProblem, Source
from trimtab.discovery.addresses import Network
from trimtab.discovery.kubernetes.access import Access
from trimtab.discovery.kubernetes.in_cluster import in_cluster, is_in_cluster
from trimtab.discovery.kubernetes.kubeconfig import load
from trimtab.discovery.kubernetes.source import Kubernetes
from trimtab.discovery.kubernetes.timing import Timing
from trimtab.discovery.manifests import Manifests
from trimtab.errors import ConfigError
from trimtab.telemetry import Counters

_CHOICES = (
    "give --in-cluster (in a pod), --kubeconfig FILE or --context NAME (a cluster from outside), or "
    "--manifests PATH (files)"
)


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What was asked for.

    Attributes:
        manifests: a file or directory.
        in_cluster: the cluster that this process runs in.
        kubeconfigs: ``FILE`` or ``NAME=FILE``, one per cluster; with contexts alone, the files that
            kubectl would read.
        contexts: one for each of ``kubeconfigs``, in their order; fewer leave the last ones at
            their current context.
        namespaces: which to read; none means all.
        selector: a label selector for Services.
        ranges: nothing outside of these is an endpoint; none: no such limit.
        hold_s: how long a mass loss that a list shows is not believed [s]; 0: not at all.
    """

    manifests: Path | None = None
    in_cluster: bool = False
    kubeconfigs: Sequence[str] = ()
    contexts: Sequence[str] = ()
    namespaces: Sequence[str] = ()
    selector: str = ""
    hold_s: float = 120.0
    ranges: tuple[Network, ...] = ()


def named_sources(
    options: SourceOptions, environ: Mapping[str, str] | None = None
) -> list[NamedFactory]:
    """The sources, by name.

    Raises:
        ConfigError: none or several kinds were asked for, or a cluster's access can't be read.
    """
    environ = os.environ if environ is None else environ
    outside = bool(options.kubeconfigs or options.contexts)
    asked = [
        flag
        for flag, given in (
            ("--manifests", options.manifests is not None),
            ("--in-cluster", options.in_cluster),
            ("--kubeconfig", outside),
        )
        if given
    ]
    if len(asked) > 1:
        raise ConfigError(f"{' and '.join(asked)}: give one of them; {_CHOICES}")
    if options.manifests is not None:
        if options.namespaces or options.selector:
            raise ConfigError(
                "--namespace and --selector choose in a cluster; of --manifests all is read"
            )
        return [("manifests", _manifests(options.manifests, options.ranges))]
    if options.in_cluster or (not asked and is_in_cluster(environ)):
        return _clusters({"kubernetes": in_cluster(environ)}, options)
    if not outside:
        raise ConfigError(f"nothing to read endpoints from: {_CHOICES}")
    return _clusters(_outside(options, environ), options)


def token_reviewer(
    options: SourceOptions, environ: Mapping[str, str] | None = None
) -> Access | None:
    """The API server that can say whose a token is: the only cluster that is read; else None.

    Raises:
        ConfigError: the cluster's access can't be read.
    """
    environ = os.environ if environ is None else environ
    if options.kubeconfigs or options.contexts:
        accesses = list(_outside(options, environ).values())
        return accesses[0] if len(accesses) == 1 else None
    if options.manifests is None and (options.in_cluster or is_in_cluster(environ)):
        return in_cluster(environ)
    return None


def _manifests(path: Path, ranges: tuple[Network, ...]) -> MakeSource:
    def make(report: ReportProblem, _counters: Counters) -> Source:
        return Manifests(path, report, ranges=ranges)

    return make


def _outside(options: SourceOptions, environ: Mapping[str, str]) -> dict[str, Access]:
    kubeconfigs = list(options.kubeconfigs)
    if len(options.contexts) > len(kubeconfigs) and kubeconfigs:
        raise ConfigError(
            f"--context {options.contexts[len(kubeconfigs)]}: there are more contexts than files; "
            "give --kubeconfig once for each"
        )
    if not kubeconfigs:
        kubeconfigs = [""] * len(options.contexts)
    found: dict[str, Access] = {}
    for i, text in enumerate(kubeconfigs):
        name, file = _split(text)
        context = options.contexts[i] if i < len(options.contexts) else None
        access = load(Path(file) if file else None, context, environ=environ)
        name = name or access.name
        if name in found:
            raise ConfigError(
                f"--kubeconfig {text or access.name}: {name!r} is the name of another cluster "
                "already; give NAME=FILE"
            )
        found[name] = access
    return found


def _split(text: str) -> tuple[str, str]:
    """``NAME=FILE``; without a name it is a file, whatever is in its path."""
    name, equals, file = text.partition("=")
    if not equals or "/" in name:
        return "", text
    if not name or not file:
        raise ConfigError(f"--kubeconfig {text!r}: give FILE or NAME=FILE")
    return name, file


def _clusters(accesses: Mapping[str, Access], options: SourceOptions) -> list[NamedFactory]:
    several = len(accesses) > 1
    return [
        (name, _kubernetes(name, access, name if several else "", options))
        for name, access in accesses.items()
    ]


def _kubernetes(name: str, access: Access, region: str, options: SourceOptions) -> MakeSource:
    def make(report: ReportProblem, counters: Counters) -> Source:
        return Kubernetes(
            access,
            report,
            region=region,
            ranges=options.ranges,
            namespaces=options.namespaces,
            selector=options.selector,
            counters=counters,
            label=name,
            timing=Timing(hold_s=options.hold_s),
        )

    return make
