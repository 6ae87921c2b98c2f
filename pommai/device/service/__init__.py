"""What makes a toy of the parts, and lets others ask it."""
