"""The directory of the Ansible content: in the wheel, else the checkout."""

from __future__ import annotations

from pathlib import Path


def content_root() -> Path:
    """Return the directory that holds ``ansible.cfg``, ``playbooks/``, ``roles/`` and ``plugins/``."""
    package = Path(__file__).resolve().parent.parent
    packaged = package / "_ansible"
    return packaged if packaged.is_dir() else package.parent
