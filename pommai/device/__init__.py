"""The toy's side: state machine, button, lights, sound and the uplink to the relay."""
