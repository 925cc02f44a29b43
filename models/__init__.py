"""Code that trains the built-in dual encoder; importing it does nothing."""
