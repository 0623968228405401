"""A discrete-event simulator that runs the production balancer and policies in virtual time."""
