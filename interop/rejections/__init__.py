"""What xDS clients reject: bad resources, a control plane that serves them, what was observed."""
