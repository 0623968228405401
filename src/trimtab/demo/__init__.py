"""The whole system on one machine, without Kubernetes: ``trimtab demo``.

Real gRPC servers, real channels and the real control plane, each in a process of its own. The same
requests are sent four times, each time through another kind of channel.
"""
