"""Voyages on this machine: their directories, and the steps from preparation to the end.

::

    home.py      the directory of all voyages; finds one by a prefix of its id
    source.py    the repository that a voyage starts from
    prepare.py   check everything, then make directory, repository and ledger
    launch.py    record which ships were built, start the captain
    wait.py      wait for the end of a voyage
    rescue.py    first half of a sink: fetch every ship's work
    sink.py      second half of a sink: prove that nothing is left
    roles.py     which roles build a ship
    doctor.py    check what a voyage needs of this machine
    sweep.py     find leftover ships

Import from these: a command that only reads a voyage must not load the code that sails one.
"""
