"""Agent ``command``: a shell line."""
