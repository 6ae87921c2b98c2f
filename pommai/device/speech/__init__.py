"""What goes into the microphone and comes out of the speaker."""
