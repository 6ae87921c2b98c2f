"""What the toy decides: pure, without clock, disk or network."""
