"""Voyages on this machine: their directories and the steps of their life.

::

    home.py      where voyages are, finding one by a prefix of its id
    source.py    the repository that a voyage starts from
    prepare.py   check everything, then make directory, repository and ledger
    life.py      launch, wait, and the end of a sink
    rescue.py    the beginning of a sink: fetch every ship's work
    roles.py     which roles build a ship
    doctor.py    what a voyage needs of this machine
    sweep.py     ships that no voyage answers for

Import from these: a command that only looks at a voyage must not load what sails one.
"""
