"""The captain's side of a mesh: choosing it, keys for ships, and removing everything after a sink.

::

    choice.py   whether a voyage's ships join a tailnet, and what must be set for it
    api.py      Tailscale's API: keys and devices; its errors say what to do
    record.py   what must be removed of each ship, recorded on disk before it is created
    life.py     mint keys, record joined devices, remove everything
"""

from ocaptain.mesh.api import MeshError, Refused, TailscaleClient
from ocaptain.mesh.choice import Mesh, Tailnet, choose_mesh, tailnet_of
from ocaptain.mesh.life import count_devices, mint_key, record_joined, remove_devices
from ocaptain.mesh.record import MeshRecords

__all__ = [
    "Mesh",
    "MeshError",
    "MeshRecords",
    "Refused",
    "Tailnet",
    "TailscaleClient",
    "choose_mesh",
    "count_devices",
    "mint_key",
    "record_joined",
    "remove_devices",
    "tailnet_of",
]
