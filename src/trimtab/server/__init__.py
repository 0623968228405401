"""For the servers that users run: load reports, warm-up, drain."""
