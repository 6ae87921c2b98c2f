"""One module per vendor or engine, each behind a port of `pommai.relay.ports`."""
