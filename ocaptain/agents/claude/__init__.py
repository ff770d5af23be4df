"""Agent ``claude``: Claude Code."""
