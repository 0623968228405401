"""What the tests' servers offer. Without trimtab: earlier versions of it run beside this."""

SERVICE = "trimtab.test.Echo"
METHOD = "Who"
