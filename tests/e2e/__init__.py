"""The whole application, as people run it: commands, HTTP, and the page in a real browser."""
