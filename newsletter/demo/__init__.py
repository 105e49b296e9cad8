"""What `make demo` needs and production does not: servers of its own, a local mail server, a mailbox page."""
