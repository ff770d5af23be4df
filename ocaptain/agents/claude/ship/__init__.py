"""What of agent ``claude`` travels to ships beside its stream: plain Python of its own."""
