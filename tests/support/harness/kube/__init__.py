"""A real Kubernetes API server for tests: etcd, kube-apiserver, endpointslice controller, pods.

Needs the binaries of ``interop/kube/build`` and the addresses of ``interop/private_network``.
"""
