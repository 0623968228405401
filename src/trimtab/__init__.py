"""trimtab: per-request load balancing for Kubernetes services."""
