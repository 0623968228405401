// Modules of which only the resource definitions are used: nothing of them is compiled.
module trimtab.dev/interop/deploy/definitions

go 1.26.0

require (
	github.com/cert-manager/cert-manager v1.21.2
	github.com/prometheus-operator/prometheus-operator v0.85.0
)
