"""The captain's side of a mesh: which one, keys for ships, and nothing left of it after a sink.

::

    choice.py   whether a voyage's ships join a tailnet, and what must be set for it
    api.py      Tailscale's API: keys and devices; its errors say what to do
    record.py   what a ship's joining left to take away, on disk before it is made
    life.py     mint a key, forget it, take everything away
"""

from ocaptain.mesh.api import MeshError, Refused, TailscaleClient
from ocaptain.mesh.choice import Mesh, Tailnet, choose_mesh, tailnet_of
from ocaptain.mesh.life import check_access, joined, mint, remove_devices
from ocaptain.mesh.record import Records

__all__ = [
    "Mesh",
    "MeshError",
    "Records",
    "Refused",
    "Tailnet",
    "TailscaleClient",
    "check_access",
    "choose_mesh",
    "joined",
    "mint",
    "remove_devices",
    "tailnet_of",
]
