"""Where turns are remembered, behind the `Store` port."""
