"""A real toy and a real relay, and everything that can come between them."""
