"""The `pommai` command line. Commands import lazily, so that `--help` stays instant."""
