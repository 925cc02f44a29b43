"""Scripts of the Makefile. They need nothing but Python itself."""
