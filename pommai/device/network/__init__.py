"""The toy's end of the wire."""
