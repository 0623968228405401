// kubectl, from its own library: k8s.io/kubectl has no main package.
package main

import (
	"os"

	"k8s.io/kubectl/pkg/cmd"

	_ "k8s.io/client-go/plugin/pkg/client/auth" // kubeconfig files may name any of them
)

func main() {
	if err := cmd.NewDefaultKubectlCommand().Execute(); err != nil {
		os.Exit(1)
	}
}
