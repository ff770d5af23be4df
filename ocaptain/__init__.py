"""ocaptain: sail fleets of autonomous coding agents."""

__version__ = "0.1.0"
