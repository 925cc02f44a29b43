"""Measurements as code. Each prints its figures with the machine and the command that made them."""
